"""Every convolution of every variant trains with gradients that are right."""

from __future__ import annotations

import copy

import pytest
import torch
from common import image, randomise
from torch import nn

from paragon_archs import create, variants
from paragon_archs.utils.registry import HAS_BASICSR

if not HAS_BASICSR:
    pytest.skip("needs BasicSR", allow_module_level=True)

from paragon_archs.engine import convolutions
from paragon_archs.engine.convolutions import Way, error, kind_of, make_trainable
from paragon_archs.engine.precision import Precision

CPU = torch.device("cpu")
BF16_LAST = Way(torch.bfloat16, torch.channels_last)
DILATED = nn.Conv2d(32, 32, 3, padding=3, dilation=3, groups=32)


def kinds_of(variant):
    with torch.device("meta"):
        network = create(variant, 2)
    found = {}
    for module in network.modules():
        if isinstance(module, convolutions.KINDS):
            found.setdefault(kind_of(module), module)
    return found


@pytest.mark.parametrize("variant", variants())
def test_each_kind_computes_in_a_way_that_is_right(variant):
    for kind in kinds_of(variant):
        if max(kind[1:3]) > 512:
            continue  # as wide ones of fewer channels
        way = convolutions.right_way(kind, BF16_LAST, CPU)
        assert error(kind, BF16_LAST, way, CPU) < convolutions.TOLERANCES[way.dtype]


def test_a_wrong_way_is_left_with_one_line(caplog, monkeypatch):
    """Whatever this machine's kernels do: bfloat16 is called wrong here."""
    monkeypatch.setitem(convolutions.TOLERANCES, torch.bfloat16, 0.0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    net = net.to(memory_format=torch.channels_last)
    plain = copy.deepcopy(net)
    with caplog.at_level("WARNING", logger="basicsr"):
        make_trainable(net, Precision("bf16", CPU), torch.channels_last, CPU)
    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 2  # one for each kind
    assert "Conv2d 8 to 8, 3x3 computes in fp32, channels last" in lines[1]
    x = image(1, 3, 12, 12).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, plain(x))
    assert list(net.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("shape", [(2, 24), (8, 48), (4, 49)])
def test_a_dilated_depthwise_convolution_trains_in_bfloat16(shape):
    """oneDNN's weight gradient is off by 140% with channels last, and NaN at times."""
    batch, side = shape
    net = nn.Sequential(copy.deepcopy(DILATED))
    x = image(batch, 32, side, side)
    grad = image(batch, 32, side, side, seed=1) - 0.5
    net(x).backward(grad)
    fast = copy.deepcopy(net).to(memory_format=torch.channels_last)
    fast.zero_grad()
    make_trainable(fast, Precision("bf16", CPU), torch.channels_last, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        y = fast(x.contiguous(memory_format=torch.channels_last))
    y.backward(grad.contiguous(memory_format=torch.channels_last).to(y.dtype))
    want, got = (next(n.parameters()).grad for n in (net, fast))
    assert want is not None and got is not None
    assert (got - want).norm() < 0.03 * want.norm()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_stream_tier_s_fast_gradients_are_the_network_s(precision):
    model = randomise(create("paragonsr2_stream", 2))
    fast = copy.deepcopy(model).to(memory_format=torch.channels_last)
    chosen = Precision(precision, CPU)
    make_trainable(fast, chosen, torch.channels_last, CPU)
    x = image(4, 3, 48, 48)
    gradients = []
    for net, dtype in ((model, None), (fast, precision)):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            y = net(x)
        loss = y.float().square().mean()
        weights = {n: p for n, p in net.named_parameters() if p.requires_grad}
        got = torch.autograd.grad(loss, list(weights.values()))
        gradients.append(dict(zip(weights, got, strict=True)))
    exact, rounded = gradients
    bound = 1e-4 if precision == "fp32" else 0.06
    for name, gradient in exact.items():
        if name.endswith("dw3.weight") or precision == "fp32":
            gap = (rounded[name] - gradient).norm()
            assert gap < bound * gradient.norm() + 1e-7, name
