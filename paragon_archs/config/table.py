"""The README's table of keys, made of the tables that the checker uses.

`python -m paragon_archs.config.table` prints it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from .keys import KEYS, REQUIRED, Key
from .signatures import known_types


def keys_table() -> str:
    """Returns every key, its default and what it does, as a Markdown table."""
    rows = [_row(path, key) for path, key in KEYS.items() if key.text]
    sets: dict[str, tuple[str, Key, list[str]]] = {}
    for name, target in sorted(known_types("data set").items()):
        for base in reversed(getattr(target, "__mro__", ())):
            for key, value in vars(base).get("KEYS", {}).items():
                names = sets.setdefault(f"{key} {value}", (key, value, []))[2]
                names += [] if name in names else [name]
    for key, value, names in sets.values():
        if f"datasets:*:{key}" not in KEYS:
            which = ", ".join(f"`{name}`" for name in names)
            rows.append(_row(f"datasets:*:{key}", value, f"{which}: "))
    head = ["| key | default | what it does |", "| --- | --- | --- |"]
    return "\n".join([*head, *rows])


def _row(path: str, key: Key, before: str = "") -> str:
    text = before + key.text
    if key.choices:
        text += f" ({', '.join('~' if c is None else str(c) for c in key.choices)})"
    if key.model not in ("", "ParagonModel"):
        text += f"; `{key.model}`"
    text = text.replace("|", "\\|")
    return f"| `{path}` | {_default(key)} | {text} |"


def _default(key: Key) -> str:
    value: Any = key.default
    if value is REQUIRED:
        return "required"
    if value is None or value == {}:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def classes_table(classes: Mapping[str, type]) -> str:
    """Returns classes, their arguments and what they are, as a Markdown table."""
    rows = ["| `type` | arguments | what it is |", "| --- | --- | --- |"]
    for name, target in classes.items():
        arguments = ", ".join(
            f"`{argument}: {_plain(parameter.default)}`"
            for argument, parameter in inspect.signature(target).parameters.items()
        )
        text = (inspect.getdoc(target) or "").split("\n", maxsplit=1)[0].rstrip(".")
        rows.append(f"| `{name}` | {arguments} | {text} |")
    return "\n".join(rows)


def _plain(value: Any) -> str:
    """Writes a default as YAML does."""
    return json.dumps(value).strip('"')


if __name__ == "__main__":
    print(keys_table())
