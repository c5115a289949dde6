"""Half precision: its dtypes, and what to do where it gives no numbers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch
from torch import Tensor

from .dtypes import dtype_name

T = TypeVar("T")

logger = logging.getLogger(__name__)

HALVES = (torch.float16, torch.bfloat16)

PATIENCE = 3
"""Images that half precision may spoil before all further ones are float32's."""


def all_finite(x: Tensor) -> bool:
    """Whether no value is infinite or not a number."""
    # Such values survive in a sum, which is sixty times as fast as a look at each.
    if bool(torch.isfinite(x.sum(dtype=torch.float32))):
        return True
    return bool(torch.isfinite(x).all())  # the sum of large values may overflow


class Fallback(Generic[T]):
    """A network in its dtype, and in float32 for what half precision spoils.

    Args:
        network: The network, in `dtype`.
        dtype: The dtype.
        widen: Makes the network in float32 out of its original weights; called once,
            at the first result that is not finite.
    """

    def __init__(self, network: T, dtype: torch.dtype, widen: Callable[[], T]) -> None:
        self._network = network
        self._dtype = dtype
        self._widen = widen
        self._spoiled = 0

    @functools.cached_property
    def wide(self) -> T:
        """The network in float32."""
        return self._network if self._dtype not in HALVES else self._widen()

    def attempts(self) -> Iterator[T]:
        """Yields what to run: the network, then, if its result was not finite, `wide`.

        The caller stops at the first finite result; another step means there was none.
        """
        if self._spoiled < PATIENCE:
            yield self._network
            if self._dtype not in HALVES:
                return
            self._spoiled += 1
            logger.warning(
                "not finite in %s: computed again in float32%s",
                dtype_name(self._dtype),
                ", as all that follows" if self._spoiled == PATIENCE else "",
            )
        yield self.wide
