"""What `paragon upscale` does beside the network: speed on a folder, and exactness."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from spandrel import ImageModelDescriptor
from torch import nn

from paragon_archs.archs import create, variants
from paragon_archs.checkpoint import load_model
from paragon_archs.deploy import deploy_model
from paragon_archs.inference.jobs import plan, run
from paragon_archs.inference.upscaler import Upscaler
from paragon_archs.media.images import WriteOptions
from paragon_archs.strips import StripEngine
from paragon_archs.utils.allocator import keep_freed_memory
from paragon_archs.utils.optional import need

from .published import PublishedForm


@dataclass(frozen=True)
class FolderSpeed:
    """Seconds over a folder of images, from the first read to the last write.

    Attributes:
        images: How many there are.
        threads: CPU threads of each side.
        plain: A loop of OpenCV's read, the published form, OpenCV's write.
        plain_kept: The same, keeping freed memory as ours does.
        ours: `paragon upscale`'s run.
        network: Share of `ours`, over all threads, in which the network runs.
    """

    images: int
    threads: int
    plain: float
    plain_kept: float
    ours: float
    network: float


def measure_folder(
    model: Path, folder: Path, rounds: int = 3, threads: int | None = None
) -> FolderSpeed:
    """Times both ways over a folder's images in turn; medians of the rounds.

    Each side has a process of its own. Both write PNG at OpenCV's default compression;
    start-up and loading are outside.

    Args:
        model: Weights of a network of this pack.
        folder: PNG images.
        rounds: How many times each is run.
        threads: CPU threads, torch's default if None.

    Raises:
        ValueError: when there is nothing to time, or not all images can be upscaled.
    """
    if rounds < 1:
        raise ValueError(
            f"Expected at least one round, but got {rounds!r}. Choose a larger number."
        )
    if not list(folder.glob("*.png")):
        raise ValueError(
            f"Expected PNG images, but there are none in {str(folder)!r}. Name a "
            "folder that holds some."
        )
    sides: list[tuple[Callable[[Path, Path], _Lap], bool]] = [
        (_plain, False),
        (_plain, True),
        (_ours, True),
    ]
    laps: list[list[_Lap]] = [[] for _ in sides]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                ProcessPoolExecutor(
                    1, get_context("spawn"), _start, (kept, threads, model)
                )
            )
            for _, kept in sides
        ]
        for _ in range(rounds):
            for process, (side, _), times in zip(processes, sides, laps, strict=True):
                times.append(process.submit(side, model, folder).result())
    plain, kept, ours = (sorted(t, key=lambda lap: lap.seconds) for t in laps)
    middle = rounds // 2
    best = ours[middle]
    return FolderSpeed(
        best.images,
        best.threads,
        plain[middle].seconds,
        kept[middle].seconds,
        best.seconds,
        best.busy / (best.seconds * best.threads),
    )


@dataclass(frozen=True)
class _Lap:
    """One run over a folder; `busy` is the network's seconds times its threads."""

    images: int
    threads: int
    seconds: float
    busy: float = 0.0


def _start(kept: bool, threads: int | None, model: Path) -> None:
    """Sets a side's process up."""
    if kept:
        keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    _network(model)


@functools.cache
def _network(model: Path) -> ImageModelDescriptor[nn.Module]:
    return load_model(model)


@torch.inference_mode()
def _plain(model: Path, folder: Path) -> _Lap:
    cv2 = need("cv2", "the plain loop", "opencv-python")
    published = PublishedForm(_network(model).model)
    files = sorted(folder.glob("*.png"))
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        for file in files:
            image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
            x = torch.from_numpy(image.transpose(2, 0, 1)[None] / 255).float()
            y = (published(x)[0].clamp(0, 1) * 255).round().byte()
            array = y.permute(1, 2, 0).numpy()
            array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(Path(out) / file.name), array)
        seconds = time.perf_counter() - started
    return _Lap(len(files), torch.get_num_threads(), seconds)


def _ours(model: Path, folder: Path) -> _Lap:
    upscaler = Upscaler(_network(model), "cpu")
    runner = upscaler.runner
    engine = runner.engine()  # built before the watch takes the network's place
    watch = _Watch(runner.network)
    runner.network = runner.call = runner.compiled = watch
    files = sorted(folder.glob("*.png"))
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as out:
        jobs = plan(files, Path(out) / "ours")
        started = time.perf_counter()
        failed = run(upscaler, jobs, WriteOptions())
        seconds = time.perf_counter() - started
    if failed:
        raise ValueError(
            f"Expected every image of {str(folder)!r} to be upscaled, but "
            f"{failed[0][0].source} was not: {failed[0][1]}"
        )
    busy = watch.busy + (engine.busy if engine else 0.0)
    return _Lap(len(files), threads, seconds, busy)


class _Watch(nn.Module):
    """A network that counts the seconds that it runs, times its threads."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.busy = 0.0
        self._lock = threading.Lock()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        started = time.perf_counter()
        y = self.network(x)
        with self._lock:
            taken = time.perf_counter() - started
            self.busy += taken * torch.get_num_threads()
        return y


@dataclass(frozen=True)
class Exactness:
    """Strips against the whole image, for one variant.

    Attributes:
        variant: Its name.
        sweeps: Over the image.
        rows: Of the narrowest strips.
        worst: Largest difference, as a share of the result's spread.
        median: Median difference, likewise.
    """

    variant: str
    sweeps: int
    rows: int
    worst: float
    median: float


def measure_exactness(
    names: Sequence[str] | None = None,
    size: tuple[int, int] = (75, 52),
    scale: int = 2,
) -> list[Exactness]:
    """Compares deploy forms in the smallest strips with themselves in one piece.

    Weights are random, with scales that matter, so that nothing hides.

    Args:
        names: Variants; all by default.
        size: Height and width of the noise image.
        scale: Upscaling factor.
    """
    found = []
    for name in names or list(variants()):
        torch.manual_seed(0)
        model = create(name, scale).eval()
        for key, parameter in model.named_parameters():
            if key.rsplit(".", 1)[-1] == "gamma":
                nn.init.uniform_(parameter, 0.3, 0.6)
        network = deploy_model(model)
        x = torch.rand(1, 3, *size)
        with torch.inference_mode():
            whole = network(x)
        got = torch.full_like(whole, torch.nan)
        narrowest = size[0]
        engine = StripEngine(network)
        for low, high, rows in engine.run([lambda a, b, x=x: x[:, :, a:b]], size, 0):
            got[:, :, low * scale : high * scale] = rows
            narrowest = min(narrowest, high - low)
        error = (got - whole).abs() / float(whole.max() - whole.min())
        found.append(
            Exactness(
                name,
                engine.sweeps(size),
                narrowest,
                float(error.max()),
                float(np.median(error.numpy())),
            )
        )
    return found
