"""What saves memory and changes no number: checkpointing, strips; and the samples."""

from __future__ import annotations

import copy

import engine_common as common
import pytest
import torch
from common import image, randomise
from PIL import Image
from torch import nn

from paragon_archs import create
from paragon_archs.utils.registry import HAS_BASICSR

if not HAS_BASICSR:
    pytest.skip("needs BasicSR", allow_module_level=True)

from paragon_archs.engine import whole_image
from paragon_archs.engine.checkpointing import checkpoint_blocks, repeated_blocks
from paragon_archs.engine.whole_image import run_within

NETWORKS = {
    "paragonsr_nano": {"num_groups": 2, "num_blocks": 1},
    "paragonsr2_photo": {"num_groups": 2, "num_blocks": 2, "num_feat": 16},
    "paragonsr2_pro": {"num_groups": 1, "num_blocks": 2, "num_feat": 16},
    "fusionsr": {"embed_dim": 12, "depth": 2, "num_heads": 2},
    "resshuffle": {"num_features": 8, "num_residuals": 2},
    "facesr": {"num_feat": 8, "mid_feat": 4, "refine_feat": 4, "num_refine": 2},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_checkpointing_keeps_results_gradients_and_names(name):
    plain = create(name, 2, **NETWORKS[name])
    randomise(plain.double()).train()
    other = copy.deepcopy(plain)
    assert checkpoint_blocks(other) >= 2
    x = image(1, 3, 20, 16, dtype=torch.float64)
    results = []
    for net in (plain, other):
        loss = net(x).square().mean()
        loss.backward()
        results.append([loss, *(p.grad for p in net.parameters() if p.requires_grad)])
    for one, same in zip(*results, strict=True):
        assert torch.equal(one, same)
    assert list(plain.state_dict()) == list(other.state_dict())


def test_checkpointed_blocks_keep_less():
    def kept(net):
        sizes = []

        def pack(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            net(image(1, 3, 32, 32)).sum()
        return sum(sizes)

    plain = create("paragonsr_nano", 2)
    other = copy.deepcopy(plain)
    assert checkpoint_blocks(other) == 3
    assert kept(other) < kept(plain) / 4


def test_without_repeated_blocks_it_says_so(caplog):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    assert list(repeated_blocks(net)) == []
    with caplog.at_level("WARNING"):
        assert checkpoint_blocks(net) == 0
    assert "repeats no blocks" in caplog.text


def test_the_switch_trains_to_the_same_weights(here):
    changes = {
        "network_g": {
            "type": "ParagonSR",
            "num_feat": 8,
            "num_groups": 2,
            "num_blocks": 1,
        }
    }
    weights = []
    for name, switch in (("one", False), ("two", True)):
        extra = {"train:grad_checkpointing": switch, "name": name}
        assert common.train(here, {**changes, **extra}) == 0
        file = here / f"experiments/{name}/training_states/4.state"
        weights.append(torch.load(file, weights_only=True)["networks"])
    assert "checkpointing of 2 blocks" in common.log_of(here, "two")
    for net, tensors in weights[0].items():
        for key, value in tensors.items():
            assert torch.equal(value, weights[1][net][key]), (net, key)


@pytest.mark.parametrize("name", NETWORKS)
def test_strips_give_the_whole_images_result(name, monkeypatch):
    """Networks with whole-image statistics too; the limit is far below the need."""
    net = randomise(create(name, 2, **NETWORKS[name]).double()).eval()
    ran = []
    run = whole_image.StripEngine.run

    def counted(self, *arguments, **options):
        ran.append(True)
        return run(self, *arguments, **options)

    monkeypatch.setattr(whole_image.StripEngine, "run", counted)
    x = image(1, 3, 90, 33, dtype=torch.float64)
    with torch.inference_mode():
        wanted = net(x)
    got = run_within(net, x, "100K")
    assert ran
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)
    assert torch.equal(run_within(net, x, "8G"), wanted)
    assert torch.equal(run_within(net, x, None), wanted)
    assert len(ran) == 1


class Refusing(nn.Module):
    """Has no room for more than 70 rows, as the machine really says it."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        if x.shape[2] > 70:
            torch.empty(2**56, dtype=torch.uint8)
        return self.inner(x)


@pytest.mark.parametrize("limit", [None, "auto", "8G"])
def test_an_image_that_does_not_fit_goes_in_strips_by_itself(limit, caplog):
    """Whatever the options or the estimate promised."""
    inner = randomise(create("paragonsr_nano", 2, **NETWORKS["paragonsr_nano"]))
    net, x = Refusing(inner.double()).eval(), image(1, 3, 90, 33, dtype=torch.float64)
    with torch.inference_mode():
        wanted = inner(x)
    got = run_within(net, x, limit)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)
    assert caplog.text.count("does not fit into memory") == 1


def test_other_errors_of_a_validation_stay():
    with pytest.raises(RuntimeError, match="channels"):
        run_within(nn.Conv2d(4, 3, 1), image(1, 3, 9, 9), None)


class Unfollowable(nn.Module):
    """Its rows do not come from rows around them."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return torch.linalg.svd(self.conv(x), full_matrices=False)[0]


def test_what_cannot_be_followed_runs_whole(caplog):
    net, x = Unfollowable().eval(), image(1, 3, 40, 40)
    with caplog.at_level("INFO"), torch.inference_mode():
        assert torch.equal(run_within(net, x, "1K"), net(x))
    assert "runs whole, beyond the memory" in caplog.text


def test_validation_within_a_limit_has_the_same_metric(here):
    common.write_images(here / "data", count=2, side=96)
    metrics = []
    for name, limit in (("one", None), ("two", "60K")):
        assert common.train(here, {"val:max_memory": limit, "name": name}) == 0
        text = common.log_of(here, name)
        metrics.append([line for line in text.splitlines() if "# psnr" in line])
    assert metrics[0] == metrics[1]
    assert metrics[0]


def test_a_wrong_limit_is_said_first(here, capsys):
    assert common.train(here, {"val:max_memory": "much"}) == 2
    assert "max_memory to be a size like 4G" in capsys.readouterr().err


def test_samples_show_input_result_and_target(here):
    assert common.train(here, {"val:samples": 2, "logger:use_tb_logger": True}) == 0
    folder = here / "experiments/run/visualization/samples"
    assert sorted(p.name for p in folder.iterdir()) == ["few_0_4.png", "few_1_4.png"]
    assert Image.open(folder / "few_0_4.png").size == (96, 32)


def test_a_set_without_targets_is_not_shown_with_those_of_training(here):
    changes = {
        "datasets:val:type": "SingleImageDataset",
        "datasets:val:dataroot_gt": ...,
        "val:metrics": ...,
        "val:samples": 1,
    }
    assert common.train(here, changes) == 0
    folder = here / "experiments/run/visualization/samples"
    assert [Image.open(p).size for p in folder.iterdir()] == [(2 * 32, 32)]
