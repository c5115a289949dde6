"""Scene cuts: what is one, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
from video_common import page, scene

from paragon_archs.inference.scenes import SceneCuts


def cuts(pictures):
    detector = SceneCuts()
    return [i for i, p in enumerate(pictures) if detector.starts(p)]


def test_hard_cuts_are_found():
    pictures = [scene(i, shift=i, seed=i // 5) for i in range(20)]
    assert cuts(pictures) == [0, 5, 10, 15]


def test_flashes_fades_and_pans_are_no_cuts():
    base = scene(0, height=135, width=240).astype(float)
    flash = [base, np.clip(base * 1.7 + 30, 0, 255), base]
    fade = [base * (1 - i / 12) for i in range(13)]
    dissolve = [
        base * (1 - i / 10) + scene(0, height=135, width=240, seed=3) * (i / 10)
        for i in range(11)
    ]
    pan = [scene(0, shift=12 * i, height=135, width=240) for i in range(8)]
    rng = np.random.default_rng(0)
    noise = [np.clip(base + rng.normal(0, 12, base.shape), 0, 255) for _ in range(4)]
    for pictures in (flash, fade, dissolve, pan, noise):
        assert cuts([np.asarray(p).astype(np.uint8) for p in pictures]) == [0]


SLIDES = {
    "text": [page(0), page(1)],
    "white text on black": [255 - page(0), 255 - page(1)],
    "mirrored": [scene(0, height=135, width=240), scene(0, 0, 135, 240)[:, ::-1]],
    "upside down": [scene(0, height=135, width=240), scene(0, 0, 135, 240)[::-1]],
    "a mirrored page": [page(0), page(0)[:, ::-1]],
}


@pytest.mark.parametrize("pictures", SLIDES.values(), ids=SLIDES)
def test_cuts_between_like_histograms_are_found(pictures):
    one, two = pictures
    assert cuts([one, one, two, two, one]) == [0, 2, 4]


def test_text_that_moves_or_grows_is_no_cut():
    long = page(3, height=400)
    scrolled = [long[top : top + 180] for top in range(0, 60, 12)]
    rng = np.random.default_rng(0)
    noisy = [page(0) + rng.normal(0, 12, (180, 320, 3)) for _ in range(4)]
    typed = [page(0).copy() for _ in range(6)]
    for shown, picture in enumerate(typed):
        picture[20 + 14 * (shown + 4) :] = 250
    for pictures in (scrolled, noisy, typed):
        assert cuts([np.clip(p, 0, 255).astype(np.uint8) for p in pictures]) == [0]
