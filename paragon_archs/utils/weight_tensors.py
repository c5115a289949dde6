"""Holds the tensors of a weight file to what networks have."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .weight_header import MAX_TENSORS

_DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool}
_DTYPES |= {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def check_tensors(state: Mapping[str, object], name: str) -> None:
    """Holds names and tensors to what networks have, before one is built.

    Raises:
        ValueError: for more tensors than networks have, indices that are not, and
            tensors of which torch cannot compute.
    """
    if len(state) > MAX_TENSORS:
        raise ValueError(
            f"Expected {name} to hold a network of at most {MAX_TENSORS:,} tensors, "
            f"but it holds {len(state):,}. Use another file."
        )
    indices: dict[str, set[int]] = {}
    for key, tensor in state.items():
        if not isinstance(tensor, Tensor):
            continue
        plain = tensor.layout is torch.strided and tensor.device.type != "meta"
        held = str(tensor.dtype if plain else tensor.layout).removeprefix("torch.")
        whole = not tensor.is_floating_point()
        if not plain or tensor.dtype not in _DTYPES or tensor.is_nested:
            raise ValueError(
                f"Expected the tensors of {name} to be plain numbers, but {key!r} is "
                f"{held}. Convert the file to float16 or float32."
            )
        if whole and key.endswith((".weight", ".bias")):
            raise ValueError(
                f"Expected the weights of {name} to be floating-point, but {key!r} is "
                f"{held}. Use the file before it was quantized."
            )
        parts = str(key).split(".")
        for place, part in enumerate(parts):
            if part.isascii() and part.isdigit():
                before = ".".join(parts[:place])
                indices.setdefault(before, set()).add(int(part[:12]))
    for before, found in indices.items():
        # Layers without weights have indices too, and a few names are sizes.
        if max(found) > 4 * len(found) + 1024:
            raise ValueError(
                f"Expected the entries of {before!r} in {name} to be numbered without "
                f"gaps, but got {max(found)} among {len(found)}. Check that the file "
                "is whole and unedited."
            )


def check_kinds(model: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Refuses whole numbers where the network computes with fractions."""
    for key, own in model.state_dict().items():
        if own.is_floating_point() and key in state:
            if not state[key].is_floating_point():
                raise ValueError(
                    f"Expected the weights of {name} to be floating-point, but {key!r} "
                    f"is {str(state[key].dtype).removeprefix('torch.')}. Use the file "
                    "before it was quantized."
                )
