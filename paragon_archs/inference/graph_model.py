"""What an exported graph of any runtime is to an upscaler."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from spandrel import SizeRequirements
from torch import Tensor


class GraphModel:
    """A graph that is called like a network; what an upscaler asks of a descriptor.

    Attributes:
        scale: Upscaling factor.
        input_channels: Channels of the image.
        feature_channels: Channels of `prev_feat` in a graph for video, else None.
        alpha: Share of `prev_feat` in its blend, where the graph records it.
        base_kernel: ParagonSR2's base path in a graph for video, where it is recorded.
        metadata: Metadata, sorted by name.
        digest: Of the file.
        size_requirements: None in graphs with dynamic sizes.
        bytes_per_pixel: What a pixel of the input takes at the most, where it is known.
        largest: Height and width that it takes at the most, None for any.
        static: Whether it takes that size alone.
        architecture: Its `name` and `id`.
        supports_half: Graphs take float32 alone.
        supports_bfloat16: Likewise.
    """

    def __init__(self, file: Path, name: str) -> None:
        self.digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.architecture = SimpleNamespace(name=name, id=name)
        self.size_requirements = SizeRequirements()
        self.supports_half = self.supports_bfloat16 = False
        self.scale = 0
        self.input_channels = 3
        self.feature_channels: int | None = None
        self.alpha: float | None = None
        self.base_kernel: str | None = None
        self.metadata: dict[str, str] = {}
        self.bytes_per_pixel: float | None = None
        self.largest: tuple[int, int] | None = None
        self.static = False
        self._picture = 0  # which of the results
        self._inputs: list[str] = []

    def run(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """Runs the graph; returns the image, and the features of a video graph."""
        raise NotImplementedError

    def __call__(
        self,
        x: Tensor,
        feature_tap: bool = False,
        prev_feat: Tensor | None = None,
        alpha: float | None = None,
    ) -> Any:
        """Runs the graph on (B, C, H, W); `alpha` was fixed when it was exported."""
        inputs = {"input": x}
        if self.feature_channels is not None:
            if prev_feat is None:  # all zeros mean that there is no frame before
                shape = (x.shape[0], self.feature_channels, *x.shape[2:])
                prev_feat = x.new_zeros(shape)
            inputs["prev_feat"] = prev_feat
        results = self.run(inputs)
        return tuple(results[:2]) if feature_tap else results[self._picture]

    def _read(
        self, shapes: Mapping[str, Sequence[Any]], metadata: Mapping[str, str]
    ) -> None:
        """Takes what an ONNX graph says about itself.

        Args:
            shapes: Name of an input -> its sides, an `int` where one is fixed.
            metadata: By name.

        Raises:
            ValueError: when it takes no images of any size.
        """
        self._inputs = list(shapes)
        image = shapes.get("input", next(iter(shapes.values())))
        if len(image) != 4 or any(isinstance(n, int) for n in image[2:]):
            raise ValueError(
                f"Expected a graph for images (B, C, H, W) of any size, but got "
                f"{image}. Export it without --static."
            )
        self.input_channels = image[1] if isinstance(image[1], int) else 3
        self.metadata = dict(sorted(metadata.items()))
        if "bytes_per_pixel" in metadata:
            self.bytes_per_pixel = float(metadata["bytes_per_pixel"])
        if "prev_feat" in shapes:
            self.feature_channels = shapes["prev_feat"][1]
            if metadata.get("architecture") == "ParagonSR2":
                self.alpha = float(metadata["alpha"])
                self.base_kernel = json.loads(metadata["arguments"])["base_kernel"]

    def _named(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns inputs under the names that the graph has for them."""
        if "input" in self._inputs:
            return inputs
        return {self._inputs[0]: inputs["input"]}

    def _take_shapes(self, results: Sequence[Tensor], side: int) -> None:
        """Takes note of what a square of `side` pixels becomes."""

    def _measure(self, file: Path) -> None:
        """Finds the image among the results, and the scale, by a run on a small one."""
        side = 16
        x = torch.zeros(1, self.input_channels, side, side)
        if self.feature_channels is None:
            results = self.run({"input": x})
            self._take_shapes(results, side)
            sizes = [
                r.shape[2] if r.ndim == 4 and r.shape[1] in (1, 3, 4) else 0
                for r in results
            ]
            self._picture = sizes.index(max(sizes))
        else:
            shape = (1, self.feature_channels, side, side)
            results = self.run({"input": x, "prev_feat": torch.zeros(shape)})
            self._take_shapes(results, side)
        y = results[self._picture]
        self.scale = y.shape[2] // side if y.ndim == 4 else 0
        if self.scale < 1 or y.shape[2] != self.scale * side:
            raise ValueError(
                f"Expected {str(file)!r} to upscale by a whole number, but got "
                f"{tuple(y.shape)} from {tuple(x.shape)}. Export it again."
            )
