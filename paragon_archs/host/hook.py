"""Registers the pack in BasicSR when BasicSR is imported, whoever imports it.

Needs the standard library alone: every `import paragon_archs` arms it.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import types
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

ROOMS = ("archs", "data", "losses", "metrics", "models")
"""Rooms whose import registers what they hold."""


class _Loader:
    """Executes BasicSR with the modules that it lacks, and registers the pack after."""

    def __init__(self, own: Any) -> None:
        self.own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)  # `get_source` and the like

    def create_module(self, spec: ModuleSpec) -> Any:
        return self.own.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        patches = importlib.import_module("paragon_archs.host.patches")
        patches.install_modules()
        self.own.exec_module(module)
        register()


class Finder:
    """Finds `basicsr` as Python would, with our loader around its own."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != "basicsr":
            return None
        for finder in sys.meta_path:
            if isinstance(finder, Finder) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


def register() -> None:
    """Registers the whole pack in the BasicSR that is imported."""
    importlib.import_module("paragon_archs.utils.registry").join_host()
    for room in ROOMS:
        importlib.import_module(f"paragon_archs.{room}")


def arm() -> None:
    """Registers at once where BasicSR is imported already, else when it will be."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
    host = sys.modules.get("basicsr")
    if host is not None and not getattr(host.__spec__, "_initializing", False):
        register()
