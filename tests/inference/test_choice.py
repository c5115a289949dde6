"""Which shipped model runs when none is named."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from paragon_archs import weights
from paragon_archs.inference.choice import choose
from paragon_archs.media.jpeg import jpeg_quality


@pytest.fixture
def picture():
    y, x = np.mgrid[:40, :56]
    wave = 127 + 100 * np.sin(x / 2.3) * np.cos(y / 3.1)
    return Image.fromarray(np.stack([wave, 255 - wave, wave], -1).astype(np.uint8))


@pytest.mark.parametrize("quality", [20, 30, 50, 75, 85, 95])
def test_the_quality_is_read_from_the_header(picture, tmp_path, quality):
    picture.save(tmp_path / "a.jpg", quality=quality)
    assert abs(jpeg_quality(tmp_path / "a.jpg") - quality) <= 1


def test_other_files_have_none(picture, tmp_path):
    picture.save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8 no JPEG")
    for name in ("a.png", "b.jpg", "c.jpg"):
        assert jpeg_quality(tmp_path / name) is None


@pytest.mark.parametrize("scale", weights.DEFAULTS)
def test_the_input_decides(scale, picture, tmp_path):
    coarse, fine, clean = (tmp_path / n for n in ("c.jpg", "f.jpg", "p.png"))
    picture.save(coarse, quality=70)
    picture.save(fine, quality=98)
    picture.save(clean)
    usual, for_jpeg = weights.DEFAULTS[scale], weights.JPEG_DEFAULTS[scale]
    for inputs, name in (
        ([coarse], for_jpeg),
        ([fine], usual),
        ([clean], usual),
        ([coarse, clean], usual),  # not most of them
        ([tmp_path], usual),
        ([tmp_path / "*.jpg", coarse], for_jpeg),
        ([tmp_path / "nothing.jpg"], usual),
    ):
        assert choose([str(i) for i in inputs], scale)[0] == name, inputs
    assert choose([str(coarse)], scale)[1] == "JPEG of quality 70"


def test_a_scale_without_a_shipped_model_is_refused(picture, tmp_path):
    picture.save(tmp_path / "a.jpg", quality=70)
    with pytest.raises(ValueError, match="scale that a shipped model has"):
        choose([str(tmp_path / "a.jpg")], 3)
