"""Tables of lines, each of which may fail without stopping the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

# Whatever a library raises on a card that nobody has tried.
FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError),
    *(MemoryError, OSError, RuntimeError, TypeError, ValueError),
)
_LONGEST = 160  # characters of a reason


@dataclass(frozen=True)
class Row:
    """What came of a line.

    Attributes:
        cells: Behind the line's name.
        held: Whether it is as it has to be.
    """

    cells: Sequence[str]
    held: bool = True


@dataclass(frozen=True)
class Section:
    """A table.

    Attributes:
        title: Its heading.
        note: What is measured, in a sentence or two.
        head: Names of the columns, that of the lines' names first.
        lines: Name -> what makes the line's other cells.
        binding: Whether a line that does not hold fails the whole report.
    """

    title: str
    note: str
    head: Sequence[str]
    lines: Mapping[str, Callable[[], Row]]
    binding: bool = False


def examine(
    sections: Iterable[Section], emit: Callable[[str], None], seconds: float
) -> bool:
    """Makes the tables, line by line.

    Args:
        sections: In order; what matters most first.
        emit: Takes each line of Markdown as soon as it is known.
        seconds: Lines that would start later are left out.

    Returns:
        Whether every line of the binding sections holds.
    """
    end, good = time.monotonic() + seconds, True
    for section in sections:
        emit(f"\n### {section.title}\n\n{section.note}\n")
        emit(_joined(section.head))
        emit(_joined(["---"] * len(section.head)))
        for name, line in section.lines.items():
            row = Row(["left out: the time is over"], held=False)
            if time.monotonic() < end:
                row = attempt(line)
            good &= row.held or not section.binding
            rest = [""] * (len(section.head) - 1 - len(row.cells))
            emit(_joined([name, *row.cells, *rest]))
    return good


def attempt(line: Callable[[], Row]) -> Row:
    """Returns what a line gives, or why it does not."""
    try:
        return line()
    except FAULTS as error:
        first = (str(error).strip().splitlines() or [""])[0][:_LONGEST]
        return Row([f"failed: {type(error).__name__}: {first}"], held=False)


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
