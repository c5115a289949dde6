"""`paragon benchmark host`: what a video's frame costs the host beside the network."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
import torch
from torch import Tensor

from paragon_archs.archs import create
from paragon_archs.checkpoint import load_model
from paragon_archs.cli.common import EXIT_DONE, guarded, parser
from paragon_archs.inference import runner, staging
from paragon_archs.inference.borders import Border
from paragon_archs.inference.pipeline import pipeline
from paragon_archs.inference.temporal import ALPHA, FrameUpscaler
from paragon_archs.inference.upscaler import Upscaler
from paragon_archs.inference.video_options import VideoOptions
from paragon_archs.media.video import VideoSource
from paragon_archs.media.video_color import FromRGB
from paragon_archs.utils.allocator import keep_freed_memory
from paragon_archs.utils.optional import need

_SCALE = 2
_WARM = 8  # frames before the clock starts
_LATE = 24  # and after it stops: by then threads end


def main(argv: Sequence[str] | None = None) -> int:
    """Prints each thread's processor time per frame, for two kinds of device."""
    arguments = parser(
        "benchmark host",
        "Measures the processor time of each thread for one frame of a video at x2, "
        "encoder left out, with a network that does nothing: beside a device that "
        "computes by itself (torch's meta device stands in for it), and on the CPU, "
        "which does the device's part as well.",
        "paragon benchmark host",
        "paragon benchmark host --size 1920x1080 --frames 50",
    )
    arguments.add_argument("--frames", type=int, default=200, help="(%(default)s)")
    arguments.add_argument("--size", default="1280x720", help="(%(default)s)")
    options = arguments.parse_args(argv)
    keep_freed_memory()
    return guarded(lambda: _report(options))


def _report(options: argparse.Namespace) -> int:
    width, height = map(int, options.size.split("x"))
    print(f"Milliseconds of processor time for a frame of {options.size} to x{_SCALE}:")
    print("| thread | beside a device | on the CPU |")
    print("| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.mkv"
        _write(source, (height, width), options.frames)
        taken = [measure(source, device) for device in ("meta", "cpu")]
    for name in taken[0]:
        cells = (f"{threads.get(name, 0):.1f}" for threads in taken)
        print(f"| {name} | {' | '.join(cells)} |")
    cells = (f"{max(threads.values()):.1f}" for threads in taken)
    print(f"| the slowest | {' | '.join(cells)} |")
    return EXIT_DONE


def measure(source: Path, device: str) -> dict[str, float]:
    """Returns milliseconds of processor time per frame, by the name of the thread.

    Args:
        source: A video of at least 40 frames.
        device: `cpu`, or `meta` for one that computes by itself.
    """
    with VideoSource(source) as opened, contextlib.ExitStack() as stack:
        decoded = opened.frames()
        first = next(decoded)
        worker = _worker(stack, device, first.pixels.shape[:2])
        frames = pipeline(
            stack,
            decoded,
            worker,
            FromRGB(opened.look, "yuv420p"),
            VideoOptions(segment=10**6),
            done=0,
        )
        total = (opened.total or 0) - 1
        clocks: dict[int, dict[int, float]] = {}
        names: dict[int, str] = {}
        for count, _ in enumerate(frames):  # an encoder would take each one here
            if count in (_WARM, total - _LATE):
                names |= {t.native_id or 0: t.name for t in threading.enumerate()}
                clocks[count] = _clock()
    start, stop = clocks[_WARM], clocks[total - _LATE]
    taken: dict[str, float] = {}
    for thread, seconds in stop.items():
        spent = 1000 * (seconds - start.get(thread, 0)) / (total - _LATE - _WARM)
        name = names.get(thread, "a thread of FFmpeg or torch")
        taken[name] = max(taken.get(name, 0), spent)
    return dict(sorted(taken.items(), key=lambda item: -item[1]))


def _clock() -> dict[int, float]:
    """Returns the processor time of each thread of this process, in seconds."""
    threads = psutil.Process().threads()
    return {t.id: t.user_time + t.system_time for t in threads}


def _worker(
    stack: contextlib.ExitStack, device: str, size: tuple[int, int]
) -> FrameUpscaler:
    """Returns what upscales frames of (height, width) by a network that does nothing,
    and steadies them as `paragonsr2_realtime_x2` does."""
    place = torch.device(device)
    model = create("paragonsr2_realtime", _SCALE, base_kernel="mks2021")
    upscaler = Upscaler(load_model(model.state_dict()), place, "fp32")
    upscaler.border = Border(0)
    height, width = size
    image = torch.zeros(1, 3, height * _SCALE, width * _SCALE, device=place)
    features = torch.zeros(1, 1, height, width, device=place)
    upscaler.runner.network = _nothing(image, features)
    if device == "meta":  # which has no values to look at, nor to fetch
        there = np.zeros((height * _SCALE, width * _SCALE, 3), np.uint8)
        stack.enter_context(patch.object(runner, "all_finite", lambda _: True))
        stack.enter_context(
            patch.object(staging.Staging, "download", lambda *_: lambda: there)
        )
    return FrameUpscaler(upscaler, ALPHA)


def _nothing(image: Tensor, features: Tensor) -> Callable[..., tuple[Tensor, Tensor]]:
    def network(*_: object, **__: object) -> tuple[Tensor, Tensor]:
        return image, features

    return network


def _write(path: Path, size: tuple[int, int], count: int) -> None:
    av = need("av", "videos", "av")
    with av.open(str(path), "w") as container:
        settings = {"preset": "fast", "crf": "20"}
        stream = container.add_stream("libx264", rate=25, options=settings)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for picture in _pictures(size, count):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _pictures(size: tuple[int, int], count: int) -> Iterator[np.ndarray]:
    """Yields a soft texture with noise that moves by two pixels a frame."""
    rng = np.random.default_rng(0)
    height, width = size
    coarse = rng.random((height // 8 + 1, (width + 2 * count) // 8 + 1, 3))
    wide = np.kron(coarse, np.ones((8, 8, 1)))
    wide = (255 * (0.97 * wide + 0.03 * rng.random(wide.shape))).astype(np.uint8)
    for index in range(count):
        yield np.ascontiguousarray(wide[:height, 2 * index : 2 * index + width])
