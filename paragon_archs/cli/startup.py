"""What makes a command start quickly."""

from __future__ import annotations

import importlib
import sys
from collections.abc import MutableSequence
from types import ModuleType
from typing import Any

# What spandrel takes of torchvision when it is imported: two functions of two networks.
_MODULES = (
    "torchvision",
    "torchvision.transforms",
    "torchvision.transforms.functional",
)


class _Later:
    """A name out of a module that is imported when the name is used."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _real(self) -> Any:
        module = importlib.import_module(self._module)
        if isinstance(module, _StandIn):
            raise ImportError(f"{self._module} is used while spandrel is imported")
        return getattr(module, self._name)

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        return self._real()(*arguments, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)


class _StandIn(ModuleType):
    """A module that gives names away without being there."""

    __path__: MutableSequence[str] = []  # noqa: RUF012 (no modules of its own)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Later(self.__name__, name)


def load_spandrel() -> None:
    """Imports spandrel without torchvision, which takes as long as torch itself.

    Two of spandrel's networks import a function of it each; they get one that imports
    torchvision when it is called. For a command's own process alone: nobody else may
    import torchvision meanwhile. Does nothing where either is there already.
    """
    if {"spandrel", "torchvision"} & sys.modules.keys():
        return
    stand_ins = {name: _StandIn(name) for name in _MODULES}
    sys.modules.update(stand_ins)
    try:
        importlib.import_module("spandrel")
        return
    except ImportError:  # another version, which needs more of it at once
        for name in [n for n in sys.modules if n.split(".")[0] == "spandrel"]:
            del sys.modules[name]
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
    importlib.import_module("spandrel")
