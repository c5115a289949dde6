"""Recognizes errors of a full memory."""

from __future__ import annotations

import torch

# Messages of libraries, in lower case; which library.
_PHRASES = (
    "out of memory",  # CUDA, MPS, cuDNN's frontend, TensorRT
    "outofmemory",  # TensorRT's name of the error
    "cannot allocate memory",  # POSIX
    "can't allocate memory",  # torch on a CPU
    "not enough memory",  # torch on Windows, DirectML
    "could not create a primitive",  # oneDNN
    "could not create a memory",  # oneDNN
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "device_allocation_failed",  # cuDNN 9
    "unable to find a valid cudnn algorithm",  # none whose workspace fits
    "unable to find an engine to execute",  # likewise, cuDNN 8 and 9
    "failed to allocate memory",  # onnxruntime
    "bad allocation",  # Windows' C++ library, through onnxruntime
    "bad_alloc",  # the others'
    "8007000e",  # DirectML's E_OUTOFMEMORY
    "could not be allocated",  # TensorRT
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device's or the machine's memory is full."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(p in text for p in _PHRASES)


def release(device: torch.device) -> None:
    """Gives memory that torch keeps for later back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
