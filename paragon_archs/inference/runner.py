"""One network in one dtype: in one piece, or in strips, or in tiles."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from spandrel import ImageModelDescriptor
from torch import Tensor, nn

from ..loaders import PARAGON_REGISTRY
from ..strips import Part, Read, StripEngine, UntraceableError
from ..utils.allocator import freed_memory_is_kept
from ..utils.halves import Fallback, all_finite
from ..utils.oom import is_out_of_memory, release
from . import memory
from .backends import GraphModel
from .compiling import Compiled
from .layout import Layout, has_choice
from .replay import Replayed
from .tiles import run_tiles

logger = logging.getLogger(__name__)

Model = ImageModelDescriptor[nn.Module] | GraphModel

# Tiles for networks that cannot be followed: bytes that a pixel of theirs may take.
_FOREIGN_BYTES = 12_000
_HALO = 32
_LARGEST_TILE = 512


class Runner:
    """Runs one network in one dtype over pictures of any size.

    Args:
        model: What the network is.
        network: What is called.
        device: Where it is.
        dtype: Its dtype.
        limit: Most memory in bytes, None for what is free.
        call: What is run on the inputs, where that is not the network itself; it may
            give several results.
        compile_: Whether torch compiles the call for runs in one piece.
        tiles: Whether an image may be cut into tiles; not where features are carried.
        graph: The same network in another runtime, for runs in one piece and in
            strips.
        replays: Whether runs in one piece are replayed as a CUDA graph.
    """

    def __init__(
        self,
        model: Model,
        network: Any,
        device: torch.device,
        dtype: torch.dtype,
        limit: int | None,
        call: Callable[..., Any] | None = None,
        compile_: bool = False,
        tiles: bool = True,
        graph: Callable[..., Any] | None = None,
        replays: bool = False,
    ) -> None:
        self.model = model
        self.network = network
        self.device = device
        self.dtype = dtype
        self.limit = limit
        self.call: Callable[..., Any] = call or network
        self.compiles = compile_
        self.graph = graph
        run = graph or self.call
        self.compiled: Callable[..., Any] = Compiled(run) if compile_ else run
        if replays and not compile_:
            self.compiled = Replayed(run)
        self.layout: Layout | None = None
        chooses = isinstance(network, nn.Module) and self.of_this_pack
        if chooses and not compile_ and graph is None and has_choice(device):
            self.layout = Layout(network, run, device)
        self.tiles = tiles
        self._engines: dict[tuple[int, ...], StripEngine | None] = {}

    @property
    def parallel(self) -> bool:
        """Whether several threads may run the network at once."""
        # Networks of others may change themselves while they run.
        plain = self.of_this_pack and not self.compiles
        return plain and self.device.type == "cpu"

    @property
    def of_this_pack(self) -> bool:
        """Whether the network is one of this pack, not of others and not a graph."""
        return self.model.architecture.id in PARAGON_REGISTRY

    def engine(self, channels: Sequence[int] = ()) -> StripEngine | None:
        """Returns the exact engine, or None where only tiles are left.

        Args:
            channels: Of each input; one image by default.
        """
        key = tuple(channels) or (self.model.input_channels,)
        if key not in self._engines:
            self._engines[key] = self._make_engine(key)
        return self._engines[key]

    def _make_engine(self, channels: tuple[int, ...]) -> StripEngine | None:
        name = self.model.architecture.name
        if not isinstance(self.network, nn.Module):
            return None
        try:
            engine = StripEngine(self.network, channels, self.call)
        except UntraceableError as error:
            logger.info("%s: overlapping tiles for large images (%s)", name, error)
            return None
        if not self.of_this_pack and not engine.agrees(self.network):
            logger.info("%s: overlapping tiles for large images", name)
            return None
        engine.graph = self.graph
        logger.info("%s: exact at any size, strip by strip", name)
        return engine

    def parts(
        self,
        reads: Sequence[Read],
        size: tuple[int, int],
        channels: Sequence[int] = (),
        batch: int = 1,
    ) -> Iterator[Part]:
        """Runs the network over an image.

        Args:
            reads: One per input: from the first row and the row behind the last to
                (B, C, rows, W) on the device, in any floating dtype.
            size: Height and width.
            channels: Of each input; one image by default.
            batch: Images side by side.

        Yields:
            The index of the result, the first row, the row behind the last (rows of
            the input), and the result's rows.
        """
        reads = [self._cast(read) for read in reads]
        height = size[0]
        padded = self.padded(size)
        budget = memory.budget(self.limit, self.device)
        if self.in_one_piece(size, budget, channels, batch):
            try:
                results = self.whole([read(0, height) for read in reads], padded)
            except (RuntimeError, MemoryError) as error:
                stuck = self.engine(channels) is None and not self.tiles
                if stuck or not is_out_of_memory(error):
                    raise
                release(self.device)
                logger.warning("out of memory: going on in parts")
                budget /= 2
            else:
                for index, rows in enumerate(results):
                    yield index, 0, height, rows
                return
        engine = self.engine(channels) if padded == size else None
        if engine is not None:
            most = memory.strip_bytes(self.device)
            yield from engine.parts(reads, size, budget, batch, most)
            return
        logger.warning(
            "%s: run in overlapping tiles, which may differ from the whole image",
            self.model.architecture.name,
        )
        tiles = run_tiles(
            lambda x: self.whole([x], self.padded((x.shape[2], x.shape[3])))[0],
            reads[0],
            size,
            self.model.scale,
            self._tile(budget),
            _HALO,
        )
        for low, high, rows in tiles:
            yield 0, low, high, rows

    def _tile(self, budget: float) -> int:
        """Returns the side of a tile that fits, without its halo."""
        pixels = max(budget, 0) / max(self._bytes_per_pixel, 1)
        tile = max(64, math.isqrt(int(pixels)) - 2 * _HALO)
        if isinstance(self.model, GraphModel) and self.model.largest is not None:
            tile = min(tile, min(self.model.largest) - 2 * _HALO)
        return min(tile, _LARGEST_TILE)

    def _cast(self, read: Read) -> Read:
        return lambda low, high: read(low, high).to(self.dtype)

    def cost(
        self, size: tuple[int, int], channels: Sequence[int] = (), batch: int = 1
    ) -> float:
        """Returns about how many bytes (height, width) takes in one piece."""
        engine = self.engine(channels)
        if engine is not None and self.padded(size) == size:
            return engine.peak(size, batch)
        return self._bytes_per_pixel * size[0] * size[1] * batch

    def least(self, size: tuple[int, int]) -> float:
        """Returns about how many bytes (height, width) takes in any way."""
        engine = self.engine()
        return 0.0 if engine is None else engine.least(size)

    @property
    def _bytes_per_pixel(self) -> float:
        """What a pixel takes in a network that cannot be followed."""
        if isinstance(self.model, GraphModel):
            if self.model.bytes_per_pixel is not None:
                return self.model.bytes_per_pixel
            if self.device.type != "cpu":
                return 0.0  # tried whole: a GPU that is full reports it
        return _FOREIGN_BYTES

    def in_one_piece(
        self,
        size: tuple[int, int],
        budget: float,
        channels: Sequence[int] = (),
        batch: int = 1,
    ) -> bool:
        """Whether (height, width) is best run whole where so many bytes are free."""
        engine = self.engine(channels)
        if engine is None and not self.tiles:
            return True
        largest = self.model.largest if isinstance(self.model, GraphModel) else None
        if largest is not None and (size[0] > largest[0] or size[1] > largest[1]):
            return False
        if engine is not None and not engine.addressable(size, batch):
            return False
        cost = self.cost(size, channels, batch)
        if engine is None or self.device.type != "cpu":
            return cost <= budget
        # Where the system takes freed memory back, one sweep in strips that fit the
        # caches costs less than page faults; several sweeps do not.
        single = engine.sweeps_at_least == 1
        quick = freed_memory_is_kept() or not single
        return cost <= min(budget, memory.CPU_WHOLE if quick else memory.CPU_CACHED)

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the size that the network asks for at least."""
        wanted = self.model.size_requirements
        sides = [
            math.ceil(max(side, wanted.minimum) / wanted.multiple_of)
            * wanted.multiple_of
            for side in size
        ]
        if wanted.square:
            sides = [max(sides)] * 2
        return sides[0], sides[1]

    @torch.inference_mode()
    def whole(
        self, inputs: Sequence[Tensor], padded: tuple[int, int] | None = None
    ) -> list[Tensor]:
        """Runs the network on all of its inputs (B, C, H, W), padded where needed.

        Returns:
            Its results; the first is the image.
        """
        height, width = inputs[0].shape[2:]
        padded = padded or self.padded((height, width))
        down, right = padded[0] - height, padded[1] - width
        if down or right:
            # Reflection needs more pixels than it adds; replication needs one.
            mode = "reflect" if down < height and right < width else "replicate"
            inputs = [F.pad(x, (0, right, 0, down), mode=mode) for x in inputs]
        if self.layout is not None:
            inputs = self.layout(inputs)
        made = self.compiled(*inputs)
        results = list(made) if isinstance(made, (list, tuple)) else [made]
        s = self.model.scale
        results[0] = results[0][:, :, : height * s, : width * s]
        return results


def finite_parts(
    fallback: Fallback[Runner],
    reads: Sequence[Read],
    size: tuple[int, int],
    channels: Sequence[int] = (),
    batch: int = 1,
) -> Iterator[Part]:
    """Runs a network; an image that half precision spoils is run again in float32.

    Then rows that were yielded before come once more.

    Yields:
        As `Runner.parts`.

    Raises:
        ValueError: when the result is not finite in float32 either.
    """
    for runner in fallback.attempts():
        for output, low, high, rows in runner.parts(reads, size, channels, batch):
            if output == 0 and not all_finite(rows):
                break
            yield output, low, high, rows
        else:
            return
    raise ValueError(
        "Expected the network's result to be finite, but got values that are not "
        "numbers. The weights are broken; nothing is written."
    )
