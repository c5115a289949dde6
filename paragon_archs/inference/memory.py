"""Memory as people state it, and how much of it is free."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path

import psutil
import torch

from ..utils.allocator import freed_memory_is_kept, freed_memory_is_returned

logger = logging.getLogger(__name__)

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_CGROUP = Path("/sys/fs/cgroup")

# On a CPU, a run in one piece is the fastest up to this, and takes no more than people
# have.
CPU_WHOLE = 2**30
# Strips on a CPU: narrower ones compute more margin twice. Where the C library decides
# what the system takes back, wider ones cost page faults.
CPU_STRIPS = 256 * 2**20
CPU_CACHED = 64 * 2**20
# What is left to others, and to what the estimate does not see.
_SHARE = 0.8
# Likewise where freed memory is kept, which the next block often does not fit.
_SHARE_KEPT = 0.4


def parse_memory(text: str) -> int | None:
    """Returns bytes for `4G`, `500M` or a plain number; None for `auto`.

    Raises:
        ValueError: for anything else.
    """
    if text.strip().lower() == "auto":
        return None
    found = re.fullmatch(
        r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE
    )
    if not found or not float(found[1]):
        raise ValueError(
            f"Expected --memory to be auto or a size like 4G or 800M, but got {text!r}."
            " Correct the value."
        )
    return int(float(found[1]) * _UNITS[found[2].upper()])


def budget(limit: int | None, device: torch.device) -> float:
    """Returns the bytes that maps and strips may take now.

    Args:
        limit: Peak memory of the process (cpu) or on the device that the user allows;
            None for what is free.
        device: Where the network runs.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # Asked for every frame: flat statistics take a millisecond.
        held = torch.cuda.memory_stats_as_nested_dict(device)
        if held:  # none before the first allocation
            for kind, sign in (("reserved_bytes", 1), ("allocated_bytes", -1)):
                free += sign * held[kind]["all"]["current"]
        if limit is None:
            return free * _SHARE
        return max(0.0, min(limit - _taken(device), free))
    if device.type == "mps":
        limit = limit or int(torch.mps.recommended_max_memory() * _SHARE)
        return max(0.0, limit - _taken(device))
    if limit is None:
        return free_memory() * (_SHARE_KEPT if freed_memory_is_kept() else _SHARE)
    return max(0.0, 0.9 * limit - _taken(device))


def host_budget(limit: int | None, device: torch.device) -> float:
    """Returns the bytes that pictures may take now; `limit` is the device's own."""
    if device.type == "cpu" and limit is not None:
        return budget(limit, device)
    return free_memory() * _SHARE


def warn_if_taken(limit: int | None, device: torch.device) -> None:
    """Warns where the program without any picture takes more than `limit` bytes."""
    taken = _taken(device)
    if limit is not None and limit < taken:
        logger.warning(
            "--memory %.2fG is less than the %.2fG that the program itself takes "
            "already",
            limit / _UNITS["G"],
            taken / _UNITS["G"],
        )


def strip_bytes(device: torch.device) -> float:
    """Returns the bytes that a strip should take, however much is free."""
    if device.type != "cpu":
        return math.inf
    wide = freed_memory_is_kept() or freed_memory_is_returned()
    return CPU_STRIPS if wide else CPU_CACHED


def free_memory() -> float:
    """Returns the bytes that this process may still take, containers included."""
    free = float(psutil.virtual_memory().available)
    for most, used in (
        (_CGROUP / "memory.max", _CGROUP / "memory.current"),
        (
            _CGROUP / "memory/memory.limit_in_bytes",
            _CGROUP / "memory/memory.usage_in_bytes",
        ),
    ):
        try:
            free = min(free, float(most.read_text()) - float(used.read_text()))
        except (OSError, ValueError):  # no such controller, or the limit is "max"
            continue
    return max(free, 0.0)


def _taken(device: torch.device) -> float:
    """Returns the bytes that this process holds now: on its device, or resident."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.current_allocated_memory()
    return float(psutil.Process().memory_info().rss)
