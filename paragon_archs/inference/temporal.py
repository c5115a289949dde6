"""Frames of a video through an upscaler: features carried on, or several at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..archs.paragonsr2_arch import MagicBase, ParagonSR2
from ..media.arrays import max_value, to_pixels
from ..strips import Read
from ..utils.halves import Fallback, all_finite
from ..utils.oom import is_out_of_memory, release
from . import memory
from .backends import GraphModel
from .channels import Channels
from .replay import can_replay
from .runner import Runner, finite_parts
from .scenes import SceneCuts
from .staging import Staging, Uploaded
from .upscaler import Upscaler

logger = logging.getLogger(__name__)

ALPHA = 0.2  # the published share of the frame before
# Mean differences of two frames around a pixel, in units of the white level: up to the
# first it is noise, beyond the second something moves. Both are above noise of sigma 10
# of 255.
STILL, MOVES = 12 / 255, 24 / 255


Result = Callable[[], np.ndarray]
"""Waits for an upscaled frame, (H, W, C), and returns it; any thread may call it."""


@dataclass(frozen=True)
class Prepared:
    """A frame that is ready to be upscaled.

    Attributes:
        frame: (H, W, 1 or 3), uint8 or uint16.
        sent: The same, on its way to the device.
        cut: Whether it starts a scene.
    """

    frame: np.ndarray
    sent: Uploaded
    cut: bool


def has_feature_tap(upscaler: Upscaler) -> bool:
    """Whether the upscaler's network can carry features from frame to frame."""
    if isinstance(upscaler.descriptor, GraphModel):
        return upscaler.descriptor.feature_channels is not None
    return isinstance(upscaler.descriptor.model, ParagonSR2)


def carried(upscaler: Upscaler, temporal: float | None) -> float | None:
    """Returns the share of the frame before that videos get; None for none.

    Args:
        upscaler: With a network of any kind.
        temporal: The share that was asked for, None for the usual one.
    """
    if temporal is None and has_feature_tap(upscaler):
        temporal = getattr(upscaler.descriptor, "alpha", None) or ALPHA
    return temporal or None


def check_replay(upscaler: Upscaler, alpha: float | None, cuda_graph: bool) -> None:
    """Finds out whether frames can be replayed as a CUDA graph, where that is asked.

    Raises:
        ValueError: when they cannot.
    """
    if not cuda_graph:
        return
    runs = alpha is not None and not isinstance(upscaler.descriptor, GraphModel)
    if not runs or not can_replay(upscaler.device):
        raise ValueError(
            "Expected weights that carry features from frame to frame, on an NVIDIA "
            f"card, for a CUDA graph, but got {upscaler.descriptor.architecture.name} "
            f"on {upscaler.device}. Leave the graph out."
        )


class FrameUpscaler:
    """Upscales the frames of one video, in order.

    Args:
        upscaler: With a network of any kind.
        alpha: Share of the features of the frame before, 0 to 1; None for networks
            without a feature tap, or for every frame by itself.
        cuda_graph: Whether the network, with its features, is replayed as one.

    Raises:
        ValueError: when the network has no feature tap, for another alpha, or where
            there are no CUDA graphs.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        alpha: float | None = None,
        cuda_graph: bool = False,
    ) -> None:
        check_replay(upscaler, alpha, cuda_graph)
        if alpha is not None and not has_feature_tap(upscaler):
            raise ValueError(
                "Expected a network with a feature tap (ParagonSR2) for the temporal "
                f"mode, but got {upscaler.descriptor.architecture.name}. Leave "
                "--temporal out."
            )
        if alpha is not None and not 0 <= alpha < 1:
            raise ValueError(
                f"Expected temporal to be from 0 to below 1, but got {alpha!r}. The "
                f"published value is {ALPHA}."
            )
        descriptor = upscaler.descriptor
        if isinstance(descriptor, GraphModel):
            self._steadies = descriptor.base_kernel == "mks2021"
            if alpha is not None and descriptor.alpha not in (None, alpha):
                logger.warning(
                    "the graph blends features with %g, which stays; %g was asked for",
                    descriptor.alpha,
                    alpha,
                )
                alpha = descriptor.alpha
        else:
            base = getattr(descriptor.model, "base", None)
            self._steadies = isinstance(base, MagicBase)
        self.upscaler = upscaler
        self.alpha = alpha
        self._replays = cuda_graph
        self.state: Tensor | None = None
        self.before: Tensor | None = None
        self._cuts = SceneCuts()
        self._staging = Staging(upscaler.device)
        self._batches = True  # until memory does not suffice
        self._fallback = Fallback(
            self._tapped(upscaler.runner),
            upscaler.dtype,
            lambda: self._tapped(upscaler.fallback.wide),
        )

    def _tapped(self, runner: Runner) -> Runner:
        """Returns a runner that gives an image's features beside it."""
        network, alpha = runner.network, self.alpha
        graph = None
        if alpha == ALPHA:  # that of graphs
            _, graph = self.upscaler.open_backend(video=True)

        def call(x: Tensor, before: Tensor | None = None) -> Any:
            return network(x, feature_tap=True, prev_feat=before, alpha=alpha)

        def in_graph(x: Tensor, before: Tensor | None = None) -> Any:
            assert graph is not None
            return graph(x, feature_tap=True, prev_feat=before)

        return Runner(
            runner.model,
            network,
            runner.device,
            runner.dtype,
            runner.limit,
            call,
            compile_=runner.compiles,
            tiles=False,
            graph=None if graph is None else in_graph,
            replays=self._replays,
        )

    def frames(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Upscales frames that follow each other.

        Args:
            frames: Each (H, W, 1 or 3), uint8 or uint16, all of one size.

        Returns:
            The frames, H and W times the scale.
        """
        results = self.upscale([self.prepare(frame) for frame in frames])
        return [result() for result in results]

    def prepare(self, frame: np.ndarray) -> Prepared:
        """Looks for a cut before a frame and sends it to the device.

        Frames come in order; a thread of its own may prepare them.
        """
        cut = self.alpha is not None and self._cuts.starts(frame)
        return Prepared(frame, self._staging.upload(frame), cut)

    def upscale(self, frames: Sequence[Prepared]) -> list[Result]:
        """Upscales frames that follow each other; see `frames`.

        Where they are computed on a GPU, the host waits for it once a frame.
        """
        up = self.upscaler
        if self.alpha is not None:
            return [self._blended(frame) for frame in frames]
        if up.tta:
            return [_there(up.image(frame.frame)) for frame in frames]
        if len(frames) > 1 and self._fits([frame.frame for frame in frames]):
            return self._batch(frames)
        return [self._one(frame, frame.sent.values()) for frame in frames]

    def skip(self, frame: np.ndarray) -> None:
        """Takes note of a frame that is already done."""
        if self.alpha is not None:
            self._cuts.starts(frame)

    def memory(self) -> dict[str, Tensor]:
        """Returns what the next frame needs of those before, to `restore` it later."""
        known = {"features": self.state, "before": self.before}
        return {name: x for name, x in known.items() if x is not None}

    def restore(self, memory: Mapping[str, Tensor]) -> None:
        """Goes on after a frame whose `memory` was kept."""
        features = memory.get("features")
        self.state = None if features is None else features.to(self.upscaler.device)
        before = memory.get("before")
        self.before = None if before is None else before.to(self.upscaler.device)

    def _fits(self, frames: Sequence[np.ndarray]) -> bool:
        up = self.upscaler
        height, width, channels = frames[0].shape
        if not self._batches or channels != up.descriptor.input_channels:
            return False
        size = up.border_of((height, width)).size((height, width))
        cost = up.runner.cost(size, batch=len(frames))
        return cost <= memory.budget(up.limit, up.device)

    def _batch(self, frames: Sequence[Prepared]) -> list[Result]:
        up = self.upscaler
        height, width, _ = frames[0].frame.shape
        border = up.border_of((height, width))
        values = torch.cat([frame.sent.values() for frame in frames])

        def read(low: int, high: int) -> Tensor:
            return values[:, :, low:high]

        rows, _ = border.size((height, width))
        stacked = border.reading(read, (height, width))(0, rows).to(up.dtype)
        try:
            whole = [(0, rows, up.runner.whole([stacked])[0])]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release(up.device)
            logger.warning("out of memory: going on frame by frame")
            self._batches = False
            return [self._one(frame, frame.sent.values()) for frame in frames]
        _, _, images = next(border.cut(whole, (height, width), up.scale))
        if not all_finite(images):  # finds out which one it is
            return [self._one(frame, frame.sent.values()) for frame in frames]
        return [
            self._staging.download(to_pixels(image[None], frame.sent.dtype))
            for image, frame in zip(images, frames, strict=True)
        ]

    def _blended(self, frame: Prepared) -> Result:
        if frame.cut:
            if self.state is not None:
                logger.info("scene cut: features of the frame before are dropped")
            self.state = self.before = None
        values = frame.sent.values()
        if self._steadies and self.alpha:
            values = self._steadied(values, max_value(frame.sent.dtype), self.alpha)
        return self._one(frame, values)

    def _one(self, frame: Prepared, values: Tensor) -> Result:
        """Upscales a frame, of `values` (1, C, H, W); carries features on, if any."""
        before, up = self.state, self.upscaler
        height, width, given = frame.frame.shape
        channels = Channels(given, up.descriptor.input_channels)

        def read(low: int, high: int) -> Tensor:
            return channels.widen(values[:, :, low:high])

        s, size = up.scale, (height, width)
        border = up.border_of(size)
        reads: list[Read] = [border.reading(read, size)]
        widths = [channels.wanted]
        if before is not None:
            reads.append(lambda low, high: before[:, :, low:high])
            widths.append(before.shape[1])
        image: Tensor | None = None
        features: Tensor | None = None
        whole = border.size(size)
        fallback = up.fallback if self.alpha is None else self._fallback
        parts = finite_parts(fallback, reads, whole, widths, channels.batch)
        for output, low, high, rows in parts:
            if output == 0:
                for top, bottom, made in border.cut([(low, high, rows)], size, s):
                    part = to_pixels(channels.narrow(made.float()), frame.sent.dtype)
                    image = _placed(image, part, 0, (top * s, bottom * s), height * s)
            else:
                features = _placed(features, rows, 2, (low, high), whole[0])
        assert image is not None
        if self.alpha is not None:
            assert features is not None
            self.state = features.to(up.dtype)
        return self._staging.download(image)

    def _steadied(self, now: Tensor, levels: int, alpha: float) -> Tensor:
        """Returns a frame with a share of those before where nothing moves.

        The features carry on the detail alone. The published base path is a low-pass
        and has little noise to show; `mks2021` is sharp and passes all of it. Where
        something moves the frame stays as it is, so that no ghost is left.

        Args:
            now: (1, C, H, W) in [0, 1].
            levels: Its largest integer, to which the result is rounded.
            alpha: The share.
        """
        if self.before is not None:
            gap = self.before - now
            around = F.avg_pool2d(
                gap.mean(1, keepdim=True).abs(), 5, 1, 2, count_include_pad=False
            )
            share = ((MOVES - around) / (MOVES - STILL)).clamp(0, 1)
            now = now + alpha * share * gap
        self.before = now
        return now.clamp(0, 1).mul_(levels).add_(0.5).floor_().div_(levels)


def _placed(
    whole: Tensor | None, part: Tensor, axis: int, rows: tuple[int, int], height: int
) -> Tensor:
    """Puts some rows into the whole, which they may be themselves."""
    low, high = rows
    if high - low == height:
        return part
    if whole is None or whole.dtype != part.dtype:
        sizes = list(part.shape)
        sizes[axis] = height
        whole = part.new_empty(sizes)
    whole.narrow(axis, low, high - low).copy_(part)
    return whole


def _there(frame: np.ndarray) -> Result:
    return lambda: frame
