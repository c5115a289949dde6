"""A full memory is known by what libraries say of it, whatever class they raise."""

from __future__ import annotations

import pytest
import torch

from paragon_archs.utils.oom import is_out_of_memory

MESSAGES = {
    "cuda": "CUDA error: out of memory\nCUDA kernel errors might be asynchronously",
    "mps": "MPS backend out of memory (MPS allocated: 17.9 GB, other allocations: 1.2)",
    "cpu": "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't "
    "allocate memory: you tried to allocate 70368744177664 bytes. Error code 12",
    "cpu_windows": "[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: "
    "not enough memory: you tried to allocate 6039797760 bytes.",
    "onednn": "could not create a primitive",
    "onednn_memory": "could not create a memory object",
    "cublas": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`",
    "cudnn": "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cudnn_9": "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "cudnn_workspace": "Unable to find a valid cuDNN algorithm to run convolution",
    "cudnn_engine": "GET was unable to find an engine to execute this computation",
    "onnxruntime": "onnxruntime: [ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero "
    "status code returned while running Conv node. Status Message: bfc_arena.cc:376 "
    "Available memory of 16 is smaller than requested bytes of 24: Failed to allocate "
    "memory for requested buffer of size 8796093022208",
    "onnxruntime_windows": "onnxruntime: [ONNXRuntimeError] : 6 : bad allocation",
    "directml": "onnxruntime: [ONNXRuntimeError] : 1 : FAIL : 8007000E Not enough "
    "memory resources are available to complete this operation.",
    "tensorrt": "Requested amount of GPU memory (8589934592 bytes) could not be "
    "allocated",
    "tensorrt_name": "Error Code 2: OutOfMemory (Requested size was 2147483648 bytes.)",
}
OTHERS = (
    "Expected all tensors to be on the same device, but found at least two devices",
    "CUDA error: an illegal memory access was encountered",
    "mat1 and mat2 shapes cannot be multiplied (4x3 and 4x3)",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
)


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_what_libraries_say(message):
    assert is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize("message", OTHERS)
def test_what_is_something_else(message):
    assert not is_out_of_memory(RuntimeError(message))


def test_what_is_raised():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("whatever"))
    with pytest.raises((RuntimeError, MemoryError)) as raised:
        torch.empty(2**56, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)
