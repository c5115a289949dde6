"""The deploy form behind a network: made when called, anew when weights change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from ..fuse import fuse_model
from ..utils.halves import HALVES, Fallback, all_finite
from .ops import recorded


class DeployCall:
    """Answers `call(model, image)` with the deploy form of `model`.

    The network itself stays what it is. Each call looks whether its weights are still
    those that were folded: other storage (`.to()`, `.half()`), in-place changes, and on
    the CPU changes through `.data`, which torch does not count and the weights' norms
    show. On other devices norms would cost a synchronization in every call.
    A result in half precision that is not finite is computed again in float32.

    Whoever traces, exports or compiles the call gets the fused network instead: the
    deploy form decides by sizes and dtypes, which a graph would keep for good.

    Args:
        deploy: Makes the deploy form of a network.
    """

    def __init__(self, deploy: Callable[[nn.Module], nn.Module]) -> None:
        self._deploy = deploy
        self._seen: object = None
        self._form: nn.Module | None = None
        self._fallback: Fallback[nn.Module] | None = None

    def form(self, model: nn.Module) -> nn.Module:
        """Returns the deploy form of `model` with its weights of now."""
        seen = _fingerprint(model)
        if self._form is None or seen != self._seen:
            # Made as ordinary tensors, so that they serve outside inference mode too.
            with torch.inference_mode(False), torch.no_grad():
                self._form = self._deploy(model)
            dtype = next(model.parameters()).dtype
            self._fallback = Fallback(self._form, dtype, lambda: self._wide(model))
            self._seen = seen
        return self._form

    def __call__(self, model: nn.Module, image: Tensor) -> Tensor:
        """Upscales `image` (B, C, H, W)."""
        if torch.compiler.is_compiling():
            # A compiler folds what is constant by itself, but fails on views of
            # parameters under inference mode, which spandrel's descriptor enters.
            with torch.inference_mode(False), torch.no_grad():
                return model(image)
        if is_traced(image):
            return _fused(model)(image)
        form, fallback = self.form(model), self._fallback
        if fallback is None:
            return form(image)
        y = image
        for network in fallback.attempts():
            y = network(image.to(next(network.parameters()).dtype))
            if y.dtype not in HALVES or all_finite(y):
                break
        return y.to(image.dtype)

    def _wide(self, model: nn.Module) -> nn.Module:
        with torch.inference_mode(False), torch.no_grad():
            return self._deploy(copy.deepcopy(model).float())

    def __deepcopy__(self, memo: dict[int, object]) -> DeployCall:
        return DeployCall(self._deploy)

    def __getstate__(self) -> dict[str, Any]:
        return vars(DeployCall(self._deploy))


def is_traced(image: Tensor) -> bool:
    """Whether a call with `image` is recorded, by whatever torch records with."""
    return (
        recorded()
        or type(image) not in (Tensor, nn.Parameter)
        or _get_current_dispatch_mode() is not None
    )


def _fused(model: nn.Module) -> nn.Module:
    """Returns the fused network, as constants; how it was fused is not recorded."""
    with ThreadPoolExecutor(1) as unrecorded:  # torch records thread by thread
        fused = unrecorded.submit(fuse_model, model).result()
    return fused.requires_grad_(False)


def _fingerprint(model: nn.Module) -> object:
    tensors = [t for t in (*model.parameters(), *model.buffers()) if t.numel()]
    local = [t for t in tensors if t.is_floating_point() and t.device.type == "cpu"]
    norms: list[float] = []
    if local:
        with torch.no_grad():
            measured = torch._foreach_norm([t.detach() for t in local])  # pyright: ignore[reportPrivateImportUsage]
            norms = torch.stack([n.double() for n in measured]).tolist()
    return id(model), [(t.data_ptr(), t.dtype, _version(t)) for t in tensors], norms


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
