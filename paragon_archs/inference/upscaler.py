"""The upscaler: a network, a device, and pictures that go through."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from spandrel import ImageModelDescriptor
from torch import Tensor, nn

from ..checkpoint import load_model
from ..deploy import deploy_model
from ..media.alpha import fill_clear, keep_range
from ..media.arrays import (
    check_array,
    max_value,
    rounded,
    to_array,
    to_tensor,
)
from ..media.images import Picture, read_picture
from ..utils.halves import Fallback
from ..utils.symmetry import SYMMETRIES, transform
from ..weights import resolve
from . import memory
from .backends import GRAPH_SUFFIXES, GraphModel, load_graph
from .borders import LARGEST, Border, find_border
from .channels import Channels
from .devices import pick_device, pick_dtype
from .memory import parse_memory, warn_if_taken
from .runner import Runner, finite_parts
from .runtimes import (
    ThreadGraph,
    check_backend,
    export_graph,
    open_backend,
    weights_digest,
    worth_exporting,
)


class SpoiledError(Exception):
    """Half precision spoiled a picture of which rows are given away already."""


class Upscaler:
    """Upscales pictures with one network.

    Whatever the memory, the result of a network whose rows can be followed (every one
    of this pack) is that of the whole image; others are run in overlapping tiles. Where
    a network is wrong at its border, the whole image is the one that `border` continues
    by reflection.

    Args:
        model: A weight file (this pack's or any that spandrel opens), the name of a
            shipped model, an `.onnx` graph or a TensorRT engine (`.trt`), or a
            descriptor as `paragon_archs.checkpoint.load_model` returns it.
        device: `auto` (cuda, then mps, then cpu), or a torch device.
        dtype: `auto` (fp16 on cuda where the network allows it, else fp32), `fp32`,
            `fp16` or `bf16`.
        memory: `auto` (what is free), or a size like `4G`: the most that the process
            (on a CPU) or the device may hold.
        tta: Whether to average over the eight flips and turns.
        providers: For ONNX graphs: `cpu`, `cuda`, `tensorrt`, `dml`, `coreml`, the
            preferred first.
        compile_: Whether torch compiles the network for runs in one piece.
        backend: `torch`, `onnxruntime` or `openvino`: what runs the network on a CPU in
            float32, from the same weights; `auto`: the one that was measured to be the
            fastest for the network, where its graph waits in the cache (`export` puts
            it there). A graph is exported the first time that its backend is named.

    Raises:
        FileNotFoundError: when the weight file does not exist.
        ValueError: when it holds no network from image to image, or for a setting that
            is not allowed.
    """

    def __init__(
        self,
        model: str | Path | ImageModelDescriptor[nn.Module] | GraphModel,
        device: str | torch.device = "auto",
        dtype: str = "auto",
        memory: str = "auto",
        tta: bool = False,
        providers: Sequence[str] = (),
        compile_: bool = False,
        backend: str = "auto",
    ) -> None:
        self.device = pick_device(device)
        self.limit = parse_memory(memory)
        self.tta = tta
        if isinstance(model, (str, Path)):
            file = resolve(model)
            if file.suffix.lower() in GRAPH_SUFFIXES:
                use = backend == "openvino"
                model = load_graph(file, self.device, providers, openvino=use)
            else:
                model = load_model(file, self.device)
        self.descriptor = model
        self.scale = model.scale
        self.dtype = pick_dtype(dtype, self.device, model)
        if compile_ and backend not in ("auto", "torch"):
            raise ValueError(
                f"Expected one of --compile, which is torch's, and --backend, but got "
                f"{backend!r} and the other. Leave one out."
            )
        self._wanted = "torch" if compile_ else backend
        check_backend(self._wanted, model, self.device, self.dtype)
        self._start(compile_)
        warn_if_taken(self.limit, self.device)

    def _start(self, compile_: bool = False) -> None:
        """Makes what runs the network."""
        self.backend, graph = self.open_backend()
        self.runner = self._runner(self.dtype, compile_, graph)
        self.fallback = Fallback(
            self.runner, self.dtype, lambda: self._runner(torch.float32)
        )

    def _runner(
        self,
        dtype: torch.dtype,
        compile_: bool = False,
        graph: ThreadGraph | None = None,
    ) -> Runner:
        """Returns what runs the network in a dtype, made of the original weights."""
        model = self.descriptor
        network: object = model
        if isinstance(model, ImageModelDescriptor):
            network = deploy_model(model).to(self.device, dtype).eval()
        tiles = not (isinstance(model, GraphModel) and model.static)
        return Runner(
            model,
            network,
            self.device,
            dtype,
            self.limit,
            compile_=compile_,
            tiles=tiles,
            graph=graph,
        )

    def open_backend(self, video: bool = False) -> tuple[str, ThreadGraph | None]:
        """Returns the backend's name and its graph, None for torch.

        Args:
            video: Whether the graph carries features from frame to frame.
        """
        return open_backend(
            self._wanted, self.descriptor, self.device, self.dtype, video
        )

    def worth_exporting(self, pixels: float, video: bool = False) -> str | None:
        """Returns the backend by which so many pixels repay the export of a graph.

        None where there is none, or where a backend was asked for.
        """
        if self._wanted != "auto":
            return None
        model = self.descriptor
        return worth_exporting(model, self.device, self.dtype, pixels, video)

    def export(self, video: bool = False) -> None:
        """Exports the network's graph into the cache and takes it where it is faster.

        Raises:
            ValueError: when the export fails; the upscaler is what it was.
            OSError: when the cache cannot be written.
        """
        assert isinstance(self.descriptor, ImageModelDescriptor)
        export_graph(self.descriptor, video)
        if not video:
            self._start()

    def image(self, array: np.ndarray) -> np.ndarray:
        """Upscales one picture.

        Args:
            array: (H, W) or (H, W, C), C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and
                alpha; uint8, uint16, or float32 in [0, 1].

        Returns:
            The same layout and dtype, H and W times `scale`.

        Raises:
            ValueError: for another shape or dtype, or when the network gives values
                that are not finite.
        """
        check_array(array)
        layers = array.reshape(*array.shape[:2], -1)
        colors = 3 if layers.shape[2] >= 3 else 1
        alpha = None if layers.shape[2] == colors else layers[..., colors]
        pixels, alpha = self._upscale(layers[..., :colors], alpha)
        if alpha is not None:
            pixels = np.concatenate([pixels, alpha[..., None]], axis=2)
        return pixels[..., 0] if array.ndim == 2 else pixels

    def picture(self, picture: Picture, dtype: np.dtype | None = None) -> Picture:
        """Upscales a picture; profile, EXIF and resolution are kept.

        Args:
            picture: The picture.
            dtype: Of the result: uint8, uint16, or float32 for values that are not
                rounded; by default the picture's.
        """
        layers = self._upscale(picture.pixels, picture.alpha, dtype)
        return picture.with_pixels(*layers)

    def rows(
        self, picture: Picture, dtype: np.dtype
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Upscales a picture without holding the result; not with `tta`.

        Yields:
            Rows of its pixels and of its alpha, from the top down.

        Raises:
            SpoiledError: when rows that were yielded before come once more.
            ValueError: as `image`.
        """
        pixels, alpha = picture.pixels, picture.alpha
        if alpha is None:
            for colors in self._from_the_top(pixels):
                yield to_array(colors, dtype), None
            return
        low, wide = 0, np.dtype(np.float32)
        layers = (fill_clear(pixels, alpha), alpha[..., None])
        for parts in _aligned(*(self._from_the_top(layer) for layer in layers)):
            opacity = to_array(parts[1], wide)[..., 0]
            keep_range(opacity, alpha, low)
            low += len(opacity) // self.scale
            yield to_array(parts[0], dtype), rounded(opacity, dtype)

    def _from_the_top(self, pixels: np.ndarray) -> Iterator[Tensor]:
        """Yields the rows of a result in order, each once."""
        at = 0
        waiting: dict[int, tuple[int, Tensor]] = {}
        for low, high, rows in self._rows(pixels):
            if low < at:
                raise SpoiledError("rows that half precision spoiled come once more")
            waiting[low] = high, rows
            while at in waiting:
                at, ready = waiting.pop(at)
                yield ready

    def images(self, paths: Iterable[str | Path]) -> Iterator[tuple[Path, Picture]]:
        """Reads and upscales image files one by one.

        Yields:
            Each path with its upscaled picture, for `write_picture`.
        """
        for path in paths:
            yield Path(path), self.picture(read_picture(path))

    def identity(self) -> dict[str, str]:
        """Returns what results depend on: the weights' digest and the settings."""
        if isinstance(self.descriptor, GraphModel):
            return {
                "weights": self.descriptor.digest,
                "tta": str(self.tta),
                "border": str(self.border.width),
            }
        return {
            "weights": weights_digest(self.descriptor.model),
            "dtype": str(self.dtype),
            "tta": str(self.tta),
            "border": str(self.border.width),
        }

    def _upscale(
        self,
        pixels: np.ndarray,
        alpha: np.ndarray | None,
        dtype: np.dtype | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Upscales (H, W, 1 or 3) values and their (H, W) opacity."""
        dtype = dtype or pixels.dtype
        if alpha is None or bool((alpha == max_value(alpha.dtype)).all()):
            upscaled = self._layer(pixels, dtype)
            if alpha is None:
                return upscaled, None
            return upscaled, np.full(upscaled.shape[:2], max_value(dtype), dtype)
        # The network sees no cut-out against black, but colors that go on.
        upscaled = self._layer(fill_clear(pixels, alpha), dtype)
        opacity = self._layer(alpha[..., None], np.dtype(np.float32))[..., 0]
        keep_range(opacity, alpha)
        return upscaled, rounded(opacity, dtype)

    def _layer(self, pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Upscales (H, W, C) values of 1 or 3 channels into a dtype."""
        height, width, channels = pixels.shape
        s = self.scale
        shape = (height * s, width * s, channels)
        if not self.tta:
            out = np.empty(shape, dtype)
            for low, high, rows in self._rows(pixels):
                out[low * s : high * s] = to_array(rows, dtype)
            return out
        # On the device, where there is room for it and for one more beside it.
        size = 4 * channels * height * width * s * s
        roomy = 8 * size <= memory.budget(self.limit, self.device)
        place = self.device if roomy else torch.device("cpu")
        total = torch.zeros(1, channels, height * s, width * s, device=place)
        for symmetry in range(SYMMETRIES):
            turned = torch.empty_like(transform(total, symmetry, axes=(2, 3)))
            for low, high, rows in self._rows(transform(pixels, symmetry)):
                turned[:, :, low * s : high * s] = rows
            total += transform(turned, symmetry, back=True, axes=(2, 3))
        return to_array(total.div_(SYMMETRIES), dtype)

    def _rows(self, pixels: np.ndarray) -> Iterator[tuple[int, int, Tensor]]:
        """Runs (H, W, 1 or 3) values through a network of any channel count.

        Yields:
            Rows of the input from and to, and what they become, (1, C, rows, W) in
            float32.
        """
        channels = Channels(pixels.shape[2], self.descriptor.input_channels)

        def read(low: int, high: int) -> Tensor:
            return channels.widen(to_tensor(pixels[low:high], self.device))

        size = (pixels.shape[0], pixels.shape[1])
        border = self.border_of(size)
        parts = finite_parts(
            self.fallback,
            [border.reading(read, size)],
            border.size(size),
            batch=channels.batch,
        )
        made = (part[1:] for part in parts)
        for low, high, rows in border.cut(made, size, self.scale):
            yield low, high, channels.narrow(rows.float())

    @functools.cached_property
    def border(self) -> Border:
        """What pictures are continued by on each side, where the network needs it."""
        model = self.descriptor
        if isinstance(model, GraphModel) and (
            model.static or (model.largest and min(model.largest) < LARGEST)
        ):
            return Border(0)
        network = self.runner.network  # not what torch compiles for pictures' sizes
        runner = Runner(model, network, self.device, self.dtype, self.limit)
        runner.layout = None  # which is tried on pictures
        like = torch.empty(
            1, model.input_channels, 0, 0, device=self.device, dtype=self.dtype
        )
        return find_border(lambda x: runner.whole([x])[0], like, self.scale)

    def border_of(self, size: tuple[int, int]) -> Border:
        """Returns what a picture of (height, width) is continued by.

        Nothing, where a graph takes no more than the picture itself.
        """
        model = self.descriptor
        largest = model.largest if isinstance(model, GraphModel) else None
        if largest is not None:
            wanted = self.border.size(size)
            if wanted[0] > largest[0] or wanted[1] > largest[1]:
                return Border(0)
        return self.border

    @property
    def lanes(self) -> int:
        """How many pictures may be computed at once: on a CPU, one for each thread."""
        return torch.get_num_threads() if self.runner.parallel else 1

    @property
    def batches(self) -> bool:
        """Whether small pictures are best run in batches: on any device but the CPU."""
        return self.device.type != "cpu"

    def fits(self, size: tuple[int, int], lanes: int) -> bool:
        """Whether as many pictures of (width, height) fit into memory at once."""
        result = 3 * 4 * self.scale**2 * size[0] * size[1]
        each = self.runner.cost(self.border.size((size[1], size[0]))) + result
        return each * lanes <= memory.budget(self.limit, self.device)


def _aligned(
    one: Iterator[Tensor], two: Iterator[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields two images' rows, of which as many come at once from both."""
    a, b = next(one, None), next(two, None)
    while a is not None and b is not None:
        count = min(a.shape[2], b.shape[2])
        yield a[:, :, :count], b[:, :, :count]
        a, b = a[:, :, count:], b[:, :, count:]
        a = a if a.shape[2] else next(one, None)
        b = b if b.shape[2] else next(two, None)
