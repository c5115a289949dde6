"""Memory that a process has freed: kept for what it asks for next, or given back."""

from __future__ import annotations

import ctypes
import os
import sys

# glibc's numbers of the settings (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8

# Where memory is limited, blocks from this size in bytes on go back to the system.
_RETURNED = _MMAP_THRESHOLD, 4 * 2**20
# Bytes. Blocks up to the first are taken from the heap, larger ones from the system
# each time; what is free at the heap's end goes back beyond the second.
_LARGEST = 256 * 2**20
_KEPT = 2**30
# What glibc before 2.35 allows at most.
_LARGEST_ONCE = 32 * 2**20

_kept = _returned = False


def keep_freed_memory() -> bool:
    """Lets the C library keep large blocks that are freed, for the whole process.

    glibc takes each large block from the system and gives it back when it is freed, so
    that every operation of a network on a CPU starts with page faults: at maps of some
    megabytes they cost as much as the operation. Blocks up to 256 MiB are kept here,
    1 GiB at the heap's end at the most, and by one heap, since each thread's own would
    keep as much again. Speeds up large images and training on CPUs 1.2 to 2.5 times;
    the process holds on to up to 1 GiB that it does not use, and to two to three times
    what it computes with, since glibc cuts what it keeps into pieces that the next
    block does not fit.

    For a program's start, before threads run; the library never calls it by itself.

    Returns:
        Whether it is so now; False, and nothing is done, where the C library is not
        glibc (macOS, Windows, musl).
    """
    if not _is_glibc():
        return False
    global _kept, _returned  # noqa: PLW0603 (the setting is the process's)
    set_ = ctypes.CDLL(None).mallopt
    largest = set_(_MMAP_THRESHOLD, _LARGEST) or set_(_MMAP_THRESHOLD, _LARGEST_ONCE)
    _kept = bool(largest and set_(_TRIM_THRESHOLD, _KEPT) and set_(_ARENA_MAX, 1))
    _returned = _returned and not _kept
    return _kept


def return_freed_memory() -> None:
    """Lets the C library give large blocks back as soon as they are freed.

    So the process holds little more than what it computes with. torch asks for large
    pages, where the system has them, so that a picture takes about 1.4 times as long as
    with freed memory kept, not twice.

    For a program's start, before torch is imported.
    """
    global _kept, _returned  # noqa: PLW0603 (the setting is the process's)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's own
    _returned = _is_glibc() and bool(ctypes.CDLL(None).mallopt(*_RETURNED))
    _kept = _kept and not _returned


def _is_glibc() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        glibc = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):  # musl does not know the name
        return False
    return (glibc or "").startswith("glibc")


def freed_memory_is_returned() -> bool:
    """Whether `return_freed_memory` has been called, with success."""
    return _returned


def freed_memory_is_kept() -> bool:
    """Whether `keep_freed_memory` has been called, with success."""
    return _kept
