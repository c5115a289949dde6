"""What bounded memory costs: peak and time of large pictures, strips beside whole."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from paragon_archs.archs import create
from paragon_archs.deploy import deploy_model
from paragon_archs.inference import Picture, write_picture
from paragon_archs.inference.memory import strip_bytes
from paragon_archs.strips import StripEngine
from paragon_archs.utils.allocator import keep_freed_memory

# Upscales as the command does and prints the most memory that its process ever held.
_SCRIPT = """
import sys
from paragon_archs.cli.upscale import main
code = main(sys.argv[1:])
with open("/proc/self/status") as status:
    peak = next(line for line in status if line.startswith("VmHWM:"))
print(peak)
sys.exit(code)
"""


@dataclass(frozen=True)
class CommandCost:
    """What one `paragon upscale` took, start to end.

    Attributes:
        peak: Bytes of the most memory that was resident (VmHWM).
        seconds: From the process's start to its end.
    """

    peak: int
    seconds: float


def measure_command(model: Path, size: tuple[int, int]) -> CommandCost:
    """Upscales a PNG by `paragon upscale` in a process of its own, on the CPU.

    Args:
        model: A weight file.
        size: Height and width of the picture, smooth colors with some noise.

    Raises:
        ValueError: elsewhere than on Linux, or when the command fails.
    """
    if not sys.platform.startswith("linux"):
        raise ValueError(
            f"Expected Linux, which reports a process's peak, but got "
            f"{sys.platform!r}. Measure there."
        )
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 4, (height, width)).astype(np.float32)
    layers = [
        127 + 90 * np.sin(x / (37 + c)) * np.cos(y / (53 - c)) + noise for c in range(3)
    ]
    pixels = np.stack(layers, 2).clip(0, 255).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.png"
        write_picture(Picture(pixels), source)
        arguments = [str(source), "-o", str(Path(folder) / "out.png")]
        arguments += ["--model", str(model), "--device", "cpu"]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        raise ValueError(
            f"Expected `paragon upscale` to succeed, but got: {done.stderr.strip()} "
            "Correct what it names."
        )
    kib = done.stdout.strip().splitlines()[-1].split()[1]
    return CommandCost(int(kib) * 1024, seconds)


@dataclass(frozen=True)
class StripTime:
    """Seconds of one picture in strips and whole, for one variant; medians.

    Attributes:
        variant: Its name.
        sweeps: Over the picture.
        whole: In one piece.
        strips: With half the memory that one piece takes.
        ratio: Median of `strips / whole`, round by round.
    """

    variant: str
    sweeps: int
    whole: float
    strips: float
    ratio: float


def measure_strips(
    names: Sequence[str],
    size: tuple[int, int] = (512, 768),
    rounds: int = 5,
    threads: int | None = None,
) -> list[StripTime]:
    """Times deploy forms in strips beside themselves in one piece, where both fit.

    In a process of its own that keeps freed memory, as the command does.

    Args:
        names: Variants.
        size: Height and width of the picture.
        rounds: Timed rounds; one more comes first to warm up.
        threads: CPU threads, torch's default if None.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), keep_freed_memory) as process:
        jobs = [process.submit(_strips, n, size, rounds, threads) for n in names]
        return [job.result() for job in jobs]


@torch.inference_mode()
def _strips(
    name: str, size: tuple[int, int], rounds: int, threads: int | None
) -> StripTime:
    if threads:
        torch.set_num_threads(threads)
    scale = 2
    torch.manual_seed(0)
    network = deploy_model(create(name, scale).eval())
    engine = StripEngine(network)
    x = torch.rand(1, 3, *size)
    out = torch.empty(1, 3, size[0] * scale, size[1] * scale)
    budget = engine.peak(size) / 2
    most = strip_bytes(x.device)
    whole, strips = [], []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        out.copy_(network(x))
        whole.append(time.perf_counter() - started)
        started = time.perf_counter()
        reads = [lambda a, b: x[:, :, a:b]]
        for low, high, rows in engine.run(reads, size, budget, most=most):
            out[:, :, low * scale : high * scale] = rows
        strips.append(time.perf_counter() - started)
    whole, strips = whole[1:], strips[1:]
    return StripTime(
        name,
        engine.sweeps(size, budget),
        statistics.median(whole),
        statistics.median(strips),
        statistics.median(b / a for a, b in zip(whole, strips, strict=True)),
    )
