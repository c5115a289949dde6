"""What a record consists of: operations, and the values between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..deploy.leaf import Rule


@dataclass(frozen=True)
class Ref:
    """Stands for a value in a node's arguments."""

    value: int


@dataclass
class Value:
    """A tensor that depends on the input.

    Attributes:
        rows_dim: The dimension of the image's rows, None when it has none (statistics
            and what follows from them).
        dims: How many dimensions it has.
        factor: Its rows per row of the input.
        size: Its elements per pixel of the input; all elements when `rows_dim` is None.
    """

    rows_dim: int | None
    dims: int
    factor: int
    size: float

    @property
    def axis(self) -> int:
        """The dimension of the rows, of a value that has some."""
        assert self.rows_dim is not None
        return self.rows_dim


@dataclass
class Node:
    """One operation.

    Attributes:
        call: What is called with `args` and `kwargs`, where `Ref`s stand for values.
        inputs: The values among the arguments.
        outputs: The values that it makes, in the order of its result.
        many: Whether its result is a sequence.
        announced: The rule that comes with the operation, if one does.
        rule: What it needs to know beyond a row, once `record` has classified it.
    """

    call: Callable[..., Any]
    args: tuple[object, ...]
    kwargs: dict[str, object]
    inputs: list[int]
    outputs: list[int]
    many: bool
    announced: Rule | None
    rule: Rule = field(default_factory=Rule)

    @property
    def name(self) -> str:
        """The function's name."""
        return self.call.__name__


@dataclass
class Graph:
    """Nodes in order of computation, and the values between them."""

    nodes: list[Node]
    values: list[Value]
    inputs: list[int]
    outputs: list[int]
