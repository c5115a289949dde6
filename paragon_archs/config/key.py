"""One key of an option file, and sections of keys as frozen, typed objects."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from types import NoneType, UnionType
from typing import Any, NewType, TypeVar, Union, get_args, get_origin, get_type_hints


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED = _Required()
SAME = object()

Name = NewType("Name", str)
"""A string that becomes a part of a path."""

# Part of an annotation -> kind of a key.
KINDS = {int: "int", float: "float", bool: "bool", str: "str", Name: "name"}
KINDS |= {object: "any", Sequence: "list", Mapping: "map"}
_UNIONS = (Union, UnionType)


@dataclass(frozen=True)
class Key:
    """One key.

    `kind` is int, float, bool, str, name, template, list, map or any, several joined by
    `|`; None is allowed where the default is None. A name becomes a part of a path, a
    template holds `{}` for one. `low` and `high` bound a number, or every number of a
    list, which has `length` entries where that is given. `model` is the model class
    that the key needs; every model takes it where that is empty. `host_default` is the
    default under a host's model, where it differs.
    """

    kind: str
    default: object
    text: str
    choices: tuple[object, ...] = ()
    low: float | None = None
    high: float | None = None
    length: int | None = None
    model: str = ""
    host_default: object = SAME
    example: str = ""

    def default_for(self, ours: bool) -> object:
        """Returns the default under a model of the pack (`ours`) or of the host."""
        if ours or self.host_default is SAME:
            return self.default
        return self.host_default


def key(
    text: str,
    default: object = REQUIRED,
    *,
    pattern: str = "",
    phase: str = "",
    entries: Key | None = None,
    listed: bool = True,
    **limits: Any,
) -> Any:
    """Returns a field of a `Section`; its annotation gives the kind of the key.

    Args:
        text: What the key does.
        default: Its value where it is absent.
        pattern: Of the keys that a mapping gathers, as `network_d*`.
        phase: Of the data sets that have the key, where not all do.
        entries: What the entries of a mapping must be, where that is no section.
        listed: False where the keys of the section inside are listed elsewhere.
        **limits: Bounds, choices, model and the rest, as `Key` has them.
    """
    one = Key("", default, text, **limits)
    more = {"pattern": pattern, "phase": phase, "entries": entries, "listed": listed}
    return field(metadata={"key": one, **more})


S = TypeVar("S", bound="Section")


@dataclass(frozen=True)
class Section:
    """A section of an option file: every key a typed field, never written to."""

    @classmethod
    def read(cls: type[S], values: Mapping[str, object] | None) -> S:
        """Reads a checked section; what is absent has its default."""
        values = values or {}
        return cls(**{one.name: _value(cls, one, values) for one in fields(cls)})

    @classmethod
    def keys(cls, path: str = "") -> Iterator[tuple[str, Key]]:
        """Yields the path and the key of every field, sections inside included."""
        for one in fields(cls):
            if "key" not in one.metadata:
                continue
            about, hint = one.metadata, _hints(cls)[one.name]
            if about["pattern"]:
                hint = get_args(hint)[1]
            above = path.replace("*", about["phase"] or "*")
            full = f"{above}:{about['pattern'] or one.name}".removeprefix(":")
            yield full, replace(about["key"], kind=_kind(hint))
            if about["entries"] is not None:
                yield f"{full}:*", about["entries"]
            inner = _inner(hint)
            if inner is not None and about["listed"]:
                several = get_origin(_parts(hint)[0]) is not None
                yield from inner.keys(f"{full}:*" if several else full)


@dataclass(frozen=True)
class Typed(Section):
    """A section whose `type` names a class or function, which takes `arguments`."""

    type: str
    arguments: Mapping[str, Any]

    @classmethod
    def read(cls: type[S], values: Mapping[str, object] | None) -> S:
        """Reads a checked section; what is none of its own keys is an argument."""
        values = values or {}
        keys = [one for one in fields(cls) if "key" in one.metadata]
        own = {"type": values.get("type", "")}
        own |= {one.name: _value(cls, one, values) for one in keys}
        own["arguments"] = {k: v for k, v in values.items() if k not in own}
        return cls(**own)

    def as_dict(self) -> dict[str, object]:
        """Returns type and arguments as the host's builders take them."""
        return {"type": self.type, **self.arguments}


def _value(cls: type[Section], one: Field[object], values: Mapping[str, Any]) -> Any:
    """Returns the typed value of one field."""
    hint, about = _hints(cls)[one.name], one.metadata
    inner = _inner(hint)
    if pattern := about["pattern"]:
        found = {
            name: value
            for name, value in values.items()
            if fnmatchcase(str(name), pattern) and value is not None
        }
        return {k: inner.read(v) for k, v in found.items()} if inner else found
    value = values.get(one.name)
    if value is None:
        value = about["key"].default
    if value is REQUIRED and about["key"].model:
        return None  # of another model
    if inner is None or value is None or value is REQUIRED:
        return value
    origin = get_origin(_parts(hint)[0])
    if origin is Sequence:
        return tuple(inner.read(entry) for entry in value)
    if origin is Mapping:
        return {k: inner.read(entry) for k, entry in value.items()}
    return inner.read(value)


@functools.cache
def _hints(cls: type[Section]) -> dict[str, object]:
    return get_type_hints(cls)


def _parts(hint: object) -> tuple[object, ...]:
    """Returns the alternatives of an annotation, but for None."""
    several = get_args(hint) if get_origin(hint) in _UNIONS else (hint,)
    return tuple(part for part in several if part is not NoneType)


def _kind(hint: object) -> str:
    kinds = []
    for part in _parts(hint):
        origin = get_origin(part) or part
        section = isinstance(origin, type) and issubclass(origin, Section)
        kinds.append("map" if section else KINDS[origin])
    return "|".join(kinds)


def _inner(hint: object) -> type[Section] | None:
    """Returns the section inside of an annotation, if there is one."""
    for part in _parts(hint):
        for one in (*get_args(part)[-1:], part):
            if isinstance(one, type) and issubclass(one, Section):
                return one
    return None
