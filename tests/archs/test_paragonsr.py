"""ParagonSR: its published counts and its fused form."""

from __future__ import annotations

import pytest
import torch
from common import image, randomise

import paragon_archs
from paragon_archs.archs.paragonsr_arch import gated_mish
from paragon_archs.fuse import fuse_model, is_fused


@pytest.mark.parametrize(
    ("variant", "training", "fused"),
    [
        ("paragonsr_nano", 112_215, 109_623),
        ("paragonsr_xs", 622_659, 604_227),
        ("paragonsr_s", 1_652_547, 1_597_251),
        ("paragonsr_m", 5_319_939, None),
        ("paragonsr_l", 13_104_771, None),
        ("paragonsr_xl", 27_411_843, None),
    ],
)
def test_parameter_counts_are_the_published_ones(variant, training, fused):
    model = paragon_archs.create(variant)
    assert sum(p.numel() for p in model.parameters()) == training
    if fused:
        assert sum(p.numel() for p in fuse_model(model).parameters()) == fused


@pytest.mark.parametrize("scale", range(1, 9))
@pytest.mark.parametrize("branch_scales", [False, True])
def test_fused_equals_training_form(scale, branch_scales):
    model = paragon_archs.create(
        "paragonsr_nano", scale, branch_scales=branch_scales, num_groups=1
    )
    randomise(model.double())
    fused = fuse_model(model)
    x = image(2, 3, 9, 7, dtype=torch.float64)
    assert is_fused(fused)
    assert not is_fused(model)
    assert next(fused.parameters()).dtype == torch.float64
    torch.testing.assert_close(fused(x), model(x), rtol=0, atol=1e-9)
    assert fused(x).shape == (2, 3, 9 * scale, 7 * scale)


def test_folding_gives_the_gradients_of_three_branches():
    model = randomise(paragon_archs.create("paragonsr_nano", 2, num_groups=1).double())
    mixer = model.body[0].blocks[0].transformer.spatial_mixer
    x = image(1, 36, 6, 5, dtype=torch.float64)
    branches = (mixer.conv3x3, mixer.conv1x1, mixer.dw_conv3x3)
    apart = sum(branch(x) for branch in branches)
    torch.testing.assert_close(mixer(x), apart, rtol=0, atol=1e-12)
    parameters = list(mixer.parameters())
    weights = torch.linspace(-1, 1, apart.numel(), dtype=torch.float64)
    wanted = torch.autograd.grad((apart.flatten() * weights).sum(), parameters)
    got = torch.autograd.grad((mixer(x).flatten() * weights).sum(), parameters)
    for have, want in zip(got, wanted, strict=True):
        torch.testing.assert_close(have, want, rtol=0, atol=1e-11)


def test_a_layer_called_fuse_is_no_method():
    model = paragon_archs.create("paragonsr2_stream", 2)
    assert is_fused(model)
    assert fuse_model(model).state_dict().keys() == model.state_dict().keys()


def test_gated_mish_is_mish_times_inner_with_its_gradients():
    gate = torch.cat((torch.linspace(-60, 60, 241), torch.tensor([-1e4, 0.0, 1e4])))
    gate = gate.double().requires_grad_()
    inner = torch.linspace(-2, 3, gate.numel(), dtype=torch.float64).requires_grad_()
    wanted, got = torch.nn.functional.mish(gate) * inner, gated_mish(gate, inner)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    weights = torch.linspace(1, -2, gate.numel(), dtype=torch.float64)
    for have, want in zip(
        torch.autograd.grad(got, (gate, inner), weights),
        torch.autograd.grad(wanted, (gate, inner), weights),
        strict=True,
    ):
        torch.testing.assert_close(have, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("side", [4, -3, 0])
def test_kernels_are_odd_and_positive(side):
    for name in ("square_kernel_size", "band_kernel_size"):
        with pytest.raises(ValueError, match=f"Expected {name} to be odd"):
            paragon_archs.create("paragonsr_nano", 2, **{name: side})
