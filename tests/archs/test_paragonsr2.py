"""ParagonSR2: base paths, attention modes, video, checkpointing, settings."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from common import image, randomise

from paragon_archs.archs import create
from paragon_archs.archs.paragonsr2_arch import magic_kernel_sharp_2021

TINY = {"num_feat": 16, "num_groups": 2, "num_blocks": 1, "window_size": 4}


def tiny(block="photo", scale=2, **overrides) -> Any:
    return randomise(
        create("ParagonSR2", scale, variant=block, **{**TINY, **overrides})
    )


def spline(x):
    """The Magic Kernel: the quadratic B-spline."""
    a = np.abs(x)
    inner, outer = 0.75 - a**2, 0.5 * (a - 1.5) ** 2
    return np.where(a <= 0.5, inner, np.where(a <= 1.5, outer, 0.0))


def sharp_kernel(x) -> Any:
    """MKS 2021 by its construction: the spline sharpened by a seven-tap filter.

    Its frequency response is sinc^3(f) (204 - 70 cos w + 12 cos 2w - 2 cos 3w) / 144.
    """
    taps = np.array([-1, 6, -35, 204, -35, 6, -1]) / 144
    return sum(t * spline(x - n) for t, n in zip(taps, range(-3, 4), strict=True))


def test_magic_kernel_formula_is_its_construction():
    x = torch.linspace(-5, 5, 4001, dtype=torch.float64)
    np.testing.assert_allclose(
        magic_kernel_sharp_2021(x).numpy(), sharp_kernel(x.numpy()), atol=1e-13
    )
    frequencies = np.array([0.1, 0.25, 0.5, 0.8])
    t = np.linspace(-4.5, 4.5, 200_001)
    w = 2 * np.pi * frequencies
    response = getattr(np, "trapezoid", getattr(np, "trapz", None))(
        sharp_kernel(t) * np.cos(w[:, None] * t), t, axis=1
    )
    wanted = np.sinc(frequencies) ** 3
    wanted *= (204 - 70 * np.cos(w) + 12 * np.cos(2 * w) - 2 * np.cos(3 * w)) / 144
    np.testing.assert_allclose(response, wanted, atol=1e-8)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_magic_base_is_the_resampler(scale):
    base = tiny("realtime", scale, base_kernel="mks2021", in_chans=2).base.double()
    x = image(2, 2, 5, 6, dtype=torch.float64)
    edge = np.pad(x.numpy(), ((0, 0), (0, 0), (9, 9), (9, 9)), mode="edge")

    def matrix(size):
        at = (np.arange(size * scale) + 0.5) / scale - 0.5
        weights = sharp_kernel(at[:, None] - (np.arange(size + 18) - 9))
        return weights / weights.sum(1, keepdims=True)

    want = np.einsum("yh,bchw,xw->bcyx", matrix(5), edge, matrix(6))
    # Its weights were made in float32.
    np.testing.assert_allclose(base(x).numpy(), want, atol=2e-7)
    flat = torch.full((1, 2, 3, 4), 0.7)
    assert (base.float()(flat) - 0.7).abs().max() <= 1e-6


def test_magic_base_is_seen_in_the_state_and_never_trains():
    model = tiny("realtime", base_kernel="mks2021")
    names = {n for n in model.state_dict() if n.startswith("base.")}
    assert names == {"base.mks2021.v.weight", "base.mks2021.h.weight"}
    assert not any(p.requires_grad for p in model.base.parameters())


def test_published_base_softens_and_darkens_the_border_as_documented():
    base = tiny("realtime", 2, upsampler_alpha=1.0).base
    checker = (torch.arange(12)[:, None] + torch.arange(12)) % 2
    checker = checker.float().expand(1, 3, 12, 12)
    assert base.sharp(checker)[..., 4:8, 4:8].std() < 1e-6  # gain 0 at Nyquist
    flat = base(torch.ones(1, 3, 12, 12))
    assert flat[..., 12, 12].min() > 0.999
    assert flat[..., 0, 0].max() < 0.7


@pytest.mark.parametrize("block", ["photo", "pro"])
def test_flex_equals_sdpa(block):
    model = tiny(block)
    flex = tiny(block, attention_mode="flex")
    flex.load_state_dict(model.state_dict())
    x = image(2, 3, 9, 7)
    with torch.no_grad():
        torch.testing.assert_close(flex(x), model(x), rtol=0, atol=1e-4)


def test_flex_that_cannot_run_is_one_clear_error():
    model = tiny(attention_mode="flex")  # torch has no backward of it on the CPU
    with pytest.raises(ValueError, match=r'on cpu under torch .* Use "sdpa"'):
        model(image(1, 3, 5, 5))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attention_mode", "flash"),
        ("variant", "foto"),
        ("base_kernel", "lanczos"),
        ("upsampler_alpha", 1.5),
        ("window_size", 7),
        ("window_size", 0),
        ("num_feat", 18),
    ],
)
def test_values_that_are_not_allowed(name, value):
    with pytest.raises(ValueError, match=f"Expected {name} to be"):
        create("ParagonSR2", 2, **{**TINY, name: value})


@pytest.mark.parametrize("block", ["photo", "pro"])
@pytest.mark.parametrize(
    "off", [{"export_safe": True}, {"attention_mode": None}], ids=str
)
def test_no_attention_means_no_attention_entries_and_none_are_dropped(block, off):
    whole, bare = tiny(block), tiny(block, **off)
    gone = set(whole.state_dict()) - set(bare.state_dict())
    parts = {"photo": {"attn_norm", "attn"}, "pro": {"norm3", "window_attn", "scale3"}}
    assert {n.split(".")[4] for n in gone} == parts[block]
    for strict in (True, False):
        with pytest.raises(RuntimeError, match="would be dropped"):
            bare.load_state_dict(whole.state_dict(), strict=strict)


def test_windows_shift_in_every_second_block_of_the_whole_body():
    model: Any = create("ParagonSR2", 2, num_feat=8, num_groups=2, num_blocks=3)
    shifts = [block.attn.shift for group in model.body for block in group.blocks]
    assert shifts == [0, 8, 0, 8, 0, 8]


@pytest.mark.parametrize("block", ["realtime", "stream", "photo", "pro"])
def test_checkpointing_gives_the_same_gradients(block):
    plain, lean = tiny(block), tiny(block, use_checkpointing=True)
    x = image(1, 3, 6, 7)
    for model in (plain.train(), lean.train()):
        model(x).square().mean().backward()
    for a, b in zip(plain.parameters(), lean.parameters(), strict=True):
        if a.requires_grad:
            torch.testing.assert_close(a.grad, b.grad)


def test_video_is_a_recursive_filter_of_features():
    model = tiny().double()
    x, y = (image(1, 3, 6, 5, seed=s, dtype=torch.float64) for s in (0, 1))
    with torch.no_grad():
        out, first = model(x, feature_tap=True)
        torch.testing.assert_close(out, model(x), rtol=0, atol=0)
        torch.testing.assert_close(first, model.conv_in(x), rtol=0, atol=0)
        _, second = model(y, feature_tap=True, prev_feat=first)
        want = 0.8 * model.conv_in(y) + 0.2 * first
        torch.testing.assert_close(second, want, rtol=0, atol=1e-12)
        still, kept = model(y, feature_tap=True, prev_feat=first, alpha=0.0)
        torch.testing.assert_close(kept, model.conv_in(y), rtol=0, atol=0)
        torch.testing.assert_close(still, model(y), rtol=0, atol=0)


def test_settings_survive_half_and_are_not_needed(caplog):
    model = tiny(upsampler_alpha=0.123456, window_size=6)
    state = model.half().state_dict()
    assert state["settings"].tolist() == [123456, 6]
    released = {k: v for k, v in state.items() if k != "settings"}
    other = tiny(upsampler_alpha=0.4)
    with caplog.at_level(logging.WARNING):
        other.load_state_dict(released, strict=True)
        assert not caplog.records
        # The constructor's arguments stay, and the difference is logged.
        other.load_state_dict(state, strict=True)
    assert other.settings.tolist() == [400000, 4]
    assert "which stays" in caplog.text


def test_assigning_weights_to_a_network_without_memory():
    model = tiny()
    with torch.device("meta"):
        shell = create("ParagonSR2", 2, **TINY)
    shell.load_state_dict(model.state_dict(), assign=True)
    x = image(1, 3, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(shell(x), model(x), rtol=0, atol=0)
