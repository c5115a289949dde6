"""A network's launches on a GPU as one: recorded as a CUDA graph, then replayed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..utils.oom import release

logger = logging.getLogger(__name__)

_RECORDED_AT = 5  # runs: libraries have started, and the layout is chosen


def can_replay(device: torch.device) -> bool:
    """Whether a device has CUDA graphs."""
    return device.type == "cuda"


class Replayed:
    """A call that is replayed for inputs of one kind, as those of a video's frames are.

    A graph reads and writes the same memory in every run. Inputs are copied into it
    and results out of it, so that nobody holds what the next run overwrites. Inputs of
    other shapes run as they are, as does everything where no graph can be recorded.

    Args:
        call: What is run; it may not look at values.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self._runs: Counter[object] = Counter()
        self._kind: object = None  # of the inputs that are replayed
        self._records = True
        self._graph: Any = None
        self._inputs: list[Tensor] = []
        self._results: list[Tensor] = []

    def __call__(self, *inputs: Tensor) -> Any:
        """Returns the results of the call, memory of their own."""
        kind = tuple((x.shape, x.dtype, x.device, x.stride()) for x in inputs)
        if self._records:
            self._runs[kind] += 1
            if self._runs[kind] >= _RECORDED_AT:
                self._records = False
                self._record(inputs, kind)
        if self._graph is None or kind != self._kind:
            return self._call(*inputs)
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return [result.clone() for result in self._results]

    def _record(self, inputs: Sequence[Tensor], kind: object) -> None:
        device = inputs[0].device
        here = torch.cuda.current_stream(device)
        own = [x.clone() for x in inputs]
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads go on copying frames: their calls are no part of it.
            with (
                torch.cuda.device(device),
                torch.cuda.stream(here),  # current again, even after a failure
                torch.cuda.graph(graph, capture_error_mode="thread_local"),
            ):
                made = self._call(*own)
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            logger.warning("no CUDA graph here (%s): run step by step", reason)
            release(device)
            return
        self._results = list(made) if isinstance(made, (list, tuple)) else [made]
        self._graph, self._inputs, self._kind = graph, own, kind
        logger.info("recorded as a CUDA graph")
