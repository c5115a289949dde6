"""The shipped weights: sizes, cards, names, and that they beat bicubic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw, ImageFont

from paragon_archs.checkpoint import load_model, read_metadata
from paragon_archs.cli.upscale import main as upscale
from paragon_archs.evaluation.measures import luma, psnr, quantize, shave
from paragon_archs.evaluation.protocols import (
    as_jpeg,
    crop_to_multiple,
    downscale_like_matlab,
)
from paragon_archs.inference import Upscaler
from paragon_archs.utils.drawings import drawing
from paragon_archs.utils.resize import imresize
from paragon_archs.weights import (
    DEFAULTS,
    FOLDER,
    JPEG_DEFAULTS,
    available,
    default,
    resolve,
)

OPTIONS = Path(__file__).resolve().parents[2] / "options" / "weights"
LARGEST = 6_000_000  # bytes of a shipped file
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
SHIPPED = available()
# dB over bicubic on the grainiest photograph; where the usual model gains 0.4 itself.
LEAST_GAIN = {"paragonsr2_realtime_x4_jpeg": 0.2}
# ParagonSR has no base path, and its norms know no flat picture: its card says so.
WITH_BASE = [name for name in SHIPPED if name.startswith("paragonsr2")]


@pytest.mark.parametrize("defaults", [DEFAULTS, JPEG_DEFAULTS])
def test_the_models_that_upscale_uses_ship(defaults):
    for scale, name in defaults.items():
        assert load_model(resolve(name)).scale == scale


def test_a_scale_without_a_shipped_model_is_refused():
    with pytest.raises(ValueError, match="shipped model has"):
        default(5)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_file_has_its_card_and_recipe(name):
    path = SHIPPED[name]
    assert path.stat().st_size <= LARGEST
    card = path.with_suffix(".md").read_text()
    for heading in (
        "## Data",
        "## Recipe",
        "## Figures",
        "## Weaknesses",
        "## Licence",
    ):
        assert heading in card, heading
    recipe = yaml.safe_load((OPTIONS / f"{name}.yml").read_text())
    descriptor = load_model(path)
    assert recipe["name"] == name and descriptor.scale == recipe["scale"]
    assert recipe["network_g"]["type"] in descriptor.tags
    assert f"options/weights/{name}.yml" in card
    count = sum(p.numel() for p in descriptor.model.parameters())
    assert f"{count:,}" in card
    known = read_metadata(path)
    assert (known.get("steps") or known["iteration"]) in card.replace(",", "")


def photographs(scale):
    """Yields (LR (1, 3, h, w) in [0, 1], HR (3, H, W) uint8) of scikit-image's own."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    for photograph in PHOTOGRAPHS:
        array = np.ascontiguousarray(getattr(data, photograph)()[:240, :240, :3])
        high = crop_to_multiple(torch.from_numpy(array).permute(2, 0, 1), scale)
        yield downscale_like_matlab(high, scale)[None].float() / 255, high


@pytest.mark.parametrize("name", SHIPPED)
def test_every_model_beats_bicubic_on_photographs(name):
    descriptor = load_model(SHIPPED[name])
    scale = descriptor.scale
    gains = []
    for low, high in photographs(scale):
        want = shave(luma(high.double()), scale)
        ours, plain = (
            psnr(shave(luma(quantize(out[0])), scale), want)
            for out in (descriptor(low), imresize(low, scale))
        )
        gains.append(ours - plain)
    assert min(gains) > LEAST_GAIN.get(name, 0.3), dict(
        zip(PHOTOGRAPHS, gains, strict=True)
    )


@pytest.mark.parametrize("quality", [85, 75, 50])
@pytest.mark.parametrize("name", [n for n in SHIPPED if n.endswith("_jpeg")])
def test_a_model_for_jpeg_is_the_better_one_for_it(name, quality):
    ours, usual = (load_model(SHIPPED[n]) for n in (name, name.removesuffix("_jpeg")))
    scale = ours.scale
    gains = []
    for low, high in photographs(scale):
        saved = as_jpeg((low[0] * 255).round().byte(), quality)[None] / 255
        want = shave(luma(high.double()), scale)
        best, *others = (
            psnr(shave(luma(quantize(out[0])), scale), want)
            for out in (ours(saved), usual(saved), imresize(saved, scale))
        )
        gains.append(best - max(others))
    assert sum(gains) / len(gains) > 0.2, gains


def hard_pictures():
    """Yields (what it is, (1, 3, 40, 40) in [0, 1]): what photographs do not show."""
    y, x = np.mgrid[:40, :40]
    noise = np.random.default_rng(0).random((40, 40, 3))
    pictures = {
        "a white dot": (x == 20) & (y == 20),
        "an edge": x > 19,
        "stripes": x % 2 == 0,
        "wide stripes": x // 3 % 2 == 0,
        "a checkered pattern": (x + y) % 2 == 0,
        "noise": noise,
        "black and white noise": noise[..., 0] > 0.5,
        "noise of full colors": noise > 0.5,
    }
    for what, array in pictures.items():
        rgb = np.broadcast_to(np.atleast_3d(array), (40, 40, 3)).astype(np.float32)
        yield what, torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None]


@pytest.mark.parametrize("name", SHIPPED)
def test_no_picture_makes_a_model_explode(name):
    """Products of features do, by thousands, if photographs are all they ever saw."""
    descriptor = load_model(SHIPPED[name])
    for what, low in hard_pictures():
        if what == "a white dot" and name not in WITH_BASE:
            continue  # all that ParagonSR's norms find in the picture: its card says so
        with torch.inference_mode():
            out = descriptor.model(low)  # not clamped, as the descriptor's answer is
        assert -3 < out.min() and out.max() < 4, what


def writing():
    """Yields 36 pictures (H, W, 1) of white letters on black."""
    font = ImageFont.load_default()
    for text in ("Hallogj", "The quick", "0123 45", "@#&%W", "paragon", "iIl|!:;"):
        for place in ((5, 20), (2, 2), (12, 24), (7, 9), (0, 13), (9, 5)):
            image = Image.new("L", (64, 40))
            ImageDraw.Draw(image).text(place, text, 255, font=font)
            yield np.asarray(image)[..., None]


@pytest.mark.parametrize("name", SHIPPED)
def test_letters_at_full_contrast_leave_the_rest_black(name):
    """Gray blobs stood beside them, of up to 255 where bicubic is below 8."""
    upscaler = Upscaler(SHIPPED[name], "cpu")
    for letters in writing():
        low = torch.from_numpy(letters.copy()).permute(2, 0, 1)[None].float() / 255
        plain = imresize(low, upscaler.scale)[0, 0].numpy()
        assert upscaler.image(letters)[..., 0][plain < 8 / 255].max() <= 96


@pytest.mark.parametrize("name", SHIPPED)
def test_letters_and_shapes_come_out_better_than_by_bicubic(name):
    descriptor = load_model(SHIPPED[name])
    scale = descriptor.scale
    rng = np.random.default_rng(7)  # not the seed of the training's drawings
    gains = []
    while len(gains) < 8:
        high = drawing(rng, 120, scale)
        low = downscale_like_matlab(high, scale)[None].float() / 255
        plain = psnr(quantize(imresize(low, scale)[0]), high.double())
        if plain < 40:  # not a picture of one color
            gains.append(psnr(quantize(descriptor(low)[0]), high.double()) - plain)
    assert sum(gains) / len(gains) > 0.3, gains


@pytest.mark.parametrize("name", SHIPPED)
def test_the_border_is_better_than_bicubic_s(name):
    """What `psnr` with its shaved border does not see."""
    descriptor = load_model(SHIPPED[name])
    scale = descriptor.scale
    errors = torch.zeros(2)
    for low, high in photographs(scale):
        for index, out in enumerate((descriptor(low), imresize(low, scale))):
            error = (out[0].clamp(0, 1) - high / 255).square()
            errors[index] += error.sum() - shave(error, scale).sum()
    assert errors[0] < errors[1]


@pytest.mark.parametrize("name", WITH_BASE)
@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_a_flat_picture_stays_flat_to_its_border(name, level):
    """The published base path of ParagonSR2 darkens it by up to a third."""
    descriptor = load_model(SHIPPED[name])
    out = descriptor(torch.full((1, 3, 24, 24), level))[0]
    off = 255 * (out - level).abs().amax(0)
    reach = 2 * descriptor.scale  # pixels that a corner sees the most of
    edges = torch.cat((off[reach:-reach].flatten(), off[:, reach:-reach].flatten()))
    assert edges.max() < 5
    assert off.max() < 16


def test_resolve_takes_names_and_paths(tmp_path):
    name, path = next(iter(SHIPPED.items()))
    assert resolve(name) == path == FOLDER / f"{name}.safetensors"
    other = tmp_path / "other.safetensors"
    other.write_bytes(path.read_bytes())
    assert resolve(other) == other
    with pytest.raises(FileNotFoundError, match=f"Did you mean {name}"):
        resolve(name.replace("_", "-"))


def test_upscale_uses_them_by_default_and_says_which(tmp_path, capsys):
    source = tmp_path / "in.png"
    Image.new("RGB", (12, 9), (200, 90, 30)).save(source)
    for extra, name in (([], default(4)), (["--model", default(2)], default(2))):
        out = tmp_path / f"{name}.png"
        assert upscale([str(source), "-o", str(out), "--device", "cpu", *extra]) == 0
        assert (name in capsys.readouterr().out.split()) == (not extra)
        scale = load_model(resolve(name)).scale
        with Image.open(out) as opened:
            assert opened.size == (12 * scale, 9 * scale)
