"""Finds the keys of an option file that a class reads, in its source."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from typing import Any


def demanded(code: Any) -> set[str]:
    """Keys that a data set reads as `opt['key']` and never asks for beforehand."""
    read, asked = set(), set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(code)))):
        names = {name for level, name in _entries(node) if level == "opt"}
        (read if isinstance(node, ast.Subscript) else asked).update(names)
    return read - asked


@functools.cache
def read_keys(target: type) -> set[tuple[str, str]]:
    """Returns (section or `opt`, key) of all that a class and its bases read."""
    found: set[tuple[str, str]] = set()
    for base in target.__mro__:
        found |= own_keys(base)
    return found


def own_keys(base: type) -> set[tuple[str, str]]:
    """Returns what the code of one class reads."""
    try:
        source = textwrap.dedent(inspect.getsource(base))
    except (OSError, TypeError):
        return set()  # built in, as `object` is
    found = {entry for node in ast.walk(ast.parse(source)) for entry in _entries(node)}
    # The host documents some keys that its code no longer reads.
    documented = re.findall(
        r"^\s*(\w+) \((?:str|int|float|bool|list|dict|tuple)",
        base.__doc__ or "",
        re.M,
    )
    return found | {("opt", name) for name in documented}


def _entries(node: ast.AST) -> list[tuple[str, str]]:
    """Keys that one expression reads: `opt['a']`, `opt.get('a')`, `'a' in opt`."""
    if isinstance(node, ast.Subscript):
        owner, key = node.value, node.slice
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("get", "pop")
        and node.args
    ):
        owner, key = node.func.value, node.args[0]
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
        owner, key = node.comparators[0], node.left
    else:
        return []
    level = _level(owner)
    if level is None or not isinstance(key, ast.Constant):
        return []
    return [(level, key.value)] if isinstance(key.value, str) else []


def _level(owner: ast.expr) -> str | None:
    """`opt`, `self.opt` -> opt; `train_opt`, `self.opt['train']` -> train."""
    if isinstance(owner, ast.Subscript) and isinstance(owner.slice, ast.Constant):
        inner = _level(owner.value)
        return str(owner.slice.value) if inner == "opt" else None
    name = getattr(owner, "attr", None) or getattr(owner, "id", None)
    if name is None or not name.endswith("opt"):
        return None
    return name.removesuffix("_opt") if name != "opt" else "opt"
