"""Pictures and small films for the tests of video."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import av
import numpy as np
import pytest

from paragon_archs.inference.temporal import FrameUpscaler
from paragon_archs.inference.video import VideoOptions

LOSSLESS = VideoOptions(codec="ffv1", pixel_format="yuv444p", segment=7)


def scene(index, shift=0, height=48, width=64, seed=0):
    """A smooth random picture; `shift` moves it."""
    rng = np.random.default_rng(100 * seed)
    coarse = rng.uniform(20, 235, (8, 16, 3))
    y = (np.arange(height) * 8 / height).astype(int)
    x = (((np.arange(width) + shift) % width) * 16 / width).astype(int)
    return np.clip(coarse[y][:, x] + index % 3, 0, 255).astype(np.uint8)


def simple_video(file, frames, rate=25, codec="ffv1", pixel_format="yuv444p", tags=()):
    with av.open(str(file), "w") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height = frames[0].shape[1], frames[0].shape[0]
        stream.pix_fmt = pixel_format
        for name, value in dict(tags).items():
            setattr(stream.codec_context, name, value)
        deep = frames[0].dtype == np.uint16
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(
                picture, format="rgb48le" if deep else "rgb24"
            )
            frame.pts, frame.time_base = i, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def page(seed, height=180, width=320):
    """A page of text, nearly: rows of dark strokes on white."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 250, np.uint8)
    for top in range(20, height - 20, 14):
        strokes = rng.random((9, width - 60)) < 0.45
        strokes[:, rng.random(width - 60) < 0.2] = False  # between words
        picture[top : top + 9, 30:-30][strokes] = 20
    return picture


class StoppedError(Exception):
    """A run was stopped."""


@contextlib.contextmanager
def stopped(monkeypatch, after):
    """Stops the video that is upscaled in it after so many frames."""
    given, left = FrameUpscaler.upscale, iter(range(after))

    def some(self, pictures):
        if next(left, None) is None:
            raise StoppedError
        return given(self, pictures)

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(FrameUpscaler, "upscale", some)
        yield


def decoded(file):
    """Returns times in seconds and pictures of the first video stream."""
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        return [
            (float(f.pts * f.time_base), f.to_ndarray(format="rgb24"))
            for f in container.decode(stream)
        ]
