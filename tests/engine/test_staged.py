"""Staged training: what trains, what stays bit for bit, and going on in a stage."""

from __future__ import annotations

import copy

import engine_common as common
import pytest
import torch
from common import image
from engine_common import NEW, STAGES, state_of, train_staged
from safetensors.torch import load_file
from torch import nn

from paragon_archs.utils.registry import HAS_BASICSR

if not HAS_BASICSR:
    pytest.skip("needs BasicSR", allow_module_level=True)

from paragon_archs.config.sections.stages import StageSection
from paragon_archs.engine.stages import Stage, freeze, load_stage, read_stages


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common.write_images(tmp_path / "data", count=3, side=32)
    return tmp_path


def is_new(name):
    return name.startswith("conv_first.enhanced_path") or name == NEW[1]


def test_fusionsr_in_four_stages(here):
    """Frozen tensors stay bit for bit, though weight decay is on and the rate high."""
    assert train_staged(here) == 0
    log = common.log_of(here)
    weights = {n: state_of(here, n)["networks"] for n in (3, 4, 6, 8, 10)}
    released = load_file(
        here / "experiments/run/models/net_g_stage_baseline.safetensors"
    )
    baseline = weights[3]["net_g_ema"]
    assert released.keys() == baseline.keys()
    assert not any(is_new(name) for name in baseline)
    for iteration in (4, 6):  # in stage 1, trained weights and averaged ones
        for kind in ("net_g", "net_g_ema"):
            for name, value in weights[iteration][kind].items():
                if not is_new(name):
                    assert torch.equal(value, released[name]), (iteration, kind, name)
    moved = {n for n, v in weights[6]["net_g"].items() if is_new(n)}
    first = weights[4]["net_g"]
    assert all(
        not torch.equal(weights[6]["net_g"][n], first[n]) for n in moved if "conv" in n
    )
    for name, value in weights[8]["net_g"].items():  # stage 2: the whole extractor
        before = weights[6]["net_g_ema"][name]
        inside = name.startswith("conv_first.")
        assert inside or torch.equal(value, before), name
    assert not torch.equal(
        weights[8]["net_g"]["conv_first.original_path.0.weight"],
        weights[6]["net_g_ema"]["conv_first.original_path.0.weight"],
    )
    assert not torch.equal(
        weights[10]["net_g"]["upsample.0.weight"],
        weights[8]["net_g_ema"]["upsample.0.weight"],
    )
    total = sum(v.numel() for n, v in weights[10]["net_g"].items() if "index" not in n)
    new = sum(v.numel() for n, v in weights[10]["net_g"].items() if is_new(n))
    text = f"Stage 2 of 4, enhanced: iterations 4 to 6, {new:,} of {total:,} parameters"
    assert text in log
    # The optimizer holds state for what trains, and for nothing else.
    slots = state_of(here, 6)["optimizers"][0]["state"]
    assert len(slots) == len(moved)
    rates = [common.losses_of(log)[n].split(",")[0] for n in (3, 4, 7, 9)]
    assert [float(r) for r in rates] == [2e-3, 1e-3, 1e-3, 1e-4]


def test_a_transfer_begins_where_the_baseline_ended(here):
    assert train_staged(here) == 0
    start = torch.sigmoid(torch.tensor(-6.0))
    after = state_of(here, 4)["networks"]["net_g"]["conv_first.mix_weight"]
    assert float(torch.sigmoid(after)) == pytest.approx(float(start), rel=0.02)
    stages = copy.deepcopy(STAGES)
    stages[1]["start_values"] = {"conv_first.mix_weight": 0.1}
    assert train_staged(here, {"stages": stages, "name": "other"}) == 0
    file = here / "experiments/other/training_states/4.state"
    after = torch.load(file, weights_only=True)["networks"]["net_g"]
    assert float(after["conv_first.mix_weight"]) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("stop", [2, 3, 5, 6])  # in stages, and between two
def test_resume_lands_in_the_right_stage_exactly(here, stop):
    assert train_staged(here) == 0
    straight, log = (
        state_of(here, 10)["networks"],
        common.losses_of(common.log_of(here)),
    )
    for path in list((here / "experiments/run").rglob("*.state")):
        if int(path.stem) > stop:
            path.unlink()
    for path in (here / "experiments/run").glob("train_*.log"):
        path.unlink()
    assert train_staged(here, None, "--auto_resume") == 0
    resumed = common.losses_of(common.log_of(here))
    assert sorted(resumed) == list(range(stop + 1, 11))
    for n, text in resumed.items():
        assert text == log[n]
    for name, tensors in state_of(here, 10)["networks"].items():
        for key, value in tensors.items():
            assert torch.equal(value, straight[name][key]), (name, key)


def test_a_stage_may_begin_with_a_file(here):
    stages = [STAGES[0]]
    assert train_staged(here, {"stages": stages, "name": "base"}) == 0
    file = "experiments/base/models/net_g_latest.safetensors"
    assert train_staged(here, {"stages": [{**STAGES[1], "load": file}]}) == 0
    released = load_file(here / file)
    for name, value in load_file(
        here / "experiments/run/models/net_g_latest.safetensors"
    ).items():
        assert is_new(name) or torch.equal(value, released[name]), name


def test_mistakes_are_said_before_the_first_iteration(here, capsys):
    def stages(**changes):
        return {"stages": [STAGES[0], {**STAGES[1], **changes}]}

    cases = [
        (stages(train=["conv_frist.*"]), "'conv_frist.*' matches none"),
        (stages(iterations=None), "iterations or epochs"),
        (stages(epochs=2), "Give exactly one of the two"),
        (stages(name="baseline"), "names of stages to differ"),
        (stages(load="none.pth"), "which does not exist"),
        (stages(network_g={"use_rcb": True}), "use_rcb"),
        (stages(trains=["*"]), "Did you mean train?"),
        ({"stages": ...}, "'stages' to be given"),
        ({"stages": []}, "at least one stage"),
    ]
    for number, (changes, text) in enumerate(cases):
        assert train_staged(here, {**changes, "name": f"run{number}"}) == 2, text
        assert text in capsys.readouterr().err


class Normed(nn.Module):
    """A body with batch norms, one of them without parameters."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False))
        self.fixed = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x):
        return self.body(self.head(x)) * self.fixed


def test_frozen_norms_keep_their_statistics():
    net = Normed().train()
    frozen = freeze(net, Stage("s", 0, 1, train=("body.*",)))
    assert frozen == [net.head[1]]
    before = copy.deepcopy(net.state_dict())
    net(image(2, 3, 8, 8)).sum().backward()
    after = net.state_dict()
    assert torch.equal(after["head.1.running_mean"], before["head.1.running_mean"])
    assert not torch.equal(after["body.1.running_mean"], before["body.1.running_mean"])
    assert [n for n, p in net.named_parameters() if p.grad is not None] == [
        "body.0.weight",
        "body.0.bias",
    ]
    everything = Normed()
    assert freeze(everything, Stage("s", 0, 1)) == []
    assert not everything.fixed.requires_grad  # what never trains stays so
    with pytest.raises(ValueError, match="at least one parameter"):
        freeze(Normed(), Stage("s", 0, 1, train=("fixed",)))


def test_only_what_is_named_may_be_missing():
    net, other = Normed(), Normed()
    weights = {n: v for n, v in other.state_dict().items() if n != "head.0.bias"}
    stage = Stage("s", 0, 1)
    with pytest.raises(ValueError, match=r"head.0.bias is missing \(1 such"):
        load_stage(net, weights, stage, "a file")
    fresh = net.state_dict()["head.0.bias"].clone()
    allowed = Stage(
        "s", 0, 1, may_be_missing=("head.*.bias",), start_values={"fixed": 3.0}
    )
    load_stage(net, weights, allowed, "a file")
    loaded = net.state_dict()
    assert torch.equal(loaded["head.0.bias"], fresh)
    assert torch.equal(loaded["head.0.weight"], weights["head.0.weight"])
    assert float(net.fixed) == 3
    with pytest.raises(ValueError, match="extra is unknown"):
        load_stage(net, {**weights, "extra": fresh}, allowed, "a file")
    with pytest.raises(ValueError, match=r"instead of \(4,\)"):
        load_stage(net, {**weights, "head.0.bias": torch.ones(2)}, allowed, "a file")
    with pytest.raises(ValueError, match="'nothing'"):
        wrong = Stage("s", 0, 1, start_values={"nothing": 1.0})
        load_stage(net, other.state_dict(), wrong, "a file")


def test_lengths_in_epochs():
    sections = [
        {"name": "a", "epochs": 1.5},
        {"name": "b", "iterations": 4},
        {"name": "c", "epochs": 0.01},
    ]
    read = [StageSection.read(section) for section in sections]
    stages = read_stages(read, iterations_per_epoch=10.5)
    assert [(s.start, s.stop) for s in stages] == [(0, 16), (16, 20), (20, 21)]
