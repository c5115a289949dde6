"""The deploy form behind a network: made when called, anew when weights change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class DeployCall:
    """Answers `call(model, image)` with the deploy form of `model`.

    The network itself stays what it is. Each call looks whether its weights are still
    those that were folded: other storage (`.to()`, `.half()`), in-place changes, and
    changes through `.data`, which torch does not count and the weights' norms show.

    Args:
        deploy: Makes the deploy form of a network.
    """

    def __init__(self, deploy: Callable[[nn.Module], nn.Module]) -> None:
        self._deploy = deploy
        self._seen: object = None
        self._form: nn.Module | None = None

    def form(self, model: nn.Module) -> nn.Module:
        """Returns the deploy form of `model` with its weights of now."""
        seen = _fingerprint(model)
        if self._form is None or seen != self._seen:
            # Made as ordinary tensors, so that they serve outside inference mode too.
            with torch.inference_mode(False), torch.no_grad():
                self._form = self._deploy(model)
            self._seen = seen
        return self._form

    def __call__(self, model: nn.Module, image: Tensor) -> Tensor:
        """Upscales `image` (B, C, H, W)."""
        return self.form(model)(image)

    def __deepcopy__(self, memo: dict[int, Any]) -> DeployCall:
        return DeployCall(self._deploy)

    def __getstate__(self) -> dict[str, Any]:
        return {"_deploy": self._deploy, "_seen": None, "_form": None}


def _fingerprint(model: nn.Module) -> object:
    tensors = [t for t in (*model.parameters(), *model.buffers()) if t.numel()]
    with torch.no_grad():
        floats = [t.detach() for t in tensors if t.is_floating_point()]
        measured = torch._foreach_norm(floats)  # pyright: ignore[reportPrivateImportUsage]
        norms = [n.double() for n in measured]
    return (
        id(model),
        [(t.data_ptr(), t.dtype, _version(t)) for t in tensors],
        torch.stack(norms).tolist(),
    )


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
