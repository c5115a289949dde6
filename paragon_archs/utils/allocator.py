"""Memory that a process has freed once, kept for what it asks for next."""

from __future__ import annotations

import ctypes
import os
import sys

# glibc's numbers of the settings (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8

# Bytes. Blocks up to the first are taken from the heap, larger ones from the system
# each time; what is free at the heap's end goes back beyond the second.
_LARGEST = 256 * 2**20
_KEPT = 2**30
# What glibc before 2.35 allows at most.
_LARGEST_ONCE = 32 * 2**20

_kept = False


def keep_freed_memory() -> bool:
    """Lets the C library keep large blocks that are freed, for the whole process.

    glibc takes each large block from the system and gives it back when it is freed, so
    that every operation of a network on a CPU starts with page faults: at maps of some
    megabytes they cost as much as the operation. Blocks up to 256 MiB are kept here,
    1 GiB at the heap's end at the most, and by one heap, since each thread's own would
    keep as much again. Speeds up large images and training on CPUs 1.2 to 2.5 times;
    the process holds on to up to 1 GiB that it does not use.

    For a program's start, before threads run; the library never calls it by itself.

    Returns:
        Whether it is so now; False, and nothing is done, where the C library is not
        glibc (macOS, Windows, musl).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        glibc = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):  # musl does not know the name
        glibc = None
    if not glibc or not glibc.startswith("glibc"):
        return False
    global _kept  # noqa: PLW0603 (the setting is the process's)
    set_ = ctypes.CDLL(None).mallopt
    largest = set_(_MMAP_THRESHOLD, _LARGEST) or set_(_MMAP_THRESHOLD, _LARGEST_ONCE)
    _kept = bool(largest and set_(_TRIM_THRESHOLD, _KEPT) and set_(_ARENA_MAX, 1))
    return _kept


def freed_memory_is_kept() -> bool:
    """Whether `keep_freed_memory` has been called, with success."""
    return _kept
