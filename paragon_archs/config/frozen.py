"""Options after checking: nobody writes into them any more."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .sections.run import RunSection


class Frozen(dict[Any, Any]):
    """A dict that refuses to be written to; BasicSR's classes want nothing but a dict.

    A deep copy is an ordinary dict: who takes options apart works on a copy.
    """

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(
            "Expected options to stay as they were checked, but something writes into "
            "them. Write into copy.deepcopy(options)."
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, object]) -> dict[Any, Any]:
        return {k: copy.deepcopy(v, memo) for k, v in self.items()}

    def __reduce__(self) -> tuple[object, ...]:
        return freeze, (dict(self),)


def freeze(value: object) -> Any:
    """Returns a copy of nested dicts and lists whose dicts cannot be written to."""
    if isinstance(value, Mapping):
        return Frozen({k: freeze(v) for k, v in value.items()})
    if isinstance(value, list):
        return [freeze(v) for v in value]
    return value


def place_of(
    path: Sequence[Hashable], places: Mapping[tuple[Hashable, ...], str], file: Path
) -> str:
    """Returns where `path`, or the nearest section around it, was written."""
    for length in range(len(path), 0, -1):
        if tuple(path[:length]) in places:
            return places[tuple(path[:length])]
    return str(file)


@dataclass(frozen=True)
class RunOptions:
    """An option file after checking, every default filled in.

    Attributes:
        name: Of the run, and of its folder.
        model_type: Name of the model's class.
        is_train: Training, or testing.
        auto_resume: Whether to go on from the newest whole state of that name.
        root: Folder under which experiments and results go.
        values: All keys, as the host's classes take them.
        sections: The same, typed.
        recorded: What training states keep of them.
        file: The option file.
        places: Where each key was written.
    """

    name: str
    model_type: str
    is_train: bool
    auto_resume: bool
    root: Path
    values: Frozen
    sections: RunSection
    recorded: Frozen
    file: Path
    places: Mapping[tuple[Hashable, ...], str]

    def place(self, path: Sequence[Hashable]) -> str:
        """Returns where `path`, or the nearest section around it, was written."""
        return place_of(path, self.places, self.file)
