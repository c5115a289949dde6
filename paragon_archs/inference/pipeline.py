"""A video's frames from the decoder to the encoder, a thread for each step."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from ..media.resizing import resized
from ..media.video import SourceFrame
from ..media.video_color import FromRGB
from .overlap import prefetch
from .temporal import FrameUpscaler, Prepared
from .video_options import VideoOptions

T = TypeVar("T")


@dataclass
class MadeFrame:
    """An upscaled frame.

    Attributes:
        picture: What the encoder takes; before that, what waits for the pixels.
        time: In the source's ticks.
        duration: Likewise; 0 where it is unknown.
        state: What the worker remembers after a part's last frame.
    """

    picture: Any
    time: int
    duration: int
    state: dict[str, Tensor]


def pipeline(
    threads: contextlib.ExitStack,
    frames: Iterable[SourceFrame],
    worker: FrameUpscaler,
    convert: FromRGB,
    options: VideoOptions,
    done: int,
) -> Iterable[MadeFrame]:
    """Returns upscaled frames as the encoder takes them.

    Decoding, sending, computing and converting each have a thread, which ends before
    `threads` does.
    """

    def thread(items: Iterable[T], depth: int, name: str) -> Iterable[T]:
        return threads.enter_context(
            contextlib.closing(prefetch(items, depth, f"video: {name}"))
        )

    decoded = thread(frames, 4, "decode")
    prepared = thread(_prepared(worker, decoded, done), 2, "prepare")
    computed = thread(_computed(worker, prepared, options, done), 2, "compute")
    return thread(_converted(computed, convert, options), 2, "convert")


def _prepared(
    worker: FrameUpscaler, frames: Iterable[SourceFrame], done: int
) -> Iterator[tuple[SourceFrame, Prepared]]:
    for index, frame in enumerate(frames):
        if index < done:  # in a part of an earlier run
            worker.skip(frame.pixels)
        else:
            yield frame, worker.prepare(frame.pixels)


def _computed(
    worker: FrameUpscaler,
    frames: Iterable[tuple[SourceFrame, Prepared]],
    options: VideoOptions,
    done: int,
) -> Iterator[MadeFrame]:
    """Yields frames whose `picture` is what waits for the result."""
    batch = 1 if worker.alpha is not None else options.batch  # each needs the last one
    iterator = iter(frames)
    while waiting := list(itertools.islice(iterator, batch)):
        results = worker.upscale([prepared for _, prepared in waiting])
        for (frame, _), result in zip(waiting, results, strict=True):
            done += 1
            state = {} if done % options.segment else worker.memory()
            yield MadeFrame(result, frame.time, frame.duration, state)


def _converted(
    frames: Iterable[MadeFrame], convert: FromRGB, options: VideoOptions
) -> Iterator[MadeFrame]:
    for frame in frames:
        frame.picture = convert(_brought(frame.picture(), options))
        yield frame


def _brought(pixels: np.ndarray, options: VideoOptions) -> np.ndarray:
    """Returns a result in the size that was asked for."""
    size = options.size(pixels.shape[1], pixels.shape[0])
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    return resized(pixels, None, size)[0]
