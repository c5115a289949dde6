"""README and docs are held to the code."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import re

import numpy as np
import pytest
import torch
from engine_common import write_images

from paragon_archs.checkpoint import load_model
from paragon_archs.cli.__main__ import COMMANDS, main
from paragon_archs.cli.common import EXITS
from paragon_archs.cli.progress import JsonLines
from paragon_archs.utils.progress import shown_by, task
from paragon_archs.utils.registry import HAS_BASICSR

PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs")


@pytest.fixture
def pages(root):
    """Every page by its path from the root."""
    files = [root / p for p in PAGES if (root / p).is_file()]
    files += sorted((root / "docs").glob("*.md"))
    return {str(f.relative_to(root)): f.read_text() for f in files}


def test_the_readme_is_short(pages):
    assert len(pages["README.md"].splitlines()) <= 200


def test_links_and_pictures_lead_somewhere(root, pages):
    count = 0
    for name, text in pages.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", text):
            path, anchor = target
            file = (root / name).parent / path if path else root / name
            assert file.exists(), f"{name}: {path}"
            count += 1
            if anchor:
                heads = re.findall(r"^#+ (.+)$", file.read_text(), re.M)
                slugs = {
                    re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in heads
                }
                assert anchor[1:] in slugs, f"{name}: {anchor}"
    assert count > 20


def test_variants_table_is_what_the_command_prints(pages, capsys):
    assert main(["variants", "--markdown"]) == 0
    assert capsys.readouterr().out in pages["docs/python.md"]


def test_the_page_of_the_command_line_says_what_it_does(pages, capsys):
    text = pages["docs/command-line.md"]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.M)
    assert [(int(code), when) for code, when in rows] == list(EXITS.items())
    lines = re.findall(r"^paragon (.+ --json)$", text, re.M)
    assert lines
    for line in lines:
        assert main(line.split()) == 0
        assert json.loads(capsys.readouterr().out)
    named = set(
        re.findall(r"`([^`]+)`", text.partition("as JSON on")[2].split("\n\n")[0])
    )
    commands = [[c] for c in COMMANDS] + [
        ["benchmark", t] for t in ("quality", "video")
    ]
    for command in commands:
        with contextlib.suppress(SystemExit):
            main([*command, "--help"])
        takes = "--json" in capsys.readouterr().out
        assert takes == (" ".join(command) in named), command
    example = json.loads(re.search(r"```json\n(.*)\n```", text)[1])
    out = io.StringIO()
    with shown_by(JsonLines(out)), task("upscale", 24, "file") as whole:
        whole.advance()
    shown = [json.loads(line) for line in out.getvalue().splitlines()]
    assert shown[0].keys() == example.keys()
    assert shown[-1].keys() == example.keys() | {"ended"}


def test_public_names_exist_with_their_signatures(pages):
    text = pages["docs/python.md"]
    rows = re.findall(r"^\| `(paragon_archs\.[\w.]+)(?:\(([^`]*)\))?` \|", text, re.M)
    assert len(rows) >= 7
    for path, arguments in rows:
        module, _, name = path.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        if callable(found):
            names = [a.split("=")[0].strip(" *") for a in arguments.split(",")]
            parameters = list(inspect.signature(found).parameters)
            assert parameters == [n for n in names if n], path


def examples(text):
    return re.findall(r"```python\n(.*?)```", text, re.S)


@pytest.mark.parametrize(
    "name", ["README.md", "docs/export.md", "docs/integrations.md", "docs/upscaling.md"]
)
def test_examples_run(name, pages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for example in examples(pages[name]):
        exec(compile(example, name, "exec"), {})


def test_the_notebook_runs_and_its_model_beats_bicubic(root):
    pytest.importorskip("skimage")
    cells = json.loads((root / "docs" / "example.ipynb").read_text())["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec(compile("".join(cell["source"]), "example.ipynb", "exec"), names)
    assert names["output"].shape == names["photo"].shape
    assert names["gain"] > 1


def test_python_page_runs(pages, tmp_path, monkeypatch):
    """All of it, one after the other; the examples of daily use give what they say."""
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "data", side=40)
    (tmp_path / "data" / "hr").rename(tmp_path / "photos")
    ran = {}
    for example in examples(pages["docs/python.md"]):
        if "paragon_archs.cli.train" in example and not HAS_BASICSR:
            continue
        for word in ("Upscaler(", "cli.train", "export_onnx("):
            if word in example:
                assert len(example.splitlines()) <= 10
                ran[word] = {}
                names = ran[word]
                break
        else:
            names = {}
        exec(compile(example, "docs/python.md", "exec"), names)
    tiny = load_model("tiny.safetensors")
    upscaled = ran["Upscaler("]
    x = torch.from_numpy(upscaled["pixels"]).permute(2, 0, 1)[None] / 255
    want = (tiny(x)[0].permute(1, 2, 0) * 255).round().numpy()
    assert np.abs(upscaled["output"] - want).max() <= 1
    session = onnxruntime.InferenceSession("tiny.onnx")
    with torch.no_grad():
        want = tiny.model(x).numpy()
    (got,) = session.run(None, {"input": x.numpy()})
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
    if HAS_BASICSR:
        trained = load_model("experiments/mine/models/net_g_latest.safetensors")
        assert (trained.tags[0], trained.scale) == ("paragonsr2_realtime", 2)
