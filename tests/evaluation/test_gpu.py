"""`paragon doctor --gpu`, as far as a machine without a GPU goes."""

from __future__ import annotations

import copy
import functools
import re

import pytest
import torch
from common import error_of
from fake import fake_gpu, on_gpu
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from paragon_archs.cli.__main__ import main
from paragon_archs.deploy import deploy_model
from paragon_archs.evaluation import gpu
from paragon_archs.evaluation.gpu import choices, parity, speed
from paragon_archs.evaluation.gpu.bench import Bench
from paragon_archs.evaluation.gpu.report import Row, Section, examine


def test_the_report_on_a_cpu(tmp_path, capsys):
    arguments = ["doctor", "--gpu", "--device", "cpu", "-o", str(tmp_path / "report")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "report" / "gpu.md").read_text() == printed
    assert "failed" not in printed
    number = r"[\d.]+(?:e[-+]\d+)?"
    for name in Bench(torch.device("cpu"), True).variants:
        for form in ("fused", "deploy"):
            line = rf"^\| {name}, {form} (\| {number} ){{3}}\|$"
            assert re.search(line, printed, re.M), name
        assert re.search(rf"^\| {name} (\| {number} ){{5}}\|$", printed, re.M), name
    cells = rf"(\| {number} ){{2}}\| not on a CPU \| {number} \|  \|  \|"
    video = rf"^\| paragonsr2_stream_x2 {cells}$"
    assert re.search(video, printed, re.M)
    for block in re.findall(r"(?:^\|.*\n)+", printed, re.M):  # tables of one width
        assert len({row.count("|") for row in block.splitlines()}) == 1
    assert "--overwrite" in error_of(capsys, arguments)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--gpu", "--json"], "one of --json and --gpu"),
        (["--device", "cpu"], "Add --gpu"),
        (["-o", "folder"], "Add --gpu"),
        (["--gpu", "--device", "warp"], "device"),
        (["--gpu", "--device", "meta"], "device"),
        (["--gpu", "--device", "cpu", "-o", __file__], "a folder that results can"),
    ],
)
def test_wrong_use_is_one_sentence(flags, words, capsys):
    assert words in error_of(capsys, ["doctor", *flags])


def test_without_a_gpu_it_says_how(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert "--device cpu" in error_of(capsys, ["doctor", "--gpu"])


def raising(error):
    def line():
        raise error

    return line


@pytest.mark.parametrize("binding", [True, False])
@pytest.mark.parametrize(
    "line",
    [
        raising(RuntimeError("CUDA error: no kernel image\nmore | of it")),
        raising(torch.OutOfMemoryError("full")),
        raising(ImportError("no library")),
        raising(AssertionError()),
        lambda: Row(["**1e+00**"], held=False),
    ],
)
def test_a_line_fails_by_itself(line, binding):
    printed = []
    lines = {"bad": line, "good": lambda: Row(["1", "2"])}
    section = Section("T", "N.", ("name", "a", "b"), lines, binding)
    assert examine([section, section], printed.append, 60) is not binding
    assert printed.count("| good | 1 | 2 |") == 2
    assert {text.count("|") for text in printed if text.startswith("|")} == {4}


def test_lines_beyond_the_time_are_left_out():
    section = Section("T", "N.", ("name", "a"), {"late": raising(ValueError())}, True)
    printed = []
    assert not examine([section], printed.append, 0)
    assert printed[-1] == "| late | left out: the time is over |"


@pytest.mark.parametrize(
    "broken",
    [
        lambda y: 1.01 * y,
        lambda y: y * torch.tensor(float("nan")),
        lambda y: y[:, :, 1:],
        lambda y: y.double(),
    ],
)
def test_a_wrong_network_is_noticed(broken, monkeypatch):
    class Wrong(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.inner = deploy_model(model)

        def forward(self, x):
            return broken(self.inner(x))

    monkeypatch.setitem(parity._FORMS, "deploy", Wrong)
    lines = parity.section(Bench(torch.device("cpu"), True)).lines
    assert lines["paragonsr2_realtime, fused"]().held
    assert not lines["paragonsr2_realtime, deploy"]().held


def real(call):
    @functools.wraps(call)
    def outside(*args, **kwargs):
        with unset_fake_temporarily():
            return call(*args, **kwargs)

    return outside


@pytest.mark.parametrize(
    "make", [speed.networks, speed.memory, choices.norms, choices.attentions]
)
def test_lines_run_on_a_gpu_that_is_not_there(make, monkeypatch):
    """All on the right device, in dtypes that fit; backward passes need a real one."""

    def to(module, device, dtype):
        return on_gpu(copy.copy(module), dtype)

    monkeypatch.setattr(torch.accelerator, "synchronize", lambda _: None)
    for name in ("memory_allocated", "max_memory_allocated", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda _: 0)
    monkeypatch.setattr(nn.Module, "to", to)
    monkeypatch.setattr(Bench, "network", real(Bench.network))
    monkeypatch.setattr(Bench, "image", lambda _, h, w: torch.empty(1, 3, h, w))
    monkeypatch.setattr(speed, "deploy_model", real(speed.deploy_model))
    for name, form in speed._FORMS.items():
        monkeypatch.setitem(speed._FORMS, name, real(form))
    lines = make(Bench(torch.device("cuda"), True)).lines
    kept = {n: line for n, line in lines.items() if "gradients" not in n}
    section = Section("T", "N.", ("name",), kept, binding=True)
    printed = []
    with fake_gpu():
        assert examine([section], printed.append, 60), printed


def test_the_report_reaches_every_section(monkeypatch):
    """A card's report: the same sections, and those that a CPU is spared."""
    titles = []
    monkeypatch.setattr(
        gpu, "examine", lambda sections, *_: titles.extend(s.title for s in sections)
    )
    monkeypatch.setattr(gpu, "_described", lambda _: "a card")
    gpu.report(torch.device("cuda"), lambda _: None)
    assert "Compiled by torch" in titles
    assert "1280x720 to x2 in fp16" in titles
