"""What holds for every network: sizes, gradients, arguments, precision."""

from __future__ import annotations

from typing import Any

import golden_cases as golden
import pytest
import torch
from common import SMALL_VARIANTS, image, randomise

import paragon_archs
from paragon_archs.archs import create

SCALES = (1, 2, 3, 4, 8)
small = pytest.mark.parametrize("name", SMALL_VARIANTS)


def build(name, scale=2, **overrides) -> Any:
    return randomise(create(name, scale, **{**SMALL_VARIANTS[name], **overrides}))


@small
@pytest.mark.parametrize("scale", SCALES, ids=lambda s: f"x{s}")
def test_any_size_gives_scale_times_it(name, scale):
    model = build(name, scale)
    assert model.scale == scale
    for height, width in ((1, 1), (7, 5), (9, 13)):
        with torch.no_grad():
            out = model(image(2, 3, height, width))
        assert out.shape == (2, 3, height * scale, width * scale)
        assert torch.isfinite(out).all()


@small
def test_images_of_a_batch_do_not_touch_each_other(name):
    model = build(name).double()
    x = image(3, 3, 9, 7, dtype=torch.float64)
    with torch.no_grad():
        apart = torch.cat([model(x[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(model(x), apart, rtol=0, atol=1e-10)


@small
def test_every_parameter_gets_a_gradient(name):
    model = build(name).train()
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert all(n.startswith("base.") for n in frozen)
    model(image(1, 3, 9, 11)).square().mean().backward()
    without = {
        n
        for n, p in model.named_parameters()
        if p.grad is None or not torch.isfinite(p.grad).all() or not p.grad.any()
    }
    # Softmax does not see what every key shares.
    without -= {n for n in without if n.endswith("k_proj.bias")}
    assert without == frozen


@small
def test_fresh_networks_train(name):
    """Freshly built, a step changes the output and stays finite."""
    torch.manual_seed(0)
    model = create(name, 2, **SMALL_VARIANTS[name]).train()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], 1e-3
    )
    x, y = image(1, 3, 8, 8), image(1, 3, 16, 16, seed=1)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = (model(x) - y).abs().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@small
def test_training_mode_computes_what_evaluation_computes(name):
    model = build(name)
    x = image(1, 3, 6, 7)
    with torch.no_grad():
        torch.testing.assert_close(model.train()(x), model.eval()(x), rtol=0, atol=0)


@small
def test_float32_is_within_1e_4_of_float64(name):
    model = build(name)
    x = image(1, 3, 12, 10)
    with torch.no_grad():
        out = model(x)
        exact = model.double()(x.double())
    assert exact.dtype == torch.float64
    assert (out - exact).abs().max() <= 1e-4 * exact.std()


@small
@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(name, channels):
    out = build(name, in_chans=channels)(image(1, channels, 6, 5))
    assert out.shape == (1, channels, 12, 10)


@small
def test_unknown_arguments_and_bad_scales_are_refused(name):
    with pytest.raises(TypeError, match="num_feet"):
        create(name, 2, num_feet=3)
    bad: Any
    for bad in (0, 9, 2.0, "2"):
        with pytest.raises(ValueError, match="Expected scale to be an integer"):
            create(name, bad)


@pytest.mark.parametrize("variant", paragon_archs.variants())
def test_variant_is_its_class_with_the_table_s_arguments(variant):
    with torch.device("meta"):
        model: Any = create(variant, 3)
    asked = paragon_archs.variants()[variant].items()
    assert asked <= model.hyperparameters.items()
    assert model.hyperparameters["scale"] == 3


@pytest.mark.parametrize(
    ("variant", "x4", "x2"),
    [
        ("paragonsr2_realtime", 44_620, 16_780),
        ("paragonsr2_stream", 221_068, 110_092),
        ("paragonsr2_photo", 1_188_428, 745_292),
        ("paragonsr2_pro", 2_436_556, 1_993_420),
        ("facesr", 134_199, None),
    ],
)
def test_published_parameter_counts(variant, x4, x2):
    for scale, count in ((4, x4), (2, x2)):
        with torch.device("meta"):
            model = create(variant, scale)
        if count is not None:
            assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("filler", ["common", "golden"])
@small
def test_claimed_half_precision_is_within_2_percent(name, filler, dtype):
    from paragon_archs.checkpoint import load_model

    model = build(name)
    if filler == "golden":
        model = golden.fill(model, 3, {"settings"}).float()
    descriptor = load_model(model.state_dict())
    claims = {
        torch.float16: descriptor.supports_half,
        torch.bfloat16: descriptor.supports_bfloat16,
    }
    if not claims[dtype]:
        assert name == "paragonsr2_pro"  # no other one misses it
        return
    x = image(1, 3, 12, 20)
    with torch.no_grad():
        want = model(x)
        got = model.to(dtype)(x.to(dtype))
    assert got.dtype == dtype
    assert torch.isfinite(got).all()
    assert (got.float() - want).square().mean().sqrt() <= 0.02 * want.std()
