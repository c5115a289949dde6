"""EXIF as TIFF directories of raw values: edited without being interpreted.

Values are bytes of the block's own byte order. What cannot be interpreted (text in any
encoding, tags of a wrong type, unknown ones) is therefore carried as it came.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

PREFIX = b"Exif\0\0"
DETAILS, GPS, INTEROP = 0x8769, 0x8825, 0xA005  # tags that point to directories
_PARTS = (DETAILS, GPS, INTEROP)
ORIENTATION, MAKER_NOTE = 0x0112, 0x927C
WIDTHS, HEIGHTS = ((None, 256), (DETAILS, 0xA002)), ((None, 257), (DETAILS, 0xA003))
SHORT, LONG, RATIONAL, UNDEFINED = 3, 4, 5, 7
BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_BYTES = BYTES | {13: 4, 16: 8, 17: 8, 18: 8}  # BigTIFF's
_POINTERS = (LONG, 13, 16, 18)
_MOST_ENTRIES = 4096
_MOST_BYTES = 2**26  # of one directory; entries that overlap could add up to anything

# The first four bytes -> byte order, and the formats of count, entry and offset.
_LAYOUTS = {
    b"II*\0": ("<", "H", "HHI4s", "I", 4),
    b"MM\0*": (">", "H", "HHI4s", "I", 4),
    b"II+\0": ("<", "Q", "HHQ8s", "Q", 8),
    b"MM\0+": (">", "Q", "HHQ8s", "Q", 8),
}

Value = tuple[int, int, bytes]
"""Type, count and bytes of an entry."""


class ExifError(ValueError):
    """A block that is no TIFF structure."""


@dataclass
class Exif:
    """An EXIF block, or the tags of a TIFF file's first page.

    Attributes:
        order: `<` or `>`.
        main: The first directory, without pointers to others.
        parts: The directories of details, position and interoperability by the tags
            that point to them.
        note_at: Where the maker's note, whose offsets count from the block's start,
            stood.
        more: Whether another directory (a thumbnail, a page) followed, which is not
            read.
    """

    order: str = ">"
    main: dict[int, Value] = field(default_factory=dict)
    parts: dict[int, dict[int, Value]] = field(default_factory=dict)
    note_at: int = 0
    more: bool = False

    def __bool__(self) -> bool:
        return bool(self.main or any(self.parts.values()))

    @staticmethod
    def parse(block: bytes | memoryview) -> Exif:
        """Reads an EXIF block, with or without its prefix, or a (Big)TIFF file.

        Entries that lie outside the block are left out.

        Raises:
            ExifError: when it has no first directory.
        """
        data = memoryview(block)
        if data[:6] == PREFIX:
            data = data[6:]
        layout = _LAYOUTS.get(bytes(data[:4]))
        if layout is None:
            raise ExifError("it has no header")
        order, _, _, pointer, wide = layout
        exif = Exif(order)
        try:
            (first,) = struct.unpack_from(order + pointer, data, 4 if wide == 4 else 8)
            exif.main, exif.more = exif._directory(data, first, layout)
            for tag in (DETAILS, GPS):
                exif._follow(data, exif.main, tag, layout)
            exif._follow(data, exif.parts.get(DETAILS, {}), INTEROP, layout)
        except (struct.error, IndexError) as error:
            raise ExifError(str(error)) from error
        for table in (exif.main, *exif.parts.values()):
            for tag in [t for t, value in table.items() if value[0] not in BYTES]:
                del table[tag]
        return exif

    def _follow(
        self,
        data: memoryview,
        table: dict[int, Value],
        tag: int,
        layout: tuple[str, str, str, str, int],
    ) -> None:
        """Reads the directory that a tag points to; one that is broken is left out."""
        kind, count, value = table.pop(tag, (0, 0, b""))
        if kind not in _POINTERS or count != 1:
            return
        (at,) = struct.unpack(self.order + ("Q" if len(value) == 8 else "I"), value)
        with contextlib.suppress(struct.error, ExifError):
            self.parts[tag] = self._directory(data, at, layout)[0]

    def _part(self, tag: int) -> dict[int, Value]:
        return self.parts.setdefault(tag, {})

    def _directory(
        self, data: memoryview, at: int, layout: tuple[str, str, str, str, int]
    ) -> tuple[dict[int, Value], bool]:
        order, counter, entry, pointer, wide = layout
        (count,) = struct.unpack_from(order + counter, data, at)
        if count > _MOST_ENTRIES:
            raise ExifError(f"a directory of {count} entries")
        at += struct.calcsize(order + counter)
        size = struct.calcsize(order + entry)
        found: dict[int, Value] = {}
        left = _MOST_BYTES
        for _ in range(count):
            tag, kind, number, held = struct.unpack_from(order + entry, data, at)
            length = _BYTES.get(kind, 0) * number
            if 0 < length <= wide:
                found.setdefault(tag, (kind, number, held[:length]))
            elif length:
                (start,) = struct.unpack(order + pointer, held)
                if start + length <= len(data) and length <= left:
                    left -= length
                    value = bytes(data[start : start + length])
                    found.setdefault(tag, (kind, number, value))
                    if tag == MAKER_NOTE:
                        self.note_at = start
            at += size
        following = data[at : at + wide]
        return found, any(following)

    def number(self, part: int | None, tag: int) -> int | None:
        """Returns a whole number, or None where it is absent or of another kind."""
        where = self.main if part is None else self.parts.get(part, {})
        kind, count, value = where.get(tag, (0, 0, b""))
        if kind not in (SHORT, LONG) or count != 1:
            return None
        return struct.unpack(self.order + ("H" if kind == SHORT else "I"), value)[0]

    def put(self, part: int | None, tag: int, value: int) -> None:
        """Sets a whole number."""
        where = self.main if part is None else self._part(part)
        where[tag] = (LONG, 1, struct.pack(self.order + "I", value))

    def put_text(self, tag: int, text: str) -> None:
        """Sets a text of the first directory, in UTF-8 where it is not ASCII."""
        value = text.encode() + b"\0"
        self.main[tag] = (2, len(value), value)

    def tobytes(self, base: int | None = None) -> bytes:
        """Returns the block.

        Args:
            base: None for a block of its own, prefix included. Else the block without
                its header of 8 bytes, for a place in a file whose first byte after
                that header is byte `base + 8`; the first directory comes first.
        """
        note = self.parts.get(DETAILS, {}).get(MAKER_NOTE)
        if base is not None or note is None or self.note_at < 8:
            start = 8 if base is None else base + 8
            body = self._body(start, None)
            at = 8
        else:
            # The note stays where it stood: its own offsets count from the start.
            body = self._body(8, self.note_at)
            gap = self.note_at - 8
            if len(body) <= gap:
                body, at = body.ljust(gap, b"\0") + note[2], 8
            else:
                at = self.note_at + len(note[2])
                at += at % 2
                rest = self._body(at, self.note_at)
                body = (bytes(gap) + note[2]).ljust(at - 8, b"\0") + rest
        if base is not None:
            return body
        sign = b"II*\0" if self.order == "<" else b"MM\0*"
        return PREFIX + sign + struct.pack(self.order + "I", at) + body

    def _body(self, start: int, note_at: int | None) -> bytes:
        """Lays the directories out from byte `start` of the block on."""
        parts = {tag: dict(part) for tag, part in self.parts.items() if part}
        if INTEROP in parts:
            parts.setdefault(DETAILS, {})
        order = [tag for tag in _PARTS if tag in parts]
        tables: list[tuple[int | None, Mapping[int, Value]]] = [(None, self.main)]
        tables += [(tag, parts[tag]) for tag in order]
        inside: dict[int | None, list[int]] = {
            None: [tag for tag in order if tag != INTEROP],
            DETAILS: [tag for tag in order if tag == INTEROP],
        }
        places: dict[int | None, int] = {}
        at = start
        for tag, table in tables:
            places[tag] = at
            rows = len(table) + len(inside.get(tag, []))
            at += 2 + 12 * rows + 4
        head, values = b"", b""
        for tag, table in tables:
            rows = dict(table)
            for pointer in inside.get(tag, []):
                rows[pointer] = (
                    LONG,
                    1,
                    struct.pack(self.order + "I", places[pointer]),
                )
            head += struct.pack(self.order + "H", len(rows))
            for name, (kind, count, value) in sorted(rows.items()):
                if len(value) <= 4:
                    held = value.ljust(4, b"\0")
                elif name == MAKER_NOTE and tag == DETAILS and note_at is not None:
                    held = struct.pack(self.order + "I", note_at)
                else:
                    held = struct.pack(self.order + "I", at + len(values))
                    values += value + b"\0" * (len(value) % 2)
                head += struct.pack(self.order + "HHI", name, kind, count) + held
            head += bytes(4)
        return head + values
