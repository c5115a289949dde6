"""What a plain value of an option file may be: kinds, bounds, names."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator

from .key import Key

KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "name": (str,),
    "template": (str,),
    "list": (list,),
    "map": (dict,),
}
WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a name",
    "name": "a name of letters, digits, '.', '_', '+' and '-', at most 100 bytes",
    "template": "{} among letters, digits, '.', '_', '+' and '-'",
    "list": "a list",
    "map": "a section of keys",
}

MAX_NAME = 100  # bytes; a file system allows 255, and endings are added
MAX_PART = 255  # bytes of one part of a path
LARGEST = 2**63 - 1  # what torch and NumPy take

# A message's id, and what it is filled with.
Fault = tuple[str, dict[str, object]]


def is_name(text: str) -> bool:
    """True for what may become a part of a path on any system."""
    fits = re.fullmatch(r"[\w.+-]+", text) and text.strip(".")
    return bool(fits) and len(text.encode()) <= MAX_NAME


def is_template(text: str) -> bool:
    """True for a file name's pattern: one `{}`, and around it what a name has."""
    before, braces, after = text.partition("{}")
    return bool(braces) and is_name(f"{before}x{after}")


def unfit(
    value: object, path: tuple[Hashable, ...] = ()
) -> Iterator[tuple[tuple[Hashable, ...], str, object]]:
    """Yields path, what is expected and the value, of what no option can be.

    Args:
        value: Sections, lists and plain values, as YAML gives them.
        path: Where it stands.
    """
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from unfit(entry, (*path, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from unfit(entry, (*path, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, "a finite number", value
    elif isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        yield path, "a whole number of 64 bits", value
    elif isinstance(value, str):
        try:
            longest = max(len(part.encode()) for part in value.split("/"))
        except UnicodeEncodeError:
            yield path, "text that can be written in UTF-8", value
            return
        if longest > MAX_PART or "\0" in value:
            yield path, f"text without parts of over {MAX_PART} bytes or NUL", value
    elif not isinstance(value, (int, float, bool, type(None))):
        yield path, "text, a number, true or false, a list or a section", value


def as_kind(key: Key, value: object) -> object:
    """Returns a value as the kind that YAML took for another: `2e3`, a name `2026`."""
    kinds = key.kind.split("|")
    if isinstance(value, float) and value.is_integer() and "float" not in kinds:
        value = int(value) if "int" in kinds else value
    textual = {"str", "name", "template"} & set(kinds)
    if textual and "int" not in kinds and not isinstance(value, bool):
        value = str(value) if isinstance(value, (int, float)) else value
    return value


def fault(key: Key, value: object) -> Fault | None:
    """Returns what is wrong with a value that `as_kind` gave, if anything is."""
    kinds = key.kind.split("|")
    if "any" in kinds:
        return None
    allowed = tuple(t for kind in kinds for t in KINDS[kind])
    if not isinstance(value, allowed) or (
        isinstance(value, bool) and "bool" not in kinds
    ):
        return wrong_kind(key, value)
    if isinstance(value, str) and "str" not in kinds:
        right = ("name" in kinds and is_name(value)) or (
            "template" in kinds and is_template(value)
        )
        if not right:
            return wrong_kind(key, value)
    if key.choices and value not in key.choices:
        choices = ", ".join(map(str, key.choices))
        return "wrong_choice", {"choices": choices, "value": value}
    numbers = value if isinstance(value, list) else [value]
    if key.length is not None and isinstance(value, list):
        if len(value) != key.length:
            words = {"kind": f"a list of {key.length}", "hint": "Fix it."}
            return "wrong_kind", {**words, "value": value}
    return _bounds(key, numbers)


def _bounds(key: Key, numbers: list[object]) -> Fault | None:
    if key.low is None and key.high is None:
        return None
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            if len(numbers) > 1:
                words = {"kind": "a list of numbers", "hint": "Fix it."}
                return "wrong_kind", {**words, "value": numbers}
            continue
        if key.low is not None and number < key.low:
            return "too_small", {"low": key.low, "value": number}
        if key.high is not None and number > key.high:
            return "too_large", {"high": key.high, "value": number}
    return None


def wrong_kind(key: Key, value: object) -> Fault:
    """Returns the fault of a value of another kind."""
    kind = " or ".join(WORDS[k] for k in key.kind.split("|"))
    quoted = isinstance(value, str) and key.kind in ("int", "float")
    hint = "Write it without quotes." if quoted else "Fix it."
    return "wrong_kind", {"kind": kind, "value": value, "hint": hint}
