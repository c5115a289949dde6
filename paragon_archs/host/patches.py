"""Applies the table of patches: the one place that changes anything of BasicSR."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from .table import MODULES, PATCHES, Patch

_ABSENT = object()
_originals: dict[str, object] = {}
_stand_ins: set[str] = set()


def install() -> None:
    """Repairs BasicSR in this process; calling it twice is fine."""
    for patch in PATCHES:
        if importlib.util.find_spec(patch.package) is not None:
            for target in patch.targets:
                apply(patch, target)


def install_modules() -> None:
    """Gives BasicSR the modules that it imports and that are gone."""
    for patch in MODULES:
        if importlib.util.find_spec(patch.package) is not None:
            for target in patch.targets:
                if is_needed(patch, target):
                    _add_module(target, _load(patch.replacement)())
                    _stand_ins.add(target)


def apply(patch: Patch, target: str) -> None:
    """Puts one replacement in its place, once."""
    if target in _originals:
        return
    owner, name = _owner(target)
    original = getattr(owner, name, _ABSENT)
    _originals[target] = original
    replacement = _load(patch.replacement)
    setattr(owner, name, replacement(original) if patch.wraps else replacement)


def is_needed(patch: Patch, target: str) -> bool:
    """Returns whether what the host itself has at a target is still broken."""
    if ":" not in target:
        return target in _stand_ins or _is_gone(target)
    probe = getattr(
        importlib.import_module(f"{__package__}.repairs.probes"), patch.probe
    )
    if patch.probe == "is_absent":
        return probe(original_of(target))
    return original_of(target) is not _ABSENT and probe(original_of(target))


def original_of(target: str) -> object:
    """Returns what stood at a target before its patch; `ABSENT` where nothing did."""
    if target in _originals:
        return _originals[target]
    owner, name = _owner(target)
    return getattr(owner, name, _ABSENT)


def rows() -> Iterator[tuple[Patch, str, bool | None]]:
    """Yields every patch and target, and whether it is needed here.

    None stands for a package that is not installed.
    """
    for patch in (*MODULES, *PATCHES):
        installed = importlib.util.find_spec(patch.package) is not None
        for target in patch.targets:
            yield patch, target, is_needed(patch, target) if installed else None


def _owner(target: str) -> tuple[object, str]:
    module, _, path = target.partition(":")
    *above, name = path.split(".")
    owner = importlib.import_module(module)
    for part in above:
        owner = getattr(owner, part)
    return owner, name


def _load(replacement: str) -> Any:
    module, _, path = replacement.partition(":")
    found = importlib.import_module(f"{__package__}.{module}")
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _is_gone(module: str) -> bool:
    try:
        return module not in sys.modules and importlib.util.find_spec(module) is None
    except ModuleNotFoundError:  # the package around it is gone, too
        return True


def _add_module(name: str, module: ModuleType) -> None:
    package, _, leaf = name.rpartition(".")
    if _is_gone(package):
        sys.modules[package] = type(sys)(package, "Stand-in by paragon_archs.")
        sys.modules[package].__path__ = []
    sys.modules[name] = module
    setattr(importlib.import_module(package), leaf, module)
