"""The registries that everything of the pack enters, and BasicSR's once it is there.

Every module of the pack, and every arch file copied into another host, registers
through this one place: `from ..utils.registry import ARCH_REGISTRY` is right inside
`paragon_archs`, `basicsr`, `traiNNer` and `neosr` alike. Nothing here imports BasicSR:
when it is imported, by whomever, `host.hook` joins these registries to BasicSR's own.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, KeysView
from typing import Any, Protocol, TypeVar, overload

logger = logging.getLogger(__name__)


class _Named(Protocol):
    """A class or a function."""

    __name__: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


N = TypeVar("N", bound=_Named)


class HostRegistry(Protocol):
    """What BasicSR's registries do."""

    def register(self, obj: _Named) -> object: ...
    def get(self, name: str) -> Any: ...
    def __contains__(self, name: str) -> bool: ...
    def __iter__(self) -> Iterator[tuple[str, Any]]: ...


class Registry:
    """Maps names to classes and functions; BasicSR's of the same kind, once joined.

    Without BasicSR it holds what the pack registers, so that architectures, loaders
    and inference need nothing but torch.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, _Named] = {}
        self._host: HostRegistry | None = None

    def join(self, host: HostRegistry) -> None:
        """Enters everything into a registry of BasicSR, and stands for it from now on.

        Raises:
            ValueError: when it holds something else under one of our names.
        """
        for name, obj in self._obj_map.items():
            self._enter(host, name, obj)
        self._host = host

    def _enter(self, registry: HostRegistry, name: str, obj: _Named) -> None:
        if name not in registry:
            registry.register(obj)
        elif dict(registry)[name] is not obj:
            raise ValueError(
                f"Expected names in the {self._name} registry to be unique, but got "
                f"{name!r} twice. Rename one of the two."
            )

    @overload
    def register(self, obj: None = None) -> Callable[[N], N]: ...
    @overload
    def register(self, obj: N) -> N: ...
    def register(self, obj: _Named | None = None) -> object:
        """Registers `obj` under its `__name__`, as a decorator or as a call.

        Raises:
            ValueError: when the name is taken.
        """
        if obj is None:

            def decorator(decorated: N) -> N:
                self.register(decorated)
                return decorated

            return decorator
        if obj.__name__ in self:
            raise ValueError(
                f"Expected names in the {self._name} registry to be unique, but got "
                f"{obj.__name__!r} twice. Rename one of the two."
            )
        self._obj_map[obj.__name__] = obj
        if self._host is not None:
            self._host.register(obj)
        return obj

    def get(self, name: str) -> Any:
        """Returns what is registered as `name`; raises KeyError when nothing is."""
        if self._host is not None:
            return self._host.get(name)
        if name not in self._obj_map:
            raise KeyError(
                f"No object named {name!r} found in {self._name!r} registry!"
            )
        return self._obj_map[name]

    def __contains__(self, name: str) -> bool:
        return name in (self._obj_map if self._host is None else self._host)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._obj_map.items() if self._host is None else self._host)

    def keys(self) -> KeysView[str]:
        """Returns the registered names."""
        return dict(self).keys()


ARCH_REGISTRY = Registry("arch")
MODEL_REGISTRY = Registry("model")
DATASET_REGISTRY = Registry("dataset")
LOSS_REGISTRY = Registry("loss")
METRIC_REGISTRY = Registry("metric")


def join_host() -> None:
    """Joins every registry to that of the BasicSR which is imported."""
    host = importlib.import_module("basicsr.utils.registry")
    for name, own in globals().items():
        if name.endswith("_REGISTRY"):
            own.join(getattr(host, name))


@functools.cache
def load_host() -> bool:
    """Imports BasicSR, which registers the pack in it; seconds, the first time.

    Returns:
        False when it is absent, or broken: one warning then gives the reason.
    """
    if importlib.util.find_spec("basicsr") is None:
        return False
    try:
        importlib.import_module("basicsr")
    except (ImportError, AttributeError, OSError) as error:
        logger.warning(
            "BasicSR is installed but cannot be imported (%s: %s). Architectures, "
            "loaders and inference work without it; training does not.",
            type(error).__name__,
            error,
        )
        return False
    return True


def __getattr__(name: str) -> bool:
    if name == "HAS_BASICSR":
        return load_host()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
