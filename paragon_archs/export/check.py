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

CONDITIONING = 10.0
"""Times the network's own float32 error, where that alone would exceed the bounds."""

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
        own_worst: Largest error of the network itself in float32.
        own_mean: Its mean error.
        spread: Standard deviation of the network's output.
        sizes: The sizes that were compared.
        dtype: `fp32` or `fp16`, which decides the bounds.
    """

    worst: float
    mean: float
    own_worst: float
    own_mean: float
    spread: float
    sizes: tuple[Shape, ...]
    dtype: str

    @property
    def allowed(self) -> tuple[float, float]:
        """The worst and the mean error that a right graph may have.

        No graph rounds less than the network does in float32, which is more than the
        bounds where the network magnifies rounding errors.
        """
        unit = max(self.spread, _LEAST_SPREAD)
        worst, mean = BOUNDS[self.dtype]
        return (
            max(worst * unit, CONDITIONING * self.own_worst),
            max(mean * unit, CONDITIONING * self.own_mean),
        )

    @property
    def passed(self) -> bool:
        """Whether both errors keep to their bounds; a NaN never does."""
        worst, mean = self.allowed
        return self.worst <= worst and self.mean <= mean

    def __str__(self) -> str:
        worst, mean = self.allowed
        sizes = ", ".join("x".join(map(str, s)) for s in self.sizes)
        return (
            f"worst error {self.worst:.2e} (allowed {worst:.2e}), mean {self.mean:.2e} "
            f"(allowed {mean:.2e}), output's spread {self.spread:.2e}, at {sizes}"
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
        reference: The network; answers with one tensor or a tuple. Runs in float32
            and float64.
        make_inputs: A size -> float32 inputs of both.
        dtype: `fp32` or `fp16`.
        sizes: Where to compare.

    Raises:
        GraphMismatchError: when an output's shape differs.
    """
    reference.eval()
    cases = [(size, make_inputs(size)) for size in sizes]
    own = [_answers(reference.float(), inputs) for _, inputs in cases]
    truth = reference.double()
    errors: list[NDArray[np.float64]] = []
    own_errors: list[NDArray[np.float64]] = []
    answers: list[NDArray[np.float64]] = []
    for (size, inputs), rounded in zip(cases, own, strict=True):
        wanted = _answers(truth, [x.double() for x in inputs])
        got = run([x.numpy() for x in inputs])
        for have, near, want in zip(got, rounded, wanted, strict=True):
            if have.shape != want.shape:
                raise GraphMismatchError(
                    f"Expected the graph to answer {want.shape} at "
                    f"{size}, but got {have.shape}. Report this network."
                )
            errors.append(np.abs(have.astype(np.float64) - want).ravel())
            own_errors.append(np.abs(near - want).ravel())
        answers.append(wanted[0].ravel())
    error, own_error = np.concatenate(errors), np.concatenate(own_errors)
    return Comparison(
        worst=float(error.max()),
        mean=float(error.mean()),
        own_worst=float(own_error.max()),
        own_mean=float(own_error.mean()),
        spread=float(np.concatenate(answers).std()),
        sizes=tuple(sizes),
        dtype=dtype,
    )


def _answers(network: nn.Module, inputs: Sequence[Tensor]) -> list[NDArray[np.float64]]:
    """Returns the network's outputs, one or several, as arrays."""
    with torch.inference_mode():
        out = network(*inputs)
    outputs = out if isinstance(out, tuple) else (out,)
    return [x.double().numpy() for x in outputs]
