"""The comparison of an exported graph with the network in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Shape = tuple[int, int, int]
"""Batch, height, width."""

SIZES: tuple[Shape, ...] = ((1, 1, 1), (2, 5, 9), (1, 17, 23), (1, 40, 31))
"""Sizes that no export uses; none is a multiple of a window, 1x1 is the least."""

BOUNDS: dict[str, tuple[float, float]] = {"fp32": (1e-4, 1e-5), "fp16": (2e-2, 3e-3)}
"""Allowed worst and mean error, in units of the output's standard deviation."""

_LEAST_SPREAD = 1e-2
"""Pixels live in [0, 1]; a flatter output is not judged by its own spread."""


class GraphMismatchError(RuntimeError):
    """The graph computes something else than the network."""


@dataclass(frozen=True)
class Comparison:
    """How far a graph's answers lie from torch's.

    Attributes:
        worst: Largest error of any pixel at any size.
        mean: Mean error.
        spread: Standard deviation of the network's output.
        sizes: The sizes that were compared.
        dtype: `fp32` or `fp16`, which decides the bounds.
    """

    worst: float
    mean: float
    spread: float
    sizes: tuple[Shape, ...]
    dtype: str

    @property
    def passed(self) -> bool:
        """Whether both errors keep to their bounds; a NaN never does."""
        unit = max(self.spread, _LEAST_SPREAD)
        worst, mean = BOUNDS[self.dtype]
        return self.worst <= worst * unit and self.mean <= mean * unit

    def __str__(self) -> str:
        worst, mean = BOUNDS[self.dtype]
        unit = max(self.spread, _LEAST_SPREAD)
        sizes = ", ".join("x".join(map(str, s)) for s in self.sizes)
        return (
            f"worst error {self.worst:.2e} (allowed {worst * unit:.2e}), mean "
            f"{self.mean:.2e} (allowed {mean * unit:.2e}), output's spread "
            f"{self.spread:.2e}, at {sizes}"
        )


Runner = Callable[[Sequence[NDArray[np.float32]]], Sequence[NDArray[np.float32]]]


def compare(
    run: Runner,
    reference: nn.Module,
    make_inputs: Callable[[Shape], Sequence[Tensor]],
    dtype: str,
    sizes: Sequence[Shape] = SIZES,
) -> Comparison:
    """Compares a graph with a network at several sizes.

    Args:
        run: The graph: float32 arrays in, float32 arrays out.
        reference: The network; answers with one tensor or a tuple. Runs in float64.
        make_inputs: A size -> float32 inputs of both.
        dtype: `fp32` or `fp16`.
        sizes: Where to compare.

    Raises:
        GraphMismatchError: when an output's shape differs.
    """
    truth = reference.double().eval()
    errors: list[NDArray[np.float64]] = []
    answers: list[NDArray[np.float64]] = []
    for size in sizes:
        inputs = make_inputs(size)
        with torch.inference_mode():
            wanted = truth(*(x.double() for x in inputs))
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        got = run([x.numpy() for x in inputs])
        for have, want in zip(got, wanted, strict=True):
            if have.shape != tuple(want.shape):
                raise GraphMismatchError(
                    f"Expected the graph to answer {tuple(want.shape)} at "
                    f"{size}, but got {have.shape}. Report this network."
                )
            errors.append(np.abs(have.astype(np.float64) - want.numpy()).ravel())
        answers.append(wanted[0].numpy().ravel())
    error = np.concatenate(errors)
    return Comparison(
        worst=float(error.max()),
        mean=float(error.mean()),
        spread=float(np.concatenate(answers).std()),
        sizes=tuple(sizes),
        dtype=dtype,
    )
