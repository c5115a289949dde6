"""The sub-commands, as a user types them: exit codes, one sentence, no leftovers."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from common import error_of, image, randomise
from PIL import Image

import paragon_archs
from paragon_archs.checkpoint import load_model, read_metadata, save_model
from paragon_archs.cli import basicsr, export
from paragon_archs.cli.__main__ import COMMANDS, main
from paragon_archs.cli.benchmark import TOPICS
from paragon_archs.cli.common import EXITS, guarded
from paragon_archs.cli.completion import tree
from paragon_archs.evaluation import comparison

# Commands of their own, under published names and flags.
PUBLISHED = (
    "benchmarks.command_release",
    "paragon_archs.cli.convert_onnx_release",
    "paragon_archs.cli.run_inference",
)


@pytest.fixture
def checkpoint(tmp_path):
    """A small ParagonSR in training form, x2."""
    path = tmp_path / "small.safetensors"
    model = paragon_archs.create("paragonsr_nano", 2, num_groups=2, num_blocks=1)
    save_model(randomise(model), path, {"licence": "MIT"})
    return path


def test_no_command_and_a_misspelt_one(capsys):
    assert main([]) == 2
    assert "usage: paragon" in capsys.readouterr().err
    assert "Did you mean upscale?" in error_of(capsys, ["upscal"])
    assert "'nonsense'" in error_of(capsys, ["benchmark", "nonsense"])


PROGRAMS = {
    **{c: main for c in COMMANDS if c != "benchmark"},
    **{f"benchmark {t}": main for t in TOPICS},
    "train": basicsr.main,
    "test": basicsr.main,
    **{m: importlib.import_module(m).main for m in PUBLISHED},
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_has_examples_that_its_own_parser_takes(name, capsys, monkeypatch):
    program = PROGRAMS[name]
    command = name.split() if name not in PUBLISHED else []
    with pytest.raises(SystemExit) as stop:
        program([*command, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "usage: " in printed
    assert all(f"  {code:<4} {when}" in printed for code, when in EXITS.items())
    examples = printed.partition("examples:\n")[2].partition("\n\n")[0].splitlines()
    assert 2 <= len(examples) <= 4
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, argv=None):
        parse(parser, argv)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    for example in examples:
        words = shlex.split(example.partition(" > ")[0])
        start = words.index("python") + 2 if "python" in words else 1
        with pytest.raises(Parsed):
            program(words[start:])


class Parsed(BaseException):
    """Arguments were taken; the rest is not run."""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["info"], ["are required: file.", "`paragon info --help`"]),
        (["upscale", "--modle", "x"], ["--modle is no flag", "did you mean --model?"]),
        (["upscale", "a.png", "--outptu=b"], ["--outptu is no", "mean --output?"]),
        (["upscale", "a.png", "--zzz"], ["--zzz is no flag", "none like it"]),
        (["upscale", "a.png", "-o"], ["argument -o/--output: expected one argument"]),
        (["upscale", "a", "-ob", "--crf", "x"], ["argument --crf: invalid int", "x"]),
        (["upscale", "a", "-ob", "--downscale", "x"], ["invalid float value: 'x'"]),
        (["upscale", "a", "-ob", "--depth", "9"], ["invalid choice: ", "8, 16"]),
        (["upscale", "a", "-ob", "--tta=1"], ["ignored explicit argument '1'"]),
        (["info", "a", "b"], ["unrecognized arguments: b"]),
        (["integrate", "comfyui", "--check", "--remove"], ["not allowed with"]),
        (["quickstart", "images", "--scal", "2"], ["did you mean --scale?", "images"]),
        (["quickstart", "images", "-oa", "--dta"], ["did you mean --data?"]),
        (["benchmark", "speed", "--size", "9"], ["expected HEIGHTxWIDTH", "'9'"]),
    ],
    ids=lambda v: " ".join(v).replace("/", "_") if isinstance(v, list) else None,
)
def test_wrong_arguments_are_one_line_of_argparse(command, words, capsys):
    assert_one_line(main, command, words, capsys)


@pytest.mark.parametrize(
    "module",
    [
        *PUBLISHED,
        *(f"paragon_archs.cli.{m}" for m in ("train", "test")),
    ],
)
def test_other_commands_name_the_closest_flag(module, capsys):
    command = importlib.import_module(module).main
    assert_one_line(command, ["--hlep"], ["mean --help?", "--help`"], capsys)


def assert_one_line(command, arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        command(arguments)
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    for part in words:
        assert part in captured.err


def test_ctrl_c_is_one_sentence(capsys):
    def work():
        raise KeyboardInterrupt

    assert guarded(work) == 130
    assert capsys.readouterr().err.startswith("error: stopped")
    with pytest.raises(KeyboardInterrupt):
        guarded(work, debug=True)


def test_info_says_what_the_tensors_tell(checkpoint, capsys):
    assert main(["info", str(checkpoint)]) == 0
    printed = capsys.readouterr().out
    for words in (
        ("architecture", "ParagonSR"),
        ("variant", "none"),
        ("form", "training"),
        ("scale", "2"),
        ("channels", "3 -> 3"),
        ("num_groups", "2"),
        ("metadata licence", "MIT"),
    ):
        line = next(row for row in printed.splitlines() if words[0] in row)
        assert words[1] in line, line


def test_variants_lists_every_variant(capsys):
    assert main(["variants", "--scale", "2"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in paragon_archs.variants())


def test_fuse_writes_the_same_function(checkpoint, capsys):
    assert main(["fuse", str(checkpoint)]) == 0
    fused = checkpoint.with_name("small_fused.safetensors")
    before, after = load_model(checkpoint), load_model(fused)
    assert "fused" in after.tags
    assert read_metadata(fused)["licence"] == "MIT"
    x = image(1, 3, 12, 9)
    torch.testing.assert_close(after(x), before(x), rtol=0, atol=1e-5)
    assert "exists" in error_of(capsys, ["fuse", checkpoint])
    assert main(["fuse", str(checkpoint), "--overwrite"]) == 0
    assert "is fused" in error_of(capsys, ["fuse", fused, "-o", "x.safetensors"])
    plain = checkpoint.with_name("plain.safetensors")
    save_model(paragon_archs.create("resshuffle", 2, num_residuals=1), plain)
    assert "nothing to fuse" in error_of(capsys, ["fuse", plain])
    both = ["fuse", checkpoint, "-o", "x.safetensors", "--out-dir", checkpoint.parent]
    assert "got both" in error_of(capsys, both)


def test_fuse_takes_the_published_flags_and_checks_them(checkpoint, tmp_path, capsys):
    flags = ["fuse", "--checkpoint", checkpoint, "--out-dir", tmp_path / "out"]
    assert "--scale to be 2" in error_of(capsys, [*flags, "--scale", 4])
    assert not (tmp_path / "out").exists()
    assert main([str(f) for f in [*flags, "--scale", 2]]) == 0
    assert (tmp_path / "out" / "small_fused.safetensors").is_file()


@pytest.mark.parametrize(
    ("claimed", "holds"),
    [("nano", True), ("paragonsr_nano", True), ("PARAGONSR_NANO", True), ("s", False)],
)
def test_a_claimed_variant_is_held_to_the_checkpoint(claimed, holds, tmp_path, capsys):
    path = tmp_path / "nano.pth"
    save_model(paragon_archs.create("paragonsr_nano", 2), path)
    command = ["fuse", path, "-o", tmp_path / "f.pth", "--variant", claimed]
    if holds:
        assert main([str(c) for c in command]) == 0
    else:
        assert "'paragonsr_nano'" in error_of(capsys, command)
        assert not (tmp_path / "f.pth").exists()


@pytest.mark.parametrize(("claimed", "code"), [("tiny", 0), ("photo", 2)])
def test_free_hyperparameters_may_be_called_after_their_architecture(
    claimed, code, checkpoint, tmp_path
):
    """paragonsr_tiny was published with 3 x 3 blocks and later built with 3 x 2."""
    command = ["fuse", str(checkpoint), "-o", str(tmp_path / "f.pth")]
    assert main([*command, "--variant", claimed]) == code


def test_benchmark_training_compares_gradients(capsys):
    command = ["benchmark", "training", "--variant", "paragonsr_nano", "--scale", "2"]
    assert main([*command, "--batch", "1", "--size", "8", "--rounds", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert float(printed[-1].rsplit(" ", 1)[1]) < 1e-9


def test_a_reader_that_leaves_is_no_error(root):
    command = f"{sys.executable} -m paragon_archs variants | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


def test_benchmarks_of_the_pack_itself_need_a_checkout(root, tmp_path):
    """As after the installation of a wheel, which has no scripts."""
    shutil.copytree(
        root / "paragon_archs",
        tmp_path / "paragon_archs",
        ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"),
    )
    done = subprocess.run(
        [sys.executable, "-m", "paragon_archs", "benchmark", "speed"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: Expected the pack to run from a checkout")
    assert done.stderr.count("\n") == 1


def test_tracebacks_are_there_for_whoever_asks(monkeypatch, capsys):
    def work():
        raise ValueError("broken")

    assert guarded(work) == 2
    monkeypatch.setenv("PARAGON_DEBUG", "1")
    with pytest.raises(ValueError, match="broken"):
        guarded(work)


def test_json_is_what_the_table_says(checkpoint, capsys):
    assert main(["info", str(checkpoint), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["architecture"], found["scale"]) == ("ParagonSR", 2)
    assert found["hyperparameters"]["num_groups"] == 2
    assert found["metadata"]["licence"] == "MIT"
    assert main(["variants", "--json", "--scale", "2"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in rows] == list(paragon_archs.variants())
    assert all(r["parameters"] > 1000 for r in rows)


@pytest.mark.parametrize("name", [c for c in COMMANDS if c != "benchmark"])
def test_the_shell_knows_the_flags_of_every_command(name):
    steps = tree("paragon", COMMANDS, [name])._actions[-1].choices
    assert len(steps[name]._actions) > 1  # more than --help


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("paragon upsc", ["upscale"]),
        ("paragon upscale --mod", ["--model"]),
        ("paragon upscale --model paragonsr2_stream_x", ["stream_x2", "stream_x4"]),
        ("paragon benchmark vi", ["video"]),
        ("paragon benchmark quality --pro", ["--protocol", "--progress"]),
    ],
)
def test_the_shell_completes(line, completed, tmp_path):
    pytest.importorskip("argcomplete")
    out = tmp_path / "out"
    environment = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_IFS": "\n",
    }
    subprocess.run(
        [sys.executable, "-m", "paragon_archs"],
        env={**os.environ, **environment},
        check=False,
    )
    found = out.read_text()
    assert all(word in found for word in completed), found


@pytest.mark.parametrize(
    "command",
    [
        ["export", "paragonsr2_realtime_x2", "-o", "nosuch/x.onnx"],
        ["compare", "a.png", "a.png", "-o", "nosuch/x.html"],
    ],
    ids=lambda command: command[0],
)
def test_a_missing_folder_is_found_before_the_work(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("a.png")
    monkeypatch.setattr(export, "write_graph", None)
    monkeypatch.setattr(comparison, "perceptual_metrics", None)
    assert main(command) == 2
    assert "Create 'nosuch' first." in capsys.readouterr().err
