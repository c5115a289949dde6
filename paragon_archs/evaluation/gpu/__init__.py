"""`paragon doctor --gpu`: what a device computes, and how fast, in one report."""

from __future__ import annotations

import platform
from collections.abc import Callable

import torch

from ... import __version__
from . import choices, parity, runtimes, speed, training
from .bench import Bench
from .report import examine

SECONDS = 540
"""When the last line may start."""


def report(device: torch.device, emit: Callable[[str], None]) -> bool:
    """Examines a device; a CPU at small sizes.

    Args:
        device: The device.
        emit: Takes each line of Markdown as soon as it is known.

    Returns:
        Whether it computes what a CPU does.
    """
    bench = Bench(device, small=device.type == "cpu")
    emit(f"## paragon doctor --gpu\n\n{_described(device)}")
    sections = [
        parity.section(bench),
        speed.networks(bench),
        speed.memory(bench),
        speed.videos(bench),
        choices.norms(bench),
        choices.biases(bench),
        choices.attentions(bench),
        runtimes.section(bench),
        training.section(bench),
        *([] if bench.small else [speed.compiled(bench)]),
    ]
    good = examine(sections, emit, SECONDS)
    emit(f"\nParity with the CPU: {'held' if good else '**not held**'}.")
    return good


def _described(device: torch.device) -> str:
    facts = [f"paragon_archs {__version__}", f"torch {torch.__version__}"]
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        facts += [f"cuDNN {torch.backends.cudnn.version()}", card.name]
        facts += [f"{card.total_memory / 2**30:.1f} GiB"]
        facts += [f"compute {card.major}.{card.minor}"]
    else:
        facts += [device.type]
    threads = f"{torch.get_num_threads()} CPU threads"
    return ", ".join((*facts, threads, platform.platform()))
