"""A budget for what building a network may create."""

from __future__ import annotations

import math
from itertools import zip_longest

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

# Operators that make a tensor out of sizes; what others make, they make of tensors.
_FACTORIES = ("empty", "zeros", "ones", "full", "rand", "arange", "linspace", "eye")
_FACTORIES += ("new_",)


class BudgetError(ValueError):
    """A network that is larger than it may be."""


class CreationBudget(TorchDispatchMode):
    """Refuses to create more than so many numbers or tensors, before memory is taken.

    Holds for the thread and the `with` block. Only what is made out of a size counts,
    as parameters are; of anything else a single result is limited.

    Args:
        numbers: Most elements, over all tensors that are created.
        tensors: Most tensors.

    Raises:
        BudgetError: at the first tensor beyond.
    """

    def __init__(self, numbers: int, tensors: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.tensors = tensors
        self.left = numbers

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Answers torch: True would import its compiler at the first operator."""
        return False

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        """Counts, then runs the operator."""
        makes = func.overloadpacket.__name__.startswith(_FACTORIES)
        size = _size(func, args, makes)
        if size > self.left:
            raise BudgetError(
                f"Expected a network of at most {self.numbers:,} numbers, but got one "
                "that needs more. Make it smaller."
            )
        if makes:
            self.left -= size
            self.tensors -= 1
        if self.tensors < 0:
            raise BudgetError(
                "Expected a network of fewer layers, but got one with more tensors "
                "than a weight file may hold. Make it smaller."
            )
        return func(*args, **(kwargs or {}))


def _size(func: OpOverload, args: tuple[object, ...], makes: bool) -> int:
    """Elements of a result: a size among the arguments, or what these span."""
    largest, spanned = 1, []
    spans = torch.Tag.pointwise in func.tags  # as one-dimensional grids do
    for argument in args:
        if isinstance(argument, Tensor):
            shape = argument.shape[::-1] if spans else ()
            spanned = [max(n) for n in zip_longest(spanned, shape, fillvalue=1)]
        elif isinstance(argument, int) and makes:  # of arange, linspace, eye
            largest = max(largest, argument)
        elif isinstance(argument, (list, tuple)):
            if all(isinstance(n, int) for n in argument):
                largest = max(largest, math.prod(max(1, n) for n in argument))
    return max(largest, math.prod(spanned))
