"""Which memory layout a network is faster in, found out on its device."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..utils.oom import is_out_of_memory, release

logger = logging.getLogger(__name__)

LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
_TRIED_AT = 3  # runs: a single picture is not worth it, and libraries have started
_TIMED = 3  # runs of each layout, after one that does not count
_WORTH = 0.95  # share of the time at which the layout changes


class Layout:
    """Brings a network's inputs into the layout that turned out to be the faster one.

    Which one that is depends on the device, on its libraries and on the network. Both
    are tried once, on the third image.

    Args:
        network: What is run; its weights follow.
        call: What runs it on inputs.
        device: Where it is.
        seconds: Measures a run.
    """

    def __init__(
        self,
        network: nn.Module,
        call: Callable[..., Any],
        device: torch.device,
        seconds: Callable[[Callable[[], object]], float] | None = None,
    ) -> None:
        self.name: str | None = None
        self._network, self._call, self._device = network, call, device
        self._seconds = seconds or self._measured
        self._runs = 0

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Returns the inputs (B, C, H, W), the same or as copies."""
        self._runs += 1
        if self.name is None and self._runs >= _TRIED_AT:
            self.name = self._faster(inputs)
        return _brought(inputs, LAYOUTS[self.name or "NCHW"])

    def _faster(self, inputs: Sequence[Tensor]) -> str:
        taken = {}
        try:
            for name, layout in LAYOUTS.items():
                arrange(self._network, layout)
                given = _brought(inputs, layout)
                taken[name] = self._seconds(lambda given=given: self._call(*given))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release(self._device)
            taken["NHWC"] = float("inf")  # it takes more memory
        name = "NHWC" if taken["NHWC"] < _WORTH * taken["NCHW"] else "NCHW"
        arrange(self._network, LAYOUTS[name])
        shown = ", ".join(f"{n} {1e3 * t:.1f} ms" for n, t in taken.items())
        logger.info("memory layout %s (%s)", name, shown)
        return name

    def _measured(self, run: Callable[[], object]) -> float:
        run()
        torch.accelerator.synchronize(self._device)
        start = time.perf_counter()
        for _ in range(_TIMED):
            run()
        torch.accelerator.synchronize(self._device)
        return (time.perf_counter() - start) / _TIMED


def arrange(network: nn.Module, layout: torch.memory_format) -> None:
    """Brings a network's kernels into a layout, in place; biases of attention stay."""
    for module in network.modules():
        own = (*module.named_parameters("", False), *module.named_buffers("", False))
        for name, value in own:
            if value.ndim == 4 and name != "bias":
                value.data = value.data.contiguous(memory_format=layout)


def has_choice(device: torch.device) -> bool:
    """Whether a device's libraries decide which layout is the faster one.

    On a CPU the deploy forms decide.
    """
    if device.type == "cpu" or not torch.accelerator.is_available():
        return False
    there = torch.accelerator.current_accelerator()
    return there is not None and there.type == device.type


def _brought(inputs: Sequence[Tensor], layout: torch.memory_format) -> list[Tensor]:
    return [x.contiguous(memory_format=layout) for x in inputs]
