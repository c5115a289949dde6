"""Networks that torch compiles where it can, and that run as they are elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from ..utils.oom import is_out_of_memory

logger = logging.getLogger(__name__)


class Compiled:
    """A call that torch compiles at its first run.

    Compilers are not everywhere that torch is: Triton has no Windows wheel of its own
    and no GPU before compute 7.0, and on a CPU a C++ compiler is needed. Where it fails
    the call runs as it is, and one line is logged.

    Args:
        call: The network, or what runs it.
    """

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call
        self._compiled: Callable[..., Any] | None = torch.compile(call)

    def __call__(self, *inputs: object) -> Any:
        if self._compiled is not None:
            try:
                return self._compiled(*inputs)
            except RuntimeError as error:
                if is_out_of_memory(error) or not _of_a_compiler(error):
                    raise
                self._compiled = None
                inner = getattr(error, "inner_exception", error)
                reason = (str(inner).strip().splitlines() or [type(inner).__name__])[0]
                logger.warning("torch cannot compile here (%s): not compiled", reason)
        return self._call(*inputs)


def _of_a_compiler(error: BaseException) -> bool:
    """Whether an error is the compiler's own; its classes are not imported for that."""
    modules = {kind.__module__ for kind in type(error).__mro__}
    return any(
        name.startswith(("torch._dynamo", "torch._inductor")) for name in modules
    )
