"""The published command lines that train and install, as they were printed.

`test_published_commands.py` has those that use weights.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys

import pytest
import torch
import yaml
from common import execute

from paragon_archs.checkpoint import load_model


def test_basicsr_train(root, tmp_path, monkeypatch):
    pytest.importorskip("basicsr")
    from engine_common import write_images

    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "data", count=4, side=48)
    recipe = yaml.safe_load((root / "options/paragonsr_s.yml").read_text())
    for section in recipe["datasets"].values():
        section["dataroot_gt"] = "data/hr"
    recipe["datasets"]["train"] |= {"gt_size": 32, "batch_size_per_gpu": 2}
    recipe["network_g"] |= {"num_groups": 1, "num_blocks": 1}
    recipe["train"] |= {"total_iter": 4, "warmup_iter": -1}
    recipe["val"]["val_freq"] = 4
    recipe["logger"] |= {"save_checkpoint_freq": 2, "use_tb_logger": False}
    (tmp_path / "options").mkdir()
    (tmp_path / "options/paragonsr_s.yml").write_text(yaml.safe_dump(recipe))
    assert execute("basicsr train -opt options/paragonsr_s.yml") == 0
    folder = tmp_path / "experiments/paragonsr_s_x4/models"
    early, late = (load_model(folder / f"net_g_{i}.safetensors") for i in (2, 4))
    assert (late.architecture.id, late.scale, late.tags[-1]) == (
        "ParagonSR",
        4,
        "training",
    )
    assert late.model.hyperparameters["num_feat"] == 64
    state = early.model.state_dict()
    moved = [not torch.equal(v, state[k]) for k, v in late.model.state_dict().items()]
    assert all(v.isfinite().all() for v in late.model.state_dict().values())
    assert sum(moved) > len(moved) // 2
    assert any(folder.glob("net_g_best_*psnr.safetensors"))


@pytest.mark.parametrize(
    "line",
    [
        "pip install -r requirements.txt",
        "pip install torch torchvision safetensors onnx onnxconverter-common "
        "onnxscript",
    ],
    ids=["project", "export"],
)
def test_pip(line, root, tmp_path):
    """pip's own dry run, without the network: it reads, builds metadata, resolves."""
    for needed in ("hatchling", "editables", "onnxconverter-common"):
        try:
            importlib.metadata.version(needed)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{needed} is not installed; the extra `test` holds it")
    settings = ("DRY_RUN", "NO_INDEX", "NO_DEPS", "DISABLE_PIP_VERSION_CHECK")
    done = subprocess.run(
        [sys.executable, "-m", *line.split()],
        cwd=root,
        # pip reads NO_BUILD_ISOLATION the other way round.
        env={
            **os.environ,
            **{f"PIP_{name}": "1" for name in settings},
            "PIP_NO_BUILD_ISOLATION": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "-r" in line:
        assert (root / "requirements.txt").read_text().split() == ["-e", ".[all]"]
        assert "Would install paragon-archs-" in done.stdout
    else:
        assert done.stdout.count("already satisfied") == len(line.split()) - 2


def test_all_is_every_extra(root):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11")
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    (everything,) = extras.pop("all")
    assert everything == f"{project['name']}[{','.join(extras)}]"
