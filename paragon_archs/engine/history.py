"""What a run has logged so far, as JSON lines beside its log."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..utils.files import atomic_write


class History:
    """Rows of a run, each with its iteration as `iter`.

    A row is appended to the file as soon as it is known. A line that a crash has cut
    off is passed over.

    Args:
        file: Of this run; need not exist.
        last: Iteration that the run goes on from: what was logged after it is dropped,
            for it comes again.
    """

    def __init__(self, file: Path, last: int) -> None:
        self.file = file
        *lines, end = (file.read_bytes() if file.exists() else b"").split(b"\n")
        found = map(_row, (*lines, end))
        self.rows = [r for r in found if r is not None and r["iter"] <= last]
        self._whole = not end and len(self.rows) == len(lines)

    def add(self, row: dict[str, object]) -> None:
        """Appends a row; numbers that are not finite become null.

        Raises:
            OSError: when it cannot be written; it is with the next one, if that can.
        """
        row = _finite(row)
        self.rows.append(row)
        whole, self._whole = self._whole, False
        if whole:
            with self.file.open("a", encoding="utf-8") as out:
                out.write(_line(row))
        else:  # a cut line, rows of a future that is given up, or a disk that was full
            with atomic_write(self.file) as temporary:
                temporary.write_text("".join(map(_line, self.rows)), encoding="utf-8")
        self._whole = True


def _line(row: dict[str, object]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    known = isinstance(row, dict) and isinstance(row.get("iter"), int)
    return row if known else None


def _finite(value: object) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
