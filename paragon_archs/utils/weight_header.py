"""Looks at the head of a weight file before anything in it is believed.

A file has a size: whatever its header claims beyond that is refused before
memory is taken for it. Nothing here builds an object out of the file.
"""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

MAX_TENSORS = 20_000  # five times those of the largest known network
MAX_JSON = 32 << 20  # bytes of a safetensors header; its metadata may hold a workflow
MAX_PICKLE = 16 << 20  # bytes
MAX_RECORDS = 200_000  # files in an archive; a training state has four a weight
MAX_OBJECTS = 1_000_000  # of a pickle, each counted as often as it is referred to
MAX_DEPTH = 100

# First bytes of what ends up under a weight file's name -> what it is.
_STRANGERS = {
    b"<": "a web page, as a failed download leaves it. Download the file itself",
    b"version https://git-lfs": (
        "a Git LFS pointer to the file. Fetch the file itself: git lfs pull"
    ),
    b"{": "JSON text. Download the file itself",
    b"Rar!": "a RAR archive. Unpack it first",
    b"7z\xbc\xaf": "a 7z archive. Unpack it first",
    b"\x1f\x8b": "a gzip archive. Unpack it first",
}


class HeaderError(ValueError):
    """What a file is instead of a weight file: ends a sentence of the reader."""


def check_known(file: Path) -> None:
    """Checks that a file is none of what often ends up under its name.

    Raises:
        HeaderError: when it is a web page, a pointer or an archive.
        OSError: when it cannot be read.
    """
    with file.open("rb") as opened:
        _check_head(opened)


def check_safetensors(file: Path) -> None:
    """Checks a safetensors file's own idea of its length.

    Raises:
        HeaderError: when the file is something else, or its header is larger than it.
        OSError: when it cannot be read.
    """
    with file.open("rb") as opened:
        size = _check_head(opened)
        length = int.from_bytes(opened.read(8), "little")
    if size < 8 or length > min(size - 8, MAX_JSON):
        raise HeaderError(
            f"cut off or no safetensors file: {size} bytes with a header of {length}. "
            "Get or save it anew"
        )


def check_pickle(file: Path) -> None:
    """Checks a file of torch, a zip archive or the older row of pickles.

    Raises:
        HeaderError: when it is something else, holds more than its own size, or asks
            for more objects than networks have.
        OSError: when it cannot be read.
    """
    with file.open("rb") as opened:
        size = _check_head(opened)
        if opened.read(4) == b"PK\x03\x04":
            _check_archive(opened, size)
            return
        opened.seek(0)
        head = io.BytesIO(opened.read(MAX_PICKLE))
    for _ in range(5):  # magic number, protocol, system, content, names of storages
        _check_objects(head)


def _check_head(opened: BinaryIO) -> int:
    """Returns the file's size; the position is its start."""
    head = opened.read(512).removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, what in _STRANGERS.items():
        if head.startswith(start):
            raise HeaderError(what)
    size = opened.seek(0, io.SEEK_END)
    opened.seek(0)
    return size


def _check_archive(opened: BinaryIO, size: int) -> None:
    if (count := _record_count(opened, size)) > MAX_RECORDS:
        raise HeaderError(f"an archive of {count} files. Get or save it anew")
    try:
        with zipfile.ZipFile(opened) as archive:
            records = archive.infolist()
            names = {r.filename.rpartition("/")[2]: r for r in records}
            if "constants.pkl" in names:
                raise HeaderError(
                    "a TorchScript program, not weights. Save the network's weights "
                    "where it was made, torch.save(network.state_dict(), 'x.pth'), or "
                    "export it to ONNX: torch.onnx.export(network, image, 'x.onnx')"
                )
            held = sum(r.file_size for r in records)
            packed = [r for r in records if r.compress_type != zipfile.ZIP_STORED]
            if packed or held > size:
                raise HeaderError(
                    f"an archive that unpacks to {held} bytes from {size}, which "
                    "torch does not write. Unpack it, or get it anew"
                )
            content = names.get("data.pkl")
            if content is None:
                raise HeaderError("a zip archive of other things. Unpack it first")
            if content.file_size > MAX_PICKLE:
                raise HeaderError(f"a pickle of {content.file_size} bytes of objects")
            _check_objects(io.BytesIO(archive.read(content)))
    except HeaderError:
        raise
    # What a damaged archive makes of zipfile is many things, which all say the same.
    except Exception as error:
        raise HeaderError("cut off or damaged. Get or save it anew") from error


def _record_count(opened: BinaryIO, size: int) -> int:
    """Number of files that an archive claims; zipfile would make an object of each."""
    opened.seek(max(0, size - (1 << 16) - 22))
    tail = opened.read()
    end = tail.rfind(b"PK\x05\x06")
    opened.seek(0)
    if end < 0 or end + 12 > len(tail):
        return 0
    (count,) = struct.unpack_from("<H", tail, end + 10)
    wide = tail.rfind(b"PK\x06\x06", 0, end)  # zip64: what does not fit into 16 bits
    if count == 0xFFFF and 0 <= wide <= len(tail) - 40:
        (count,) = struct.unpack_from("<Q", tail, wide + 32)
    return count


_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_GETS = ("GET", "BINGET", "LONG_BINGET")
# The one callable of torch's list that fills as much memory as a number asks for.
_HUNGRY = "bytearray"


def _check_objects(content: BinaryIO) -> None:
    """Walks one pickle's instructions with sizes in place of objects.

    Raises:
        HeaderError: when it is no pickle, or refers to itself so often or so deeply
            that walking or hashing it would not end.
    """
    try:
        _walk(content)
    except HeaderError:
        raise
    # As above: pickletools' errors, and an empty stack or memo.
    except Exception as error:
        raise HeaderError(
            "no checkpoint: cut off, damaged or something else. Get or save it anew"
        ) from error


def _walk(content: BinaryIO) -> None:
    stack: list[tuple[int, int] | None] = []  # objects within and depth; None: a mark
    memo: dict[int, tuple[int, int]] = {}

    def pop() -> tuple[int, int]:
        if (held := stack.pop()) is None:
            raise IndexError("a mark where an object should be")
        return held

    argument: Any  # a number of an object, a name, a value
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if count > MAX_OBJECTS:
            raise HeaderError(f"a pickle of more than {MAX_OBJECTS:,} instructions")
        name = opcode.name
        if name == "MARK":
            stack.append(None)
        elif name in _PUTS:
            memo[len(memo) if argument is None else argument] = held = pop()
            stack.append(held)
        elif name in _GETS:
            stack.append(memo[argument])
        else:
            if name == "GLOBAL" and argument.endswith(_HUNGRY):
                raise HeaderError(
                    f"a pickle that asks for {argument.replace(' ', '.')}, which no "
                    "weights need. Ask its author for a .safetensors file"
                )
            objects, depth = 1, 1
            for taken in reversed(opcode.stack_before):
                if taken is pickletools.stackslice:
                    while (held := stack.pop()) is not None:
                        objects, depth = objects + held[0], max(depth, held[1] + 1)
                elif taken is not pickletools.markobject:
                    held = pop()
                    objects, depth = objects + held[0], max(depth, held[1] + 1)
            if objects > MAX_OBJECTS or depth > MAX_DEPTH:
                raise HeaderError("a pickle that multiplies or nests without end")
            stack += [(objects, depth)] * len(opcode.stack_after)
