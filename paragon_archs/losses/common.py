"""What the losses share: arguments that are checked, and float32.

Every loss takes `(pred, target)`, both (B, C, H, W) in [0, 1], and returns a scalar
that is multiplied by its `loss_weight`. They compute in float32 whatever the autocast
state: means of squares do not survive float16.
"""

from __future__ import annotations

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Returns `value` when it is one of `allowed`.

    Raises:
        ValueError: when it is not.
    """
    if value not in allowed:
        raise ValueError(
            f"Expected {name} to be one of {', '.join(allowed)}, but got {value!r}. "
            "Correct it in the option file."
        )
    return value


def reduce(loss: Tensor, reduction: str) -> Tensor:
    """Takes the mean or the sum of an elementwise loss, or leaves it."""
    if reduction == "mean":
        return loss.mean()
    return loss.sum() if reduction == "sum" else loss


def check_pair(pred: Tensor, target: Tensor) -> None:
    """Holds both images of a loss to one shape: broadcasting would hide a mistake.

    Raises:
        ValueError: when they differ.
    """
    if pred.shape != target.shape:
        raise ValueError(
            f"Expected the loss to compare images of one shape, but got "
            f"{tuple(pred.shape)} and {tuple(target.shape)}. Check that the network's "
            "scale and the data's are the same."
        )


def in_float32(x: Tensor) -> Tensor:
    """Lifts half precision to float32; float64 stays as it is."""
    return x if x.dtype == torch.float64 else x.float()


def three_channels(x: Tensor) -> Tensor:
    """Makes (B, 3, H, W): gray is expanded, an alpha channel is left out."""
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :3]
