"""A runtime's own queue of work on a GPU, in step with torch's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


class Stream:
    """A CUDA stream for another runtime; nothing where the device is no GPU of CUDA's.

    The default stream would make runtimes wait for the device in every run.

    Args:
        device: Where the runtime computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._own = torch.cuda.Stream(device) if device.type == "cuda" else None

    @property
    def handle(self) -> int:
        """CUDA's pointer to it, 0 where there is none."""
        return 0 if self._own is None else self._own.cuda_stream

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Makes it torch's current one; each waits for the other's work before.

        What was made outside may be read inside and the reverse, without a wait of the
        program: memory comes back to the stream that it was taken on, after the wait.
        """
        if self._own is None:
            yield
            return
        outer = torch.cuda.current_stream(self._device)
        self._own.wait_stream(outer)
        with torch.cuda.device(self._device), torch.cuda.stream(self._own):
            yield
        outer.wait_stream(self._own)
