"""Frames a second: networks alone, and whole videos."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...deploy import deploy_model
from ...fuse import fuse_model
from ...inference.layout import LAYOUTS, arrange
from ...inference.temporal import ALPHA, FrameUpscaler
from ...inference.upscaler import Upscaler
from ...inference.video import VideoOptions, upscale_video
from ...strips import StripEngine
from ...utils.dtypes import dtype_of
from ...utils.optional import need
from .bench import SCALE, Bench, gigabytes, milliseconds
from .report import Row, Section, attempt

_FORMS = {"fused": fuse_model, "deploy": deploy_model}
_COMPILED = ("paragonsr2_realtime", "paragonsr_nano")  # a minute each
_VIDEO = ("paragonsr2_realtime_x2", "paragonsr2_stream_x2")


def networks(bench: Bench) -> Section:
    """Returns the table of every network on a frame."""
    dtype = "fp32" if bench.small else "fp16"
    return Section(
        f"{bench.frame} to x{SCALE} in {dtype}",
        "Milliseconds of the network alone, per form and memory layout; frames a "
        "second of the fastest.",
        (
            "network",
            *(f"{form} {layout}" for form in _FORMS for layout in LAYOUTS),
            "frames/s",
        ),
        {
            name: functools.partial(_network, bench, name, dtype)
            for name in bench.variants
        },
    )


def _network(bench: Bench, name: str, dtype: str) -> Row:
    plain, taken = bench.network(name), []
    for form in _FORMS.values():
        network = form(plain).to(bench.device, dtype_of(dtype))
        for layout in LAYOUTS.values():
            arrange(network, layout)
            taken.append(bench.seconds(_call(bench, network, dtype, layout)))
    return Row([*map(milliseconds, taken), f"{1 / min(taken):.1f}"])


def _call(
    bench: Bench,
    network: Callable[..., object],
    dtype: str,
    layout: torch.memory_format = torch.contiguous_format,
) -> Callable[[], object]:
    x = bench.image(*bench.size).to(bench.device, dtype_of(dtype))
    x = x.contiguous(memory_format=layout)

    @torch.inference_mode()
    def call() -> object:
        return network(x)

    return call


def compiled(bench: Bench) -> Section:
    """Returns the table of networks that torch compiles."""
    lines = {name: functools.partial(_compiled, bench, name) for name in _COMPILED}
    return Section(
        "Compiled by torch",
        f"Milliseconds of the deploy form, {bench.frame} in fp16, and the seconds that "
        "compiling took.",
        ("network", "as it is", "compiled", "compiling, s"),
        lines,
    )


def _compiled(bench: Bench, name: str) -> Row:
    network = deploy_model(bench.network(name)).to(bench.device, torch.float16)
    before = bench.seconds(_call(bench, network, "fp16"))
    call = _call(bench, torch.compile(network), "fp16")
    start = time.perf_counter()
    call()
    bench.wait()
    taken = time.perf_counter() - start
    after = bench.seconds(call)
    return Row([milliseconds(before), milliseconds(after), f"{taken:.0f}"])


def memory(bench: Bench) -> Section:
    """Returns the table of peaks against what this pack expects."""
    lines = {name: functools.partial(_memory, bench, name) for name in bench.variants}
    columns = [f"{d} {kind}" for d in ("fp16", "fp32") for kind in ("peak", "estimate")]
    return Section(
        "Memory",
        f"GiB beyond the weights for {bench.frame} in one piece.",
        ("network", *columns),
        lines,
    )


def _memory(bench: Bench, name: str) -> Row:
    cells = []
    for dtype in ("fp16", "fp32"):
        network = deploy_model(bench.network(name)).to(bench.device, dtype_of(dtype))
        call = _call(bench, network, dtype)
        if not bench.small:
            call()  # libraries take their own once
        cells.append(gigabytes(bench.peak(call)))
        cells.append(gigabytes(StripEngine(network).peak(bench.size)))
    return Row(cells)


def videos(bench: Bench) -> Section:
    """Returns the table of frames a second in a video."""
    lines = {name: functools.partial(_video, bench, name) for name in _VIDEO}
    return Section(
        "Video",
        f"Frames a second of {bench.frame} to x{SCALE}, features carried on: the "
        "network on the device, one frame after the other from and to the host's "
        "memory, the same with the network as one CUDA graph if it gives the same, a "
        "whole file with encoding by x264 (ultrafast), one that the card decodes, and "
        "one that it encodes.",
        (
            "model",
            "network",
            "frames in memory",
            "in memory, as a graph",
            "file",
            "decoded by the card",
            "encoded by the card",
        ),
        lines,
    )


def _video(bench: Bench, name: str) -> Row:
    upscaler = Upscaler(name, bench.device)
    count = 4 if bench.small else 96
    frames = list(_frames(*bench.size, count))
    network: nn.Module = upscaler.runner.network
    x = bench.image(*bench.size).to(bench.device, upscaler.dtype)
    with torch.inference_mode():
        _, before = network(x, feature_tap=True)
        call = functools.partial(network, x, True, before, ALPHA)
        alone = 1 / bench.seconds(call)
    run = functools.partial(_in_memory, upscaler, frames)
    run()  # page-locked memory is taken, and the layout chosen
    rows = [Row([f"{count / _timed(run):.1f}"])]
    rows.append(Row(["not on a CPU"]))
    ways = [VideoOptions(codec="libx264", preset="ultrafast")]
    if bench.device.type == "cuda":
        rows[1] = attempt(functools.partial(_replayed, upscaler, frames))
        ways.append(dataclasses.replace(ways[0], decoder="cuda"))
        ways.append(VideoOptions(codec="h264_nvenc"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.mkv"
        _write(source, frames)
        rows += [
            attempt(functools.partial(_file, upscaler, source, count, options))
            for options in ways
        ]
    cells = [f"{alone:.1f}", *(row.cells[0] for row in rows)]
    return Row(cells, all(row.held for row in rows))


def _file(upscaler: Upscaler, source: Path, count: int, options: VideoOptions) -> Row:
    output = source.with_name(f"{options.codec}.mkv")
    run = functools.partial(
        upscale_video, upscaler, source, output, options, progress=False
    )
    return Row([f"{count / _timed(run):.1f}"])


def _in_memory(
    upscaler: Upscaler, frames: Sequence[np.ndarray], cuda_graph: bool = False
) -> np.ndarray:
    """Returns the last of the upscaled frames."""
    moving = FrameUpscaler(upscaler, ALPHA, cuda_graph)
    for frame in frames[:-1]:
        moving.frames([frame])
    return moving.frames([frames[-1]])[0]


def _replayed(upscaler: Upscaler, frames: Sequence[np.ndarray]) -> Row:
    """Returns frames a second of a graph, whose memory no frame may share."""
    run = functools.partial(_in_memory, upscaler, frames, True)
    last, wanted = run().astype(int), _in_memory(upscaler, frames).astype(int)
    held = bool(np.abs(last - wanted).max() <= 1)
    shown = f"{len(frames) / _timed(run):.1f}"
    return Row([shown if held else f"**{shown}, another picture**"], held)


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _frames(height: int, width: int, count: int) -> Iterator[np.ndarray]:
    """Yields frames of a soft texture that moves by two pixels each."""
    rng = np.random.default_rng(0)
    coarse = rng.random((height // 8 + 1, (width + 2 * count) // 8 + 1, 3))
    wide = np.kron(coarse, np.ones((8, 8, 1)))
    wide = (255 * (0.9 * wide + 0.1 * rng.random(wide.shape))).astype(np.uint8)
    for index in range(count):
        yield np.ascontiguousarray(wide[:height, 2 * index : 2 * index + width])


def _write(path: Path, frames: Sequence[np.ndarray]) -> None:
    av = need("av", "videos", "paragon-archs[video]")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "fast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))
