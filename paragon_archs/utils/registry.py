"""BasicSR's registries where it is installed, stand-ins of the same contract if not.

Every module of the pack, and every arch file copied into another host, registers
through this one place: `from ..utils.registry import ARCH_REGISTRY` is right inside
`paragon_archs`, `basicsr`, `traiNNer` and `neosr` alike.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

logger = logging.getLogger(__name__)

_ALIAS = "torchvision.transforms.functional_tensor"


class Registry:
    """Stand-in for BasicSR's registry: maps names to classes and functions.

    Used when BasicSR is not installed, so that architectures, loaders and inference
    need nothing but torch.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}

    def register(self, obj: Any = None) -> Any:
        """Registers `obj` under its `__name__`, as a decorator or as a call.

        Raises:
            ValueError: when the name is taken.
        """
        if obj is None:

            def decorator(decorated: Callable[..., Any]) -> Callable[..., Any]:
                self.register(decorated)
                return decorated

            return decorator
        if obj.__name__ in self._obj_map:
            raise ValueError(
                f"Expected names in the {self._name} registry to be unique, but got "
                f"{obj.__name__!r} twice. Rename one of the two."
            )
        self._obj_map[obj.__name__] = obj
        return obj

    def get(self, name: str) -> Any:
        """Returns what is registered as `name`; raises KeyError when nothing is."""
        if name not in self._obj_map:
            raise KeyError(
                f"No object named {name!r} found in {self._name!r} registry!"
            )
        return self._obj_map[name]

    def __contains__(self, name: str) -> bool:
        return name in self._obj_map

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._obj_map.items())

    def keys(self) -> Any:
        """Returns the registered names."""
        return self._obj_map.keys()


def _add_functional_tensor_alias() -> None:
    """Gives BasicSR 1.4.2 the torchvision module that it imports, if it is gone.

    torchvision 0.17 removed `transforms.functional_tensor`; BasicSR's degradations
    want one function of it, which lives on in `transforms.functional`.
    """
    if importlib.util.find_spec("torchvision") is None:
        return
    if _ALIAS in sys.modules or importlib.util.find_spec(_ALIAS) is not None:
        return
    functional = importlib.import_module("torchvision.transforms.functional")
    alias = types.ModuleType(_ALIAS, "Alias of torchvision.transforms.functional.")
    alias.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[_ALIAS] = alias


def _add_distutils_stand_in() -> None:
    """Gives BasicSR 1.4.2 `distutils.version.LooseVersion` where it is gone.

    Python 3.12 removed distutils; setuptools brings it back, unless it is absent or
    told not to. BasicSR compares two versions of torchvision with it.
    """
    try:
        importlib.import_module("distutils.version")
        return
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("distutils"):
            raise
    vendored = importlib.import_module("torch._vendor.packaging.version")
    stand_in = types.ModuleType("distutils.version", "Stand-in by paragon_archs.")
    stand_in.LooseVersion = vendored.Version  # type: ignore[attr-defined]
    package = types.ModuleType("distutils", "Stand-in by paragon_archs.")
    package.version = stand_in  # type: ignore[attr-defined]
    sys.modules.setdefault("distutils", package)
    sys.modules["distutils.version"] = stand_in


def _host_registries() -> types.ModuleType | None:
    """Returns `basicsr.utils.registry`, or None when BasicSR is absent or broken."""
    if importlib.util.find_spec("basicsr") is None:
        return None
    try:
        _add_functional_tensor_alias()
        _add_distutils_stand_in()
        return importlib.import_module("basicsr.utils.registry")
    except (ImportError, AttributeError, OSError) as error:
        logger.warning(
            "BasicSR is installed but cannot be imported (%s: %s). Architectures, "
            "loaders and inference work without it; training does not.",
            type(error).__name__,
            error,
        )
        return None


_host = _host_registries()

HAS_BASICSR: bool = _host is not None
"""True when BasicSR is installed and imports."""

ARCH_REGISTRY: Any = _host.ARCH_REGISTRY if _host else Registry("arch")
MODEL_REGISTRY: Any = _host.MODEL_REGISTRY if _host else Registry("model")
DATASET_REGISTRY: Any = _host.DATASET_REGISTRY if _host else Registry("dataset")
LOSS_REGISTRY: Any = _host.LOSS_REGISTRY if _host else Registry("loss")
METRIC_REGISTRY: Any = _host.METRIC_REGISTRY if _host else Registry("metric")
