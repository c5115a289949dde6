"""Option files as text: YAML, lines, overriding, files that are none."""

from __future__ import annotations

from pathlib import Path

import engine_common as common
import fuzz_common
import fuzz_options
import pytest
import yaml
from PIL import Image

from paragon_archs.cli import basicsr
from paragon_archs.cli.session import arguments_of, prepare
from paragon_archs.config.loading import force, load_options


def test_files_that_are_no_option_files(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = {
        "not_yaml": "a: [1\nb: 2\n",
        "not_text": b"\xff\xfe\x00",
        "no_mapping": "- 1\n",
    }
    for text in texts.values():
        raw = text if isinstance(text, bytes) else text.encode()
        Path("o.yml").write_bytes(raw)
        assert basicsr.main(["train", "-opt", "o.yml"]) == 2
        assert capfd.readouterr().err.startswith("error: Expected 'o.yml' to be ")
    Path("o.yml").write_text("a: 1\nb: 2\na: 3\n")
    assert basicsr.main(["train", "-opt", "o.yml"]) == 2
    assert "'a' is given twice (o.yml, line 3)" in capfd.readouterr().err
    assert basicsr.main(["train", "-opt", "none.yml"]) == 2
    assert "'none.yml'" in capfd.readouterr().err


# Texts that cost minutes or end in a traceback, and what their sentence holds.
HOSTILE = {
    "laughs": (fuzz_options.LAUGHS, "more than 10,000 keys and values"),
    "merges": (fuzz_options.MERGED, "more than 10,000 keys and values"),
    "lists": ("a: " + "[" * 900, "deeper than 40"),
    "sections": ("\n".join(" " * i + "a:" for i in range(900)), "deeper than 40"),
    "itself": ("a: &a [*a]", "holds itself"),
    "keys": ("x: 1\n" * 40_000, "more than 10,000 keys and values"),
    "comment": ("#" * (1 << 21), "more than 1 MiB"),
    "digits": ("a: " + "9" * 5000, "a value is no int"),
    "number": ("a: !!int x", "a value is no int"),
    "date": ("a: !!timestamp 2026-13-45", "a value is no timestamp"),
    "merge": ("<<: 3", "a mapping"),
    "code": ("a: !!python/object/apply:os.system ['true']", "could not determine"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_one_sentence(
    name: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text, part = HOSTILE[name]
    Path("o.yml").write_text(text)
    assert basicsr.main(["train", "-opt", "o.yml"]) == 2
    err = capfd.readouterr().err
    assert err.startswith("error: Expected ") and err.count("\n") == 1
    assert part in err
    assert len(err) < 600


def test_aliases_within_bounds_are_read(tmp_path: Path) -> None:
    file = tmp_path / "o.yml"
    file.write_text("a: &a {b: 1, c: &c [2, 3]}\nd: {<<: *a, b: 4}\ne: [*c, *c]\n")
    assert load_options(file).values == {
        "a": {"b": 1, "c": [2, 3]},
        "d": {"b": 4, "c": [2, 3]},
        "e": [[2, 3], [2, 3]],
    }


def test_generated_option_files_end_in_sentences(tmp_path: Path) -> None:
    results = fuzz_options.fuzz(tmp_path, count=300, seed=16)
    assert len(results) == 300
    assert [r for r in results if not fuzz_common.right(r)] == []
    assert sum(r["code"] == 2 for r in results) > 200
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"data", "files", "right.yml"}


def test_numbers_lines_and_overriding(tmp_path: Path) -> None:
    file = tmp_path / "o.yml"
    file.write_text("a: 1e-4\nb:\n  - c: 5E3\n    d: [1_000, -1e+2]\ne: 1e\n")
    options = load_options(file)
    assert options.values["a"] == 1e-4
    assert options.values["b"][0] == {"c": 5000.0, "d": [1000, -100.0]}
    assert options.values["e"] == "1e"
    assert options.place(("b", 0, "d")) == f"{file}, line 4"
    force(
        options,
        [
            "a=1e-5",
            "b:0:c=-1",
            "n:m:o=x=y=z",
            "p=None",
            "q=[0.9, 0.99]",
            "e=@home",
            "r=true",
        ],
    )
    assert options.values["a"] == 1e-5
    assert options.values["b"][0]["c"] == -1
    assert options.values["n"] == {"m": {"o": "x=y=z"}}
    assert options.values["p"] is None
    assert options.values["q"] == [0.9, 0.99]
    assert options.values["e"] == "@home"
    assert options.values["r"] is True


def test_names_may_be_dates_and_the_process_keeps_its_yaml(tmp_path: Path) -> None:
    file = tmp_path / "o.yml"
    file.write_text("name: 2026-11-20\nother: 2026-13-45\n")
    values = load_options(file).values
    assert values == {"name": "2026-11-20", "other": "2026-13-45"}
    assert yaml.safe_load("1e-4") == "1e-4"  # as YAML 1.1 has it
    assert str(yaml.safe_load("2026-11-20")) == "2026-11-20"


def test_overridden_seed_counts(here: Path) -> None:
    common.write_options(here / "o.yml")
    arguments = arguments_of(
        "train", ["-opt", "o.yml", "--force_yml", "manual_seed=77"]
    )
    assert prepare(arguments, True, here).values["manual_seed"] == 77


def test_pack_option_files_are_found_from_anywhere(here: Path) -> None:
    Image.new("RGB", (4, 4)).save("x.png")
    with pytest.raises(ValueError, match="neither in this folder"):
        prepare(arguments_of("train", ["-opt", "options/x.yml"]), True, here)


def test_a_set_is_left_out_from_the_command_line(here: Path) -> None:
    assert common.train(here, None, "--force_yml", "datasets:val=~") == 0
    assert "Validation" not in common.log_of(here)
