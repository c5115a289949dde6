"""Images that move: every frame goes through, into the same format or a video."""

from __future__ import annotations

import av
import numpy as np
import pytest

import paragon_archs
from paragon_archs.checkpoint import load_model
from paragon_archs.inference import Upscaler
from paragon_archs.inference.jobs import Sizing, plan, run
from paragon_archs.media.animations import (
    Animation,
    Frame,
    is_animated,
    write_animation,
)
from paragon_archs.media.images import Picture, WriteOptions, read_picture

DURATIONS = [100, 200, 50, 120]
KINDS = ("gif", "webp", "png", "apng")


@pytest.fixture(scope="module")
def upscaler():
    """A network that only resamples."""
    model = paragon_archs.create(
        "paragonsr2_realtime", 2, num_blocks=1, detail_gain=0.0, upsampler_alpha=0.0
    )
    return Upscaler(load_model(model.state_dict()), "cpu")


def animation(file, clear):
    """Writes flat frames; where `clear`, their left half shows nothing."""
    alpha = np.full((16, 24), 255, np.uint8)
    alpha[:, :12] = 0
    frames = [
        Frame(
            Picture(
                np.full((16, 24, 3), 40 + 50 * i, np.uint8), alpha if clear else None
            ),
            duration,
        )
        for i, duration in enumerate(DURATIONS)
    ]
    write_animation(frames, file, loop=3, lossless=True)
    return file


@pytest.mark.parametrize("clear", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_all_frames_go_through(kind, clear, upscaler, tmp_path):
    source = animation(tmp_path / f"in.{kind}", clear)
    jobs = plan([source], tmp_path / "out", format_="keep")
    assert not run(upscaler, jobs, WriteOptions(lossless=True), Sizing())
    with Animation(tmp_path / "out" / f"in.{kind}") as made:
        frames = list(made.frames())
        assert made.loop == 3
    assert [frame.duration for frame in frames] == DURATIONS
    for index, frame in enumerate(frames):
        assert frame.picture.size == (48, 32)
        # The edges of the picture darken, as any network's do.
        seen = frame.picture.pixels[6:-6, 30:-6].astype(int)
        assert np.abs(seen - 40 - 50 * index).max() <= 4
        assert clear == (frame.picture.alpha is not None)
        if frame.picture.alpha is not None:
            assert frame.picture.alpha[:, :20].max() == 0
            assert frame.picture.alpha[6:-6, 30:-6].min() >= 250


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_animation_becomes_a_video(kind, ending, upscaler, tmp_path):
    source = animation(tmp_path / f"in.{kind}", clear=False)
    out = tmp_path / f"out.{ending}"
    assert not run(upscaler, plan([source], out), WriteOptions())
    with av.open(str(out)) as container:
        frames = list(container.decode(video=0))
    shown = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in frames]
    assert [time for time, _ in shown] == pytest.approx([0, 0.1, 0.3, 0.35], abs=2e-3)
    for index, (_, picture) in enumerate(shown):
        assert picture.shape == (32, 48, 3)
        inner = picture[8:-8, 8:-8].astype(float)
        assert abs(inner.mean() - 40 - 50 * index) <= 4


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_obeyed(kind, upscaler, tmp_path):
    source = animation(tmp_path / f"in.{kind}", clear=False)
    jobs = plan([source], tmp_path / f"out.{kind}")
    assert not run(upscaler, jobs, WriteOptions(), Sizing(to=(30, 20)))
    with Animation(tmp_path / f"out.{kind}") as made:
        assert {frame.picture.size for frame in made.frames()} == {(30, 20)}


def test_a_still_stays_one(upscaler, tmp_path):
    animation(tmp_path / "a.gif", clear=False)
    assert is_animated(tmp_path / "a.gif")
    jobs = plan([tmp_path / "a.gif"], tmp_path / "first.jpg")
    assert not run(upscaler, jobs, WriteOptions())
    assert read_picture(tmp_path / "first.jpg").size == (48, 32)
    assert not is_animated(tmp_path / "first.jpg")
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    assert not is_animated(tmp_path / "broken.gif")


def test_a_damaged_animation_is_one_sentence(upscaler, tmp_path):
    source = animation(tmp_path / "in.gif", clear=False)
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 2 // 3])
    out = tmp_path / "out.gif"
    failed = run(upscaler, plan([source], out), WriteOptions())
    assert len(failed) == 1
    assert not out.exists()
