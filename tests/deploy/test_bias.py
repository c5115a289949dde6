"""The bias of a convolution as a pass of its own, which GPUs take for large maps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from paragon_archs.deploy import bias as biases
from paragon_archs.deploy.bias import add_bias, comes_apart
from paragon_archs.deploy.ops import conv, pointwise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_is_the_sum_that_torch_gives(batch, layout, dtype):
    y = torch.randn(batch, 5, 6, 7).to(dtype).contiguous(memory_format=layout)
    bias = torch.randn(5).to(dtype)
    wanted = y + bias.view(1, -1, 1, 1)
    got = add_bias(y, bias)
    assert got is y and torch.equal(got, wanted)


def test_a_bias_that_changes_is_read_anew():
    bias = torch.zeros(2)
    weight = torch.nn.Parameter(torch.zeros(2))
    for change in (lambda b: b.add_(1), lambda b: b.data.copy_(b.data + 1)):
        for b in (bias, weight):
            assert (
                add_bias(torch.zeros(1, 2, 3, 3), b.detach())
                .eq(b.detach().view(1, -1, 1, 1))
                .all()
            )
        with torch.no_grad():
            change(bias)
            change(weight)
    weight.data = torch.full((2,), 7.0)
    with torch.no_grad():
        assert add_bias(torch.zeros(1, 2, 3, 3), weight).eq(7).all()


@pytest.mark.parametrize("apart", [False, True])
def test_convolutions_give_the_same_in_both_ways(apart, monkeypatch):
    monkeypatch.setattr("paragon_archs.deploy.ops.comes_apart", lambda *_: apart)
    monkeypatch.setattr("paragon_archs.deploy.ops.fast", lambda _: False)
    x, add = torch.randn(2, 4, 9, 8), torch.randn(2, 6, 9, 8)
    kernel, wide = torch.randn(6, 4, 1, 1), torch.randn(4, 1, 3, 3)
    bias = torch.randn(6)
    with torch.inference_mode():
        torch.testing.assert_close(
            pointwise(x, kernel, bias, "gelu", add=add),
            F.gelu(F.conv2d(x, kernel, bias)) + add,
        )
        torch.testing.assert_close(
            conv(x, wide, bias[:4], 2, 4, dilation=2),
            F.conv2d(x, wide, bias[:4], padding=2, dilation=2, groups=4),
        )


def test_where_it_comes_apart(monkeypatch):
    """On cards alone, large maps alone, and where torch has no kernel that adds it."""
    asked = []
    monkeypatch.setattr(biases, "_is_faster", lambda *a: asked.append(a) or True)
    monkeypatch.setattr(biases, "LARGE", 64)
    square, strip = torch.zeros(4, 4, 1, 1), torch.zeros(4, 1, 1, 11)
    with torch.inference_mode():
        assert not comes_apart(torch.zeros(1, 4, 8, 8), square, 1, 1)  # on a CPU
        monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda _: True))
        for dtype in (torch.float16, torch.float32):
            x = torch.zeros(1, 4, 8, 8, dtype=dtype)
            assert comes_apart(x, square, 1, 1)
            deep = comes_apart(x, torch.zeros(4, 1, 3, 3), 1, 4)
            assert deep == (dtype is torch.float16)
            assert not comes_apart(x, torch.zeros(4, 1, 3, 3), 3, 4)
            assert not comes_apart(x, strip, 1, 4)
            assert not comes_apart(x[..., :1], square, 1, 1)
    assert len(asked) == 3
    assert not comes_apart(torch.zeros(1, 4, 8, 8), square, 1, 1)  # with gradients
