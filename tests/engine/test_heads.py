"""The head of ParagonSR and ParagonSR2 in training: merged, and fitted."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from common import image, randomise
from torch import nn

from paragon_archs import create
from paragon_archs.deploy.head import merged_kernel
from paragon_archs.utils.registry import HAS_BASICSR

if not HAS_BASICSR:
    pytest.skip("needs BasicSR", allow_module_level=True)

from paragon_archs.engine.heads import fit_head, merge_head, split_head

SYSTEMS = [("paragonsr2_realtime", 2), ("paragonsr2_stream", 3), ("paragonsr_nano", 4)]
INSIDE = (..., slice(1, -1), slice(1, -1))  # `conv_out` pads the outermost pixels


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_merged_kernel_is_both_convolutions(scale, offset):
    if scale == 1 and offset:
        return
    up = nn.Conv2d(3, 2 * scale**2, 3, padding=1).double()
    out = nn.Conv2d(2, 3, 3, padding=1).double()
    x = image(1, 3, 8, 9, dtype=torch.float64)
    want = out(F.pixel_shuffle(up(x), scale))
    assert up.bias is not None and out.bias is not None
    kernel = merged_kernel(up.weight, up.bias, out.weight, out.bias, scale, offset)
    got = F.pixel_shuffle(F.conv2d(x, *kernel, padding=2), scale)
    got = got[..., offset : offset + 8 * scale, offset : offset + 9 * scale]
    torch.testing.assert_close(got[INSIDE], want[INSIDE])


@pytest.mark.parametrize(("variant", "scale"), SYSTEMS)
def test_a_merged_head_has_the_network_s_values_and_gradients(variant, scale):
    model = randomise(create(variant, scale)).double()
    merged = copy.deepcopy(model)
    merge_head(merged)
    x = image(1, 3, 11, 14, dtype=torch.float64)
    weights = [p for p in model.parameters() if p.requires_grad]
    others = [p for p in merged.parameters() if p.requires_grad]
    wanted, got = model(x)[INSIDE], merged(x)[INSIDE]
    torch.testing.assert_close(got, wanted)
    want = torch.autograd.grad(wanted.square().sum(), weights)
    gradients = torch.autograd.grad(got.square().sum(), others)
    for a, b in zip(gradients, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)
    assert list(merged.state_dict()) == list(model.state_dict())
    split_head(merged)
    assert torch.equal(merged(x), model(x))


def test_other_networks_get_one_sentence():
    for apply in (merge_head, lambda net: fit_head(net, [])):
        with pytest.raises(ValueError, match="Expected network_g to be a ParagonSR or"):
            apply(create("resshuffle", 2))


@pytest.mark.parametrize("variant", ["paragonsr2_realtime", "paragonsr_nano"])
def test_a_fitted_head_is_the_best_for_its_features(variant):
    model = randomise(create(variant, 2))
    targets = [F.avg_pool2d(image(4, 3, 40, 40, seed=i), 3, 1, 1) for i in range(6)]
    batches = [(F.avg_pool2d(target, 2), target) for target in targets]
    inside = (..., slice(4, -4), slice(4, -4))

    def error() -> float:
        with torch.no_grad():
            gaps = [(model(x) - y)[inside].square().mean().item() for x, y in batches]
        return sum(gaps) / len(gaps)

    fit_head(model, batches)
    best = error()
    assert best < sum(y.var().item() for y in targets) / len(targets)
    names = ("up.0.weight", "upsampler.0.weight")
    up = next(p for name, p in model.named_parameters() if name in names)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        nudge = 1e-3 * torch.randn(up.shape, generator=generator)
        with torch.no_grad():
            up.add_(nudge)
        assert error() > best
        with torch.no_grad():
            up.sub_(nudge)
