"""Bicubic upscaling gives the figures that papers print."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from paragon_archs.evaluation.protocols import (
    bicubic_of_luma,
    is_stored_gray,
    read_image,
)
from paragon_archs.media.paths import find_images

# Published PSNR-Y and SSIM-Y of bicubic upscaling: the tables of most papers.
KNOWN = {
    ("Set5", 2): (33.66, 0.9299),
    ("Set5", 3): (30.39, 0.8682),
    ("Set5", 4): (28.42, 0.8104),
    ("Set14", 2): (30.24, 0.8688),
    ("Set14", 3): (27.55, 0.7742),
    ("Set14", 4): (26.00, 0.7027),
}


@pytest.mark.parametrize(("name", "scale"), KNOWN, ids=str)
def test_known_bicubic_figures(root, name, scale):
    # The images' owners allow research, not copies in a repository.
    beside = str(root.parent / "shared" / "data" / "val")
    sets = os.environ.get("PARAGON_TEST_SETS", beside)
    folder = Path(sets) / name / f"x{scale}" / "HR"
    if not folder.is_dir():
        pytest.skip(f"{name} is not here; PARAGON_TEST_SETS names the folder of sets")
    scores = []
    for path in find_images(folder):
        high = read_image(path)
        high = high[:, : high.shape[1] // scale * scale]
        high = high[:, :, : high.shape[2] // scale * scale]
        scores.append(bicubic_of_luma(high, scale, is_stored_gray(path)))
    want_psnr, want_ssim = KNOWN[name, scale]
    assert np.mean([s["psnr_y"] for s in scores]) == pytest.approx(want_psnr, abs=0.03)
    assert np.mean([s["ssim_y"] for s in scores]) == pytest.approx(want_ssim, abs=0.002)
