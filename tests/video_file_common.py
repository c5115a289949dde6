"""The test videos, and what is read of results."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from paragon_archs.inference.video import VideoOptions, upscale_video
from paragon_archs.media.video import VideoSource

DATA = Path(__file__).resolve().parent / "data" / "video"


ENDINGS = ("mp4", "mkv", "mov", "webm", "m4v")


LOSSLESS = VideoOptions(codec="ffv1", pixel_format="yuv444p")


def upscaled(upscaler, name, ending, folder, options=None):
    """Upscales one of the test's files."""
    out = folder / f"out.{ending}"
    upscale_video(upscaler, DATA / name, out, options, progress=False)
    return out


def pictures(file):
    with VideoSource(file) as source:
        return [frame.pixels.astype(int) for frame in source.frames()]


def corners(picture):
    height, width = picture.shape[:2]
    rows, columns = (height // 6, -height // 6), (width // 6, -width // 6)
    return [picture[y, x].tolist() for y in rows for x in columns]


def film(
    file, frames=3, sound=None, metadata=None, size=(32, 16), codec="libx264", rate=25
):
    """Writes gray frames and, where asked for, silence."""
    with av.open(str(file), "w") as out:
        video = out.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.metadata.update(metadata or {})
        audio = None
        if sound is not None:
            audio = out.add_stream(sound, rate=48000)
        for index in range(frames):
            picture = np.full((size[1], size[0], 3), (40 + 20 * index) % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = index, Fraction(1, rate)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            kind = audio.codec_context.format.name
            kinds = {"s16": np.int16, "s32": np.int32}
            shape = (1, 3200) if kind in kinds else (2, 1600)
            silence = np.zeros(shape, kinds.get(kind, np.float32))
            frame = av.AudioFrame.from_ndarray(silence, format=kind, layout="stereo")
            frame.sample_rate, frame.pts = 48000, 0
            out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
    return file
