"""FusionSR: masks, the transfer from its baseline, the parameters of its stages."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
import torch
from common import image, randomise

from paragon_archs.archs import create
from paragon_archs.archs.fusionsr_arch import STAGES, SwinBlock, transfer_baseline

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 2, "window_size": 4}


def tiny(**overrides) -> Any:
    return create("fusionsr", 2, **{**TINY, **overrides})


def test_mask_separates_what_the_shift_brought_together():
    """Against Swin's own construction by slices."""
    block = SwinBlock(8, 2, 4, True, 2)
    regions = torch.zeros(12, 8)
    slices = (slice(0, -4), slice(-4, -2), slice(-2, None))
    for i, down in enumerate(slices):
        for j, across in enumerate(slices):
            regions[down, across] = 3 * i + j
    windows = regions.view(3, 4, 2, 4).transpose(1, 2).reshape(6, 16)
    want = torch.where(windows[:, None] != windows[:, :, None], -100.0, 0.0)
    torch.testing.assert_close(block.mask(3, 2), want)


def test_new_blocks_start_as_the_identity():
    model = tiny()
    block = model.conv_first.enhanced_path[2]
    x = image(1, 12, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(block(x), x, rtol=0, atol=0)
        torch.testing.assert_close(block.channel_attention(x), 0.75 * x)


def test_transfer_costs_next_to_nothing():
    baseline = randomise(tiny(use_rca=False)).double()
    torch.manual_seed(0)
    model = tiny().double()
    new = {n: p.clone() for n, p in model.named_parameters() if "enhanced" in n}
    transfer_baseline(model, baseline.state_dict())
    x = image(1, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        before, after = baseline(x), model(x)
    # A truth at which the baseline has 30 dB: its PSNR moves by less than 0.05 dB.
    noise = torch.randn(before.shape, generator=torch.Generator().manual_seed(0))
    truth = before + 10 ** (-30 / 20) * noise
    mse = [(out - truth).square().mean().log10() for out in (before, after)]
    assert abs(10 * (mse[0] - mse[1])) < 0.05
    assert model.conv_first.mix_weight.item() == -6
    state = model.state_dict()
    for name, value in new.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)
    transfer_baseline(model, baseline.state_dict(), mix_weight=0.1)
    assert model.conv_first.mix_weight.item() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("upsample.0.bias"), "upsample.0.bias is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra is unknown"),
        (
            lambda s: s.update({"conv_first.mix_weight": torch.zeros(())}),
            "mix_weight is unknown",
        ),
        (
            lambda s: s.update({"upsample.0.bias": torch.zeros(5)}),
            "is \\(5,\\) instead of",
        ),
    ],
)
def test_transfer_takes_nothing_but_a_baseline(spoil, message):
    state = tiny(use_rca=False).state_dict()
    spoil(state)
    with pytest.raises(ValueError, match=message):
        transfer_baseline(tiny(), state)


def test_transfer_needs_an_enhanced_path():
    baseline = tiny(use_rca=False)
    with pytest.raises(ValueError, match="use_rca=True"):
        transfer_baseline(baseline, baseline.state_dict())


def test_stages_grow_to_the_whole_network():
    model = tiny()
    trained = [
        {
            n
            for n, _ in model.named_parameters()
            if any(fnmatch.fnmatch(n, p) for p in ps)
        }
        for ps in STAGES.values()
    ]
    assert trained[0] < trained[1] < trained[2]
    baseline = set(dict(tiny(use_rca=False).named_parameters()))
    assert trained[0] == set(dict(model.named_parameters())) - baseline
    assert trained[1] - trained[0] == {
        n for n in baseline if n.startswith("conv_first")
    }
    assert trained[2] == set(dict(model.named_parameters()))


@pytest.mark.parametrize(("dim", "heads"), [(24, 0), (24, 5), (9, 3)])
def test_heads_share_the_width(dim, heads):
    with pytest.raises(ValueError, match="Expected embed_dim to be even"):
        tiny(embed_dim=dim, num_heads=heads)
