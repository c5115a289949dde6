"""Names of dtypes; to be had without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Name in options and on command lines -> torch's."""


def dtype_of(name: str) -> torch.dtype:
    """Returns the dtype that one of `DTYPES` means."""
    import torch  # noqa: PLC0415 (names alone cost nothing)

    return getattr(torch, DTYPES[name])


def dtype_name(dtype: torch.dtype) -> str:
    """Returns `fp16` for torch.float16; torch's name where there is no short one."""
    name = str(dtype).removeprefix("torch.")
    return {long: short for short, long in DTYPES.items()}.get(name, name)
