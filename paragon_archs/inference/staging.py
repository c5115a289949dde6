"""Frames on their way to a device and back, beside what it computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media.arrays import as_pixels, from_pixels, of_pixels, to_tensor


@dataclass(frozen=True)
class Uploaded:
    """A frame on the device, or on its way.

    Attributes:
        pixels: (H, W, C) integers; on the CPU the frame's own memory.
        dtype: Of the frame.
        arrived: The event after which they are there; None where they are.
    """

    pixels: Tensor
    dtype: np.dtype
    arrived: Any = None

    def values(self) -> Tensor:
        """Returns (1, C, H, W) in [0, 1], for the calling thread's stream."""
        if self.pixels.is_cpu:
            return to_tensor(of_pixels(self.pixels), self.pixels.device)
        if self.arrived is not None:
            stream = torch.cuda.current_stream(self.pixels.device)
            stream.wait_event(self.arrived)
            self.pixels.record_stream(stream)
        return from_pixels(self.pixels)


class Staging:
    """Copies between the host and one device.

    On CUDA through page-locked memory and streams of their own, so that neither the
    host nor the network waits for a copy. torch keeps freed page-locked blocks and
    hands them out again: they are a ring as long as the queues.

    Args:
        device: Where the network is.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"
        if self._cuda:
            self._up, self._down = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def upload(self, frame: np.ndarray) -> Uploaded:
        """Sends (H, W, C) uint8 or uint16 values to the device, as they are."""
        pixels = as_pixels(frame)
        if not self._cuda:
            return Uploaded(pixels.to(self.device), frame.dtype)
        locked = page_locked(pixels).copy_(pixels)
        with torch.cuda.stream(self._up):
            sent = locked.to(self.device, non_blocking=True)
            arrived = self._up.record_event()
        return Uploaded(sent, frame.dtype, arrived)

    def download(self, pixels: Tensor) -> Callable[[], np.ndarray]:
        """Begins to fetch (H, W, C) of `to_pixels`.

        Returns:
            What waits for the copy and returns the array; any thread may call it.
        """
        if not self._cuda:
            fetched = of_pixels(pixels.cpu())
            return lambda: fetched
        locked = page_locked(pixels)
        self._down.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._down):
            locked.copy_(pixels, non_blocking=True)
            done = self._down.record_event()
        pixels.record_stream(self._down)

        def wait() -> np.ndarray:
            done.synchronize()
            return of_pixels(locked)

        return wait


def page_locked(like: Tensor) -> Tensor:
    """Returns page-locked memory on the host of a tensor's shape and dtype."""
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
