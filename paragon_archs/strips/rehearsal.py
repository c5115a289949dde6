"""What a network would take on its device, found out without computing anything."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


@dataclass(frozen=True)
class Rehearsal:
    """What a call would take.

    Attributes:
        peak: Bytes at once at the most, inputs and results included.
        largest: Elements of the largest tensor.
    """

    peak: int
    largest: int


class _Live(TorchDispatchMode):
    """Bytes of all storages that operators have made and nobody has dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.largest = 0
        self._known: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Answers torch: True would import its compiler at the first operator."""
        return False

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            for made in tree_flatten(result)[0]:
                if isinstance(made, Tensor):
                    self._add(made.untyped_storage())
                    self.largest = max(self.largest, made.numel())
            self.peak = max(self.peak, self.now)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def rehearse(
    call: Callable[..., object],
    shapes: Sequence[tuple[int, ...]],
    like: Tensor,
) -> Rehearsal | None:
    """Returns what a call would take, without computing it.

    Args:
        call: What is run; shapes, dtypes and devices alone are computed. Of a network
            a copy is, with the same weights: what it keeps for later is worth nothing.
        shapes: Of its inputs.
        like: A weight, for dtype and device.

    Returns:
        None where the call looks at values.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    if isinstance(like, FakeTensor):
        mode = like.fake_mode
    live = _Live()
    with torch.inference_mode(False), torch.no_grad(), mode, live:
        inputs = [torch.empty(s, dtype=like.dtype, device=like.device) for s in shapes]
        try:
            if isinstance(call, nn.Module):
                weights = (*call.parameters(), *call.buffers())
                call = copy.deepcopy(call, {id(w): w for w in weights})
            call(*inputs)
        except (NotImplementedError, RuntimeError, TypeError, ValueError):
            return None
    return Rehearsal(live.peak, live.largest)
