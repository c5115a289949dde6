"""The option checker: every message, names, and the table of keys."""

from __future__ import annotations

import fnmatch
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import engine_common as common
import pytest
import torch
from option_mistakes import MORE, UNNAMED, WRONG, Wrong
from option_scan import read_keys

from paragon_archs.archs import create, variants
from paragon_archs.checkpoint import save_model
from paragon_archs.cli import basicsr
from paragon_archs.config.errors import MESSAGES
from paragon_archs.config.keys import KEYS
from paragon_archs.config.signatures import known_types
from paragon_archs.config.table import config_page
from paragon_archs.config.values import is_name, is_template

WITHOUT_OPTIONS = {"running", "no_file", "not_yaml", "not_text", "no_mapping"}


def test_every_message_is_tested() -> None:
    assert set(WRONG) | WITHOUT_OPTIONS == set(MESSAGES)


@pytest.mark.parametrize(
    ("message", "mistake"),
    [*WRONG.items(), *MORE],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_options_give_one_sentence(
    message: str,
    mistake: Wrong,
    here: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if message == "no_package" and importlib.util.find_spec("wandb"):
        pytest.skip("wandb is installed")
    monkeypatch.delenv("RANK", raising=False)
    (here / "empty" / "sub").mkdir(parents=True)
    shutil.copytree("data/hr", "more")
    shutil.copy("data/hr/0.png", "more/9.png")
    shutil.copytree("data/hr", "notes")
    Path("notes/Thumbs.db").write_bytes(b"no image")
    shutil.copytree("data/hr", "bad")
    Path("bad/0.png").write_bytes(b"no image")
    Path("nothing.txt").write_text("")
    Path("wrong.txt").write_text("0.png (32,32,3)\ngone.png (32,32,3)\n")
    save_model(create("ParagonSR", 2, num_feat=16, num_groups=1), "other.safetensors")
    few = {"num_feat": 8, "num_groups": 1, "num_blocks": 1}
    save_model(create("ParagonSR", 4, **few), "x4.safetensors")
    Path("cut.state").write_bytes(b"PK\x03\x04 cut off")
    changes, flags, parts = mistake
    torch.save({"iter": 1, "networks": {"net_g": {"a": torch.ones(1)}}}, "other.state")
    assert common.train(here, changes, *flags) == 2
    errors = [e for e in capfd.readouterr().err.splitlines() if e.startswith("error: ")]
    head = MESSAGES[message].split("{")[0]
    sentences = [e for e in errors if e.startswith(f"error: {head}")]
    assert sentences, errors
    for part in parts:
        assert any(part in sentence for sentence in sentences), (part, sentences)
    assert not Path("experiments").exists()


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        *((name, False) for name in UNNAMED),
        *(("Set5", True), ("2026-11-20", True), ("x.y_z", True), ("\u00e9", True)),
        ("DF2K+OST", True),  # of BasicSR's own option files
    ],
)
def test_names_are_parts_of_paths(name: str, fits: bool) -> None:
    assert is_name(name) == fits
    assert is_template(f"{name}{{}}") == (fits or name == "..")


def test_the_main_mistakes_at_once(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "train:losess=3",
        "network_g:type=paragonsr_q",
        "scale=two",
        "train:optim_g:lr='1e-4'",
        "train:optim_g:momentun=1",
    ]
    assert common.train(here, None, "--force_yml", *flags) == 2
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == len(flags)
    assert all(flag in " ".join(errors) for flag in flags)


@pytest.mark.parametrize("name", [v for v in variants() if v.startswith("paragonsr_")])
def test_the_packs_option_files_pass(
    name: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """From any folder; only the data is missing, and each folder is named."""
    assert basicsr.main(["train", "-opt", f"options/{name}.yml"]) == 2
    errors = capfd.readouterr().err.splitlines()
    assert errors and all("to be an existing folder" in e for e in errors)


def test_the_page_of_keys_is_current(root: Path) -> None:
    assert config_page() == (root / "docs" / "config.md").read_text()


def test_every_key_that_our_models_read_is_in_the_table() -> None:
    """What a model of ours reads out of its options is documented, and checked."""
    own: list[Any] = [
        target
        for target in known_types("model").values()
        if getattr(target, "__module__", "").startswith("paragon_archs.")
    ]
    assert len(own) >= 3
    known = {pattern.split(":")[-1] for pattern in KEYS}
    set_by_the_trainer = {"dist", "rank", "world_size", "is_train", "current_iter"}
    set_by_the_trainer |= {"iterations_per_epoch", "models", "visualization", "opt"}
    set_by_the_trainer |= {"training_states"}
    for target in own:
        read = {name for _, name in read_keys(target)}
        missing = {
            name
            for name in read - known - set_by_the_trainer
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in known - {"*"})
        }
        assert not missing, (target.__name__, missing)


def test_early_stopping_of_what_is_not_there(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for key, value in (("metric", "psnrr"), ("dataset", "fwe")):
        rule = {"metric": "psnr", "patience": 2, key: value}
        assert common.train(here, {"val:early_stopping": rule}) == 2
        error = capfd.readouterr().err.splitlines()[-1]
        assert f"val:early_stopping:{key} to be one of" in error and value in error
    assert not Path("experiments").exists()
