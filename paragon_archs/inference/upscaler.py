"""The upscaler: a network, a device, and pictures that go through."""

from __future__ import annotations

import copy
import functools
import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from spandrel import ImageModelDescriptor
from torch import Tensor, nn

from ..checkpoint import load_model
from ..deploy import deploy_model
from ..loaders import PARAGON_REGISTRY
from ..media.arrays import (
    all_finite,
    check_array,
    rounded,
    to_array,
    to_tensor,
    transform,
    white,
)
from ..media.images import Picture, read_picture
from ..strips import StripEngine, UntraceableError
from ..utils.allocator import freed_memory_is_kept
from ..utils.oom import is_out_of_memory
from . import memory
from .backends import GRAPH_SUFFIXES, GraphModel, load_graph
from .memory import parse_memory, say_if_taken
from .tiles import run_tiles

if TYPE_CHECKING:
    from .video import VideoOptions

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# Tiles for networks that cannot be followed: bytes that a pixel of theirs may take.
_FOREIGN_BYTES = 12_000
_HALO = 32

Rows = Callable[[int, int, Tensor], None]


class NotFiniteError(Exception):
    """A network gave values that are not numbers."""


class Upscaler:
    """Upscales pictures with one network.

    Whatever the memory, the result of a network whose rows can be followed (every one
    of this pack) is that of the whole image; others are run in overlapping tiles.

    Args:
        model: A weight file (this pack's or any that spandrel opens), an `.onnx` graph
            or a TensorRT engine (`.trt`), or a descriptor as
            `paragon_archs.checkpoint.load_model` returns it.
        device: `auto` (cuda, then mps, then cpu), or a torch device.
        dtype: `auto` (fp16 on cuda where the network allows it, else fp32), `fp32`,
            `fp16` or `bf16`.
        memory: `auto` (what is free), or a size like `4G`: the most that the process
            (on a CPU) or the device may hold.
        tta: Whether to average over the eight flips and turns.
        providers: For ONNX graphs: `cpu`, `cuda`, `tensorrt`, `dml`, `coreml`, the
            preferred first.
        compile_: Whether torch compiles the network for runs in one piece.

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
    ) -> None:
        self.device = pick_device(device)
        self.limit = parse_memory(memory)
        self.tta = tta
        if isinstance(model, (str, Path)):
            file = Path(model)
            if file.suffix.lower() in GRAPH_SUFFIXES:
                model = load_graph(file, self.device, providers)
            else:
                model = load_model(file, self.device)
        self.descriptor = model
        self.scale = model.scale
        self.dtype = pick_dtype(dtype, self.device, model)
        self.network: Any = model
        if isinstance(model, ImageModelDescriptor):
            self.network = deploy_model(model).to(self.device, self.dtype).eval()
        self.compiled = torch.compile(self.network) if compile_ else self.network
        say_if_taken(self.limit, self.device)

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
        colours = 3 if layers.shape[2] >= 3 else 1
        alpha = None if layers.shape[2] == colours else layers[..., colours]
        pixels, alpha = self._upscale(layers[..., :colours], alpha)
        if alpha is not None:
            pixels = np.concatenate([pixels, alpha[..., None]], axis=2)
        return pixels[..., 0] if array.ndim == 2 else pixels

    def picture(self, picture: Picture) -> Picture:
        """Upscales a picture; profile, EXIF and resolution are kept."""
        return picture.with_pixels(*self._upscale(picture.pixels, picture.alpha))

    def images(self, paths: Iterable[str | Path]) -> Iterator[tuple[Path, Picture]]:
        """Reads and upscales image files one by one.

        Yields:
            Each path with its upscaled picture, for `write_picture`.
        """
        for path in paths:
            yield Path(path), self.picture(read_picture(path))

    def video(
        self,
        source: str | Path,
        output: str | Path,
        options: VideoOptions | None = None,
        resume: bool = False,
    ) -> int:
        """Upscales a video file; see `paragon_archs.inference.video.upscale_video`.

        Returns:
            The number of frames.
        """
        from .video import upscale_video  # noqa: PLC0415 (it needs this module)

        return upscale_video(self, source, output, options, resume, progress=False)

    def identity(self) -> dict[str, str]:
        """Returns what results depend on: the weights' digest and the settings."""
        if isinstance(self.descriptor, GraphModel):
            return {"weights": self.descriptor.digest, "tta": str(self.tta)}
        digest = hashlib.sha256()
        for name, tensor in self.descriptor.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        return {
            "weights": digest.hexdigest(),
            "dtype": str(self.dtype),
            "tta": str(self.tta),
        }

    def _upscale(
        self, pixels: np.ndarray, alpha: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Upscales (H, W, 1 or 3) values and their (H, W) opacity."""
        full = white(pixels.dtype)
        if alpha is None or bool((alpha == full).all()):
            grown = self._layer(pixels)
            if alpha is None:
                return grown, None
            return grown, np.full(grown.shape[:2], full, pixels.dtype)
        opacity = alpha[..., None]
        cover = self._layer(opacity, dtype=np.dtype(np.float32))
        # Premultiplied: what stands under clear pixels must not bleed into the rest.
        grown = self._layer(pixels, opacity, cover)
        return grown, rounded(cover[..., 0], pixels.dtype)

    def _layer(
        self,
        pixels: np.ndarray,
        opacity: np.ndarray | None = None,
        cover: np.ndarray | None = None,
        dtype: np.dtype | None = None,
    ) -> np.ndarray:
        """Upscales (H, W, C) values of 1 or 3 channels.

        Args:
            pixels: The values.
            opacity: (H, W, 1) to multiply with before.
            cover: (H * scale, W * scale, 1) to divide by after.
            dtype: Of the result, that of `pixels` by default.
        """
        height, width, channels = pixels.shape
        s = self.scale
        dtype = dtype or pixels.dtype
        step = 0.5 / white(pixels.dtype)
        shape = (height * s, width * s, channels)
        if not self.tta:
            out = np.empty(shape, dtype)

            def take(low: int, high: int, rows: Tensor) -> None:
                if cover is not None:
                    share = to_tensor(cover[low * s : high * s], rows.device)
                    whole = rows / share.clamp_min(step)
                    rows = torch.where(share >= step, whole, rows)
                out[low * s : high * s] = to_array(rows, dtype)

            self._run(pixels, opacity, take)
            return out
        total = np.zeros(shape, np.float32)
        for turn in range(8):
            turned = np.empty(transform(total, turn).shape, np.float32)

            def keep(
                low: int, high: int, rows: Tensor, into: np.ndarray = turned
            ) -> None:
                into[low * s : high * s] = rows[0].permute(1, 2, 0).cpu().numpy()

            self._run(
                transform(pixels, turn),
                None if opacity is None else transform(opacity, turn),
                keep,
            )
            total += transform(turned, turn, back=True)
        total /= 8
        if cover is not None:
            np.divide(total, cover, out=total, where=cover >= step)
        return rounded(total, dtype)

    def _run(self, pixels: np.ndarray, opacity: np.ndarray | None, take: Rows) -> None:
        """Runs (H, W, 1 or 3) values through a network of any channel count."""
        given, wanted = pixels.shape[2], self.descriptor.input_channels

        def read(low: int, high: int) -> Tensor:
            x = to_tensor(pixels[low:high], self.device)
            if opacity is not None:
                x = x * to_tensor(opacity[low:high], self.device)
            return x.to(self.dtype)

        size = (pixels.shape[0], pixels.shape[1])
        if wanted == given:
            self._finite(read, size, lambda a, b, y: take(a, b, y.float()))
        elif wanted == 1:  # each colour is a gray picture of its own
            bands: list[Tensor] = []
            grown = [side * self.scale for side in size]
            for c in range(given):
                band = torch.empty(1, 1, *grown)

                def keep(a: int, b: int, y: Tensor, into: Tensor = band) -> None:
                    into[:, :, a * self.scale : b * self.scale] = y.float().cpu()

                self._finite(lambda a, b, c=c: read(a, b)[:, c : c + 1], size, keep)
                bands.append(band)
            take(0, size[0], torch.cat(bands, 1))
        else:

            def widen(low: int, high: int) -> Tensor:
                x = read(low, high)
                x = x.expand(-1, 3, -1, -1)
                return torch.cat((x, torch.ones_like(x[:, :1])), 1)[:, :wanted]

            def narrow(low: int, high: int, y: Tensor) -> None:
                y = y[:, :3].float()
                take(low, high, y.mean(1, keepdim=True) if given == 1 else y)

            self._finite(widen, size, narrow)

    def _finite(
        self, read: Callable[[int, int], Tensor], size: tuple[int, int], take: Rows
    ) -> None:
        """Runs the network; what half precision spoils is done again in float32."""

        def check(low: int, high: int, rows: Tensor) -> None:
            if not all_finite(rows):
                raise NotFiniteError
            take(low, high, rows)

        try:
            self._forward(read, size, check)
            return
        except NotFiniteError:
            if self.dtype == torch.float32:
                raise ValueError(
                    "Expected the network's result to be finite, but got values that "
                    "are not numbers. The weights are broken; nothing is written."
                ) from None
        logger.warning(
            "not finite in %s: computed again in float32", str(self.dtype).split(".")[1]
        )
        try:
            self.wide._forward(lambda a, b: read(a, b).float(), size, check)
        except NotFiniteError:
            raise ValueError(
                "Expected the network's result to be finite, but got values that are "
                "not numbers in float32 too. The weights are broken; nothing is "
                "written."
            ) from None

    @property
    def of_this_pack(self) -> bool:
        """Whether the network is one of this pack, not of others and not a graph."""
        return self.descriptor.architecture.id in PARAGON_REGISTRY

    @functools.cached_property
    def wide(self) -> Upscaler:
        """This upscaler in float32."""
        wide = copy.copy(self)
        for kept in ("engine", "wide"):
            wide.__dict__.pop(kept, None)
        wide.dtype = torch.float32
        # From the weights as they were: what half precision has cut stays cut.
        assert isinstance(self.descriptor, ImageModelDescriptor)
        network = deploy_model(self.descriptor)
        wide.network = network.to(self.device, torch.float32).eval()
        wide.compiled = wide.network
        return wide

    @functools.cached_property
    def engine(self) -> StripEngine | None:
        """The exact engine for the network, or None where only tiles are left."""
        name = self.descriptor.architecture.name
        if not isinstance(self.network, nn.Module):
            return None
        try:
            engine = StripEngine(self.network, (self.descriptor.input_channels,))
        except UntraceableError as error:
            logger.info("%s: overlapping tiles for large images (%s)", name, error)
            return None
        if not self.of_this_pack and not engine.agrees(self.network):
            logger.info("%s: overlapping tiles for large images", name)
            return None
        logger.info("%s: exact at any size, strip by strip", name)
        return engine

    def _forward(
        self, read: Callable[[int, int], Tensor], size: tuple[int, int], take: Rows
    ) -> None:
        """Runs the network over an image whose rows `read` gives."""
        height = size[0]
        padded = self.padded(size)
        budget = memory.budget(self.limit, self.device)
        engine = self.engine if padded == size else None
        if self.in_one_piece(size, budget):
            try:
                take(0, height, self.whole(read(0, height), padded))
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                logger.warning("out of memory: going on in parts")
                budget /= 2
        if engine is not None:
            most = memory.strip_bytes(self.device)
            engine.run([read], size, [take], budget, most=most)
            return
        logger.warning(
            "%s: run in overlapping tiles, which may differ from the whole image",
            self.descriptor.architecture.name,
        )
        tile = max(64, math.isqrt(int(max(budget, 0) / _FOREIGN_BYTES)) - 2 * _HALO)
        run_tiles(
            lambda x: self.whole(x, self.padded((x.shape[2], x.shape[3]))),
            read,
            size,
            self.scale,
            take,
            min(tile, 512),
            _HALO,
        )

    def cost(self, size: tuple[int, int]) -> float:
        """Returns about how many bytes (height, width) takes in one piece."""
        if self.engine is not None and self.padded(size) == size:
            return self.engine.peak(size)
        return float(_FOREIGN_BYTES * size[0] * size[1])

    def in_one_piece(self, size: tuple[int, int], budget: float) -> bool:
        """Whether (height, width) is best run whole where so many bytes are free."""
        cost = self.cost(size)
        if self.engine is None or self.device.type != "cpu":
            return cost <= budget
        # Where the system takes freed memory back, one sweep in strips that fit the
        # caches costs less than page faults; several sweeps do not.
        single = self.engine.sweeps_at_least == 1
        quick = freed_memory_is_kept() or not single
        return cost <= min(budget, memory.CPU_WHOLE if quick else memory.CPU_CACHED)

    @property
    def lanes(self) -> int:
        """How many pictures may be computed at once: on a CPU, one for each thread."""
        # Networks of others may change themselves while they run.
        plain = self.of_this_pack and self.compiled is self.network
        return torch.get_num_threads() if plain and self.device.type == "cpu" else 1

    def fits(self, size: tuple[int, int], lanes: int) -> bool:
        """Whether as many pictures of (width, height) fit into memory at once."""
        grown = 3 * 4 * self.scale**2 * size[0] * size[1]
        each = self.cost((size[1], size[0])) + grown
        return each * lanes <= memory.budget(self.limit, self.device)

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the size that the network asks for at least."""
        wanted = self.descriptor.size_requirements
        sides = [
            math.ceil(max(side, wanted.minimum) / wanted.multiple_of)
            * wanted.multiple_of
            for side in size
        ]
        if wanted.square:
            sides = [max(sides)] * 2
        return sides[0], sides[1]

    @torch.inference_mode()
    def whole(self, x: Tensor, padded: tuple[int, int]) -> Tensor:
        """Runs the network on all of (B, C, H, W), padded where it has to be."""
        height, width = x.shape[2:]
        down, right = padded[0] - height, padded[1] - width
        if down or right:
            # Reflection needs more pixels than it adds; replication needs one.
            mode = "reflect" if down < height and right < width else "replicate"
            x = F.pad(x, (0, right, 0, down), mode=mode)
        y = self.compiled(x)
        return y[:, :, : height * self.scale, : width * self.scale]


def pick_device(name: str | torch.device) -> torch.device:
    """Returns the device that `name` means; `auto` is the fastest there is.

    Raises:
        ValueError: for an unknown device or one that is not there.
    """
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        mps = getattr(torch.backends, "mps", None)
        return torch.device("mps" if mps and mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"Expected the device to be auto, cpu, cuda, cuda:N or mps, and to be "
            f"there, but got {name!r} ({str(error).splitlines()[0]}). Use --device cpu."
        ) from error
    return device


def pick_dtype(
    name: str,
    device: torch.device,
    model: ImageModelDescriptor[nn.Module] | GraphModel,
) -> torch.dtype:
    """Returns the dtype that `name` means for a network on a device.

    Raises:
        ValueError: for an unknown name, or a dtype that the network does not allow.
    """
    if name == "auto":
        half = device.type == "cuda" and model.supports_half
        return torch.float16 if half else torch.float32
    if name not in DTYPES:
        raise ValueError(
            f"Expected dtype to be auto, {', '.join(DTYPES)}, but got {name!r}. Choose "
            "one of these."
        )
    allowed = {"fp16": model.supports_half, "bf16": model.supports_bfloat16}
    if not allowed.get(name, True):
        raise ValueError(
            f"Expected a dtype that {model.architecture.name} allows, but got {name!r}."
            " Use fp32."
        )
    return DTYPES[name]
