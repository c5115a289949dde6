"""Networks on a GPU that is not there: shapes, dtypes and devices, but no values."""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

# What only hands out memory, or looks at it in another way.
_NO_KERNEL = {
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    *("detach", "lift_fresh", "_unsafe_view"),
}


@contextlib.contextmanager
def fake_gpu() -> Iterator[None]:
    """Lets tensors be made on `cuda` without one; nothing is computed."""
    attention = patch.object(F, "scaled_dot_product_attention", attend)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), attention:
        yield


def attend(query: Tensor, _: Tensor, value: Tensor, **__: Any) -> Tensor:
    """One launch, as on a GPU; without one torch takes attention apart."""
    b, heads, n, _ = query.shape
    return query.new_empty(b, n, heads, value.shape[-1]).transpose(1, 2)


def on_gpu(network: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """Gives a network fake weights on `cuda`, in place; inside `fake_gpu`."""
    for module in network.modules():
        for kind in (module._parameters, module._buffers):
            for name, value in kind.items():
                if value is None:
                    continue
                kept = value.dtype if not value.is_floating_point() else dtype
                kept = kept or value.dtype
                fake = torch.empty(value.shape, dtype=kept, device="cuda")
                is_parameter = kind is module._parameters
                kind[name] = nn.Parameter(fake, False) if is_parameter else fake
    return network


class Watch(TorchDispatchMode):
    """Counts what would be launched on the GPU.

    Attributes:
        kernels: Name of the operator -> launches.
        dtypes: Of all that is made on the GPU.
        made: Name of an operator -> dtypes of what it makes there.
        heads: Sizes of attention's heads.
        windows: Most windows in one call of attention.
        peak: Most bytes on the GPU at once, of what was made meanwhile.
        largest: Elements of the largest tensor.
        on_host: Names of operators that made something elsewhere than on the GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.dtypes: set[torch.dtype] = set()
        self.made: defaultdict[str, set[torch.dtype]] = defaultdict(set)
        self.heads: set[int] = set()
        self.on_host: set[str] = set()
        self.peak = self.largest = self.windows = self._live = 0
        self._storages: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self._attention = patch.object(F, "scaled_dot_product_attention", self._attend)

    def __enter__(self) -> Any:
        self._attention.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._attention.stop()

    def _attend(self, query: Tensor, *others: Tensor, **more: Any) -> Tensor:
        self.kernels["attention"] += 1
        self.heads.add(query.shape[-1])
        self.windows = max(self.windows, query.shape[0])
        return attend(query, *others, **more)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        made = result if isinstance(result, (list, tuple)) else [result]
        made = [t for t in made if isinstance(t, Tensor)]
        name = func.overloadpacket.__name__
        if any(t.device.type != "cuda" for t in made):
            self.on_host.add(name)
        made = [t for t in made if t.device.type == "cuda"]
        if made and not func.is_view and name not in _NO_KERNEL:
            self.kernels[name] += 1
        self.dtypes.update(t.dtype for t in made)
        self.made[name].update(t.dtype for t in made)
        for t in made:
            self._count(t.untyped_storage())
            self.largest = max(self.largest, t.numel())
        self.peak = max(self.peak, self._live)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._storages:
            return
        self._storages.add(storage)
        self._live += storage.nbytes()
        weakref.finalize(storage, self._drop, storage.nbytes())

    def _drop(self, size: int) -> None:
        self._live -= size
