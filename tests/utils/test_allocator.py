"""Freed memory is kept where the C library is glibc, and only when asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from paragon_archs.utils.allocator import keep_freed_memory

# Takes 128 MiB, frees it, and prints how many MiB more than before are resident.
PROBE = """
import ctypes, os
from pathlib import Path
{first}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def resident():
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
before = resident()
block = libc.malloc(128 << 20)
ctypes.memset(block, 1, 128 << 20)
libc.free(block)
print((resident() - before) >> 20)
"""


def is_glibc():
    if not sys.platform.startswith("linux"):
        return False
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except ValueError:
        return False


def kept_after(first):
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(first=first)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
def test_freed_memory_is_kept():
    first = "from paragon_archs.utils.allocator import keep_freed_memory as keep\n"
    assert kept_after(f"{first}assert keep()") >= 120


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
def test_the_library_leaves_the_allocator_alone():
    assert kept_after("import paragon_archs, paragon_archs.inference") <= 8


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
def test_what_is_returned_is_not_kept():
    first = "from paragon_archs.utils import allocator as a\n"
    # glibc by itself keeps blocks as large as one that was freed before.
    first += "a.return_freed_memory()\nassert a.freed_memory_is_returned()"
    assert kept_after(first) <= 8


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
@pytest.mark.parametrize("last", ["keep", "return"])
def test_the_last_setting_is_the_one_that_holds(last):
    calls = {"keep": "a.keep_freed_memory()", "return": "a.return_freed_memory()"}
    lines = ["from paragon_archs.utils import allocator as a"]
    lines += [calls[name] for name in calls if name != last] + [calls[last]]
    kept = last == "keep"
    lines.append(f"assert a.freed_memory_is_kept() is {kept}")
    lines.append(f"assert a.freed_memory_is_returned() is {not kept}")
    assert (kept_after("\n".join(lines)) >= 120) is kept


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_nothing_happens_elsewhere(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    assert keep_freed_memory() is False
