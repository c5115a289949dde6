"""Frames of a video through an upscaler: features carried on, or several at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..archs.paragonsr2_arch import MagicBase, ParagonSR2
from ..media.arrays import to_array, to_tensor
from ..strips import Read
from ..utils.halves import Fallback, all_finite
from . import memory
from .backends import GraphModel
from .channels import Channels
from .runner import Runner, finite_parts
from .scenes import SceneCuts
from .upscaler import Upscaler

logger = logging.getLogger(__name__)

ALPHA = 0.2  # the published share of the frame before
# Mean differences of two frames around a pixel, in units of the white level: up to the
# first it is noise, beyond the second something moves. Both are above noise of sigma 10
# of 255.
STILL, MOVES = 12 / 255, 24 / 255


def has_feature_tap(upscaler: Upscaler) -> bool:
    """Whether the upscaler's network can carry features from frame to frame."""
    if isinstance(upscaler.descriptor, GraphModel):
        return upscaler.descriptor.feature_channels is not None
    return isinstance(upscaler.descriptor.model, ParagonSR2)


class FrameUpscaler:
    """Upscales the frames of one video, in order.

    Args:
        upscaler: With a network of any kind.
        alpha: Share of the features of the frame before, 0 to 1; None for networks
            without a feature tap, or for every frame by itself.

    Raises:
        ValueError: when the network has no feature tap, or for another alpha.
    """

    def __init__(self, upscaler: Upscaler, alpha: float | None = None) -> None:
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
        self.state: Tensor | None = None
        self.before: Tensor | None = None
        self._cuts = SceneCuts()
        self._fallback = Fallback(
            self._tapped(upscaler.runner),
            upscaler.dtype,
            lambda: self._tapped(upscaler.fallback.wide),
        )

    def _tapped(self, runner: Runner) -> Runner:
        """Returns a runner that gives an image's features beside it."""
        network, alpha = runner.network, self.alpha

        def call(x: Tensor, before: Tensor | None = None) -> Any:
            return network(x, feature_tap=True, prev_feat=before, alpha=alpha)

        return Runner(
            runner.model,
            network,
            runner.device,
            runner.dtype,
            runner.limit,
            call,
            tiles=False,
        )

    def frames(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Upscales frames that follow each other.

        Args:
            frames: Each (H, W, 1 or 3), uint8 or uint16, all of one size.

        Returns:
            The frames, H and W times the scale.
        """
        if self.alpha is not None:
            return [self._blended(frame) for frame in frames]
        if len(frames) > 1 and self._fits(frames):
            return self._batch(frames)
        return [self.upscaler.image(frame) for frame in frames]

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
        self.before = memory.get("before")

    def _fits(self, frames: Sequence[np.ndarray]) -> bool:
        up = self.upscaler
        height, width, channels = frames[0].shape
        if up.tta or channels != up.descriptor.input_channels:
            return False
        size = up.border_of((height, width)).size((height, width))
        cost = up.runner.cost(size, batch=len(frames))
        return cost <= memory.budget(up.limit, up.device)

    def _batch(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        up = self.upscaler
        size = (frames[0].shape[0], frames[0].shape[1])
        border = up.border_of(size)

        def read(low: int, high: int) -> Tensor:
            return torch.cat([to_tensor(f[low:high], up.device) for f in frames])

        height, _ = border.size(size)
        stacked = border.reading(read, size)(0, height).to(up.dtype)
        whole = [(0, height, up.runner.whole([stacked])[0])]
        _, _, images = next(border.cut(whole, size, up.scale))
        if not all_finite(images):
            return [up.image(frame) for frame in frames]  # finds out which one it is
        return [to_array(i[None], f.dtype) for i, f in zip(images, frames, strict=True)]

    def _blended(self, frame: np.ndarray) -> np.ndarray:
        if self._cuts.starts(frame):
            if self.state is not None:
                logger.info("scene cut: features of the frame before are dropped")
            self.state = self.before = None
        if self._steadies and self.alpha:
            frame = self._steadied(frame, self.alpha)
        before, up = self.state, self.upscaler
        height, width, given = frame.shape
        channels = Channels(given, up.descriptor.input_channels)

        def read(low: int, high: int) -> Tensor:
            return channels.widen(to_tensor(frame[low:high], up.device))

        s, size = up.scale, (height, width)
        border = up.border_of(size)
        reads: list[Read] = [border.reading(read, size)]
        widths = [channels.wanted]
        if before is not None:
            reads.append(lambda low, high: before[:, :, low:high])
            widths.append(before.shape[1])
        out = np.empty((height * s, width * s, given), frame.dtype)
        features: Tensor | None = None
        whole = border.size(size)
        parts = finite_parts(self._fallback, reads, whole, widths, channels.batch)
        for output, low, high, rows in parts:
            if output == 0:
                for top, bottom, made in border.cut([(low, high, rows)], size, s):
                    image = channels.narrow(made.float())
                    out[top * s : bottom * s] = to_array(image, frame.dtype)
            elif high - low == whole[0]:
                features = rows
            else:
                if features is None or features.dtype != rows.dtype:
                    features = rows.new_empty((*rows.shape[:2], *whole))
                features[:, :, low:high] = rows
        assert features is not None
        self.state = features.to(up.dtype)
        return out

    def _steadied(self, frame: np.ndarray, alpha: float) -> np.ndarray:
        """Returns the frame, with a share of those before where nothing moves.

        The features carry on the detail alone. The published base path is a low-pass
        and has little noise to show; `mks2021` is sharp and passes all of it. Where
        something moves the frame stays as it is, so that no ghost is left.
        """
        now = to_tensor(frame, torch.device("cpu"))
        if self.before is not None:
            gap = self.before - now
            around = F.avg_pool2d(
                gap.mean(1, keepdim=True).abs(), 5, 1, 2, count_include_pad=False
            )
            share = ((MOVES - around) / (MOVES - STILL)).clamp(0, 1)
            now = now + alpha * share * gap
        self.before = now
        return to_array(now, frame.dtype)
