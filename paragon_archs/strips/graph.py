"""A record of what a network computes: operations in order, values between them.

The network runs twice on small images of different height. Operations on what depends
on the input are noted; where a shape differs between the runs are the image's rows.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .. import deploy
from ..deploy import ops
from .rules import FUNCTIONS, LEAVES, Rule, UntraceableError, classify

# Heights of the two runs and their width: no multiples of a window, higher than one.
_HEIGHTS, _WIDTH = (37, 53), 27


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


@dataclass
class Node:
    """One operation.

    Attributes:
        call: What is called with `args` and `kwargs`, where `Ref`s stand for values.
        inputs: The values among the arguments.
        outputs: The values that it makes, in the order of its result.
        rule: What it needs to know beyond a row.
        many: Whether its result is a sequence.
    """

    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[int]
    outputs: list[int]
    name: str
    many: bool
    rule: Rule = field(default_factory=Rule)


@dataclass
class Graph:
    """Nodes in order of computation, and the values between them."""

    nodes: list[Node]
    values: list[Value]
    inputs: list[int]
    outputs: list[int]


@dataclass
class _Run:
    nodes: list[Node]
    shapes: list[torch.Size]
    inputs: list[int]
    outputs: list[int]


class _Recorder(TorchFunctionMode):
    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.shapes: list[torch.Size] = []
        self.paused = False
        self._kept: list[Tensor] = []  # ids are only unique among living objects
        self._known: dict[int, int] = {}
        self.inputs = [self._new(x) for x in inputs]

    def _new(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        self.shapes.append(tensor.shape)
        self._known[id(tensor)] = len(self.shapes) - 1
        return len(self.shapes) - 1

    def value_of(self, tensor: Any) -> int:
        if id(tensor) not in self._known:
            raise UntraceableError("its result does not depend on its input")
        return self._known[id(tensor)]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self.paused:
            self.note(func, args, kwargs or {}, result)
        return result

    def whole(
        self,
        call: Callable[..., Any],
        replay: Callable[..., Any],
        name: str,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Calls a leaf and adds it as one node, which will call `replay`."""
        paused, self.paused = self.paused, True
        result = call(*args, **kwargs)
        self.paused = paused
        if not paused:
            self.note(replay, args, kwargs, result, name)
        return result

    def note(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
        name: str | None = None,
    ) -> None:
        """Adds a node if `func` made tensors out of values."""
        inputs: list[int] = []

        def refer(item: Any) -> Any:
            if isinstance(item, Tensor):
                if id(item) not in self._known:
                    return item
                inputs.append(self._known[id(item)])
                return Ref(inputs[-1])
            if isinstance(item, (list, tuple)):
                parts = [refer(part) for part in item]
                return tuple(parts) if isinstance(item, tuple) else parts
            return item

        kept = tuple(refer(a) for a in args)
        named = {k: refer(v) for k, v in kwargs.items()}
        many = isinstance(result, (list, tuple))
        made = list(result) if many else [result]
        if not inputs or not any(isinstance(m, Tensor) for m in made):
            return
        outputs = [self._new(m) for m in made]
        name = name or func.__name__
        self.nodes.append(Node(func, kept, named, inputs, outputs, name, many))


@contextlib.contextmanager
def _leaves(network: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Lets modules and functions with a rule of their own be recorded as one node."""
    # The deploy forms take their plain steps, which can be followed; the strips then
    # take the fast way through each of them.
    replaced: list[tuple[Any, str, Any]] = []
    replaced.append((ops, "_fused_operators_work", ops._fused_operators_work))
    ops._fused_operators_work = lambda: False
    if isinstance(network, deploy.DeployNetwork):
        # Whether a result is finite is asked of each strip, not by the network.
        replaced.append((network, "trusted", None))
        setattr(network, "trusted", lambda _: True)  # noqa: B010 (a method)
    for module in network.modules():
        for leaf in LEAVES:
            if leaf.fits(module):
                call = getattr(module, leaf.method)
                stand_in = functools.partial(recorder.whole, call, call, leaf.method)
                replaced.append((module, leaf.method, None))
                setattr(module, leaf.method, stand_in)
    places = [m for n, m in sys.modules.items() if n.startswith(f"{deploy.__name__}.")]
    for name, replay in FUNCTIONS.items():
        call = getattr(ops, name)
        stand_in = functools.partial(recorder.whole, call, replay, name)
        for place in places:
            if place is not ops and getattr(place, name, None) is call:
                replaced.append((place, name, call))
                setattr(place, name, stand_in)
    try:
        yield
    finally:
        for owner, name, call in replaced:
            if call is None:
                delattr(owner, name)
            else:
                setattr(owner, name, call)


def _run(
    network: nn.Module,
    call: Callable[..., Any],
    channels: Sequence[int],
    height: int,
    dtype: torch.dtype,
    device: torch.device,
) -> _Run:
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.rand((1, c, height, _WIDTH), generator=generator).to(device, dtype)
        for c in channels
    ]
    recorder = _Recorder(inputs)
    with torch.no_grad(), _leaves(network, recorder), recorder:
        result = call(*inputs)
    made = result if isinstance(result, (list, tuple)) else [result]
    outputs = [recorder.value_of(m) for m in made]
    return _Run(recorder.nodes, recorder.shapes, recorder.inputs, outputs)


def record(
    network: nn.Module,
    channels: Sequence[int],
    call: Callable[..., Any] | None = None,
) -> Graph:
    """Records a network.

    Args:
        network: In eval mode, on its device and in its dtype.
        channels: Of each input, (1, C, H, W) maps of one size.
        call: What is run on the inputs; the network itself by default.

    Raises:
        UntraceableError: when rows cannot be computed from a neighbourhood,
            statistics and windows; the message names the operation.
    """
    parameter = next(network.parameters())
    runs = [
        _run(network, call or network, channels, h, parameter.dtype, parameter.device)
        for h in _HEIGHTS
    ]
    first, second = runs
    if [n.name for n in first.nodes] != [n.name for n in second.nodes]:
        raise UntraceableError("it computes differently at different heights")
    values = [_value(a, b) for a, b in zip(first.shapes, second.shapes, strict=True)]
    for node, other in zip(first.nodes, second.nodes, strict=True):
        if _plain(node.args) != _plain(other.args) or _plain(node.kwargs) != _plain(
            other.kwargs
        ):
            raise UntraceableError(f"{node.name} depends on the image's height")
        node.rule = classify(node, values)
    return Graph(first.nodes, values, first.inputs, first.outputs)


def _value(a: torch.Size, b: torch.Size) -> Value:
    changed = [i for i, (p, q) in enumerate(zip(a, b, strict=True)) if p != q]
    if not changed:
        return Value(None, len(a), 1, float(a.numel()))
    if len(changed) > 1:
        raise UntraceableError(f"a tensor of shape {tuple(a)} has rows twice")
    rows = changed[0]
    factor = a[rows] // _HEIGHTS[0]
    if factor < 1 or [a[rows], b[rows]] != [factor * h for h in _HEIGHTS]:
        raise UntraceableError(
            f"a tensor of {a[rows]} rows for {_HEIGHTS[0]} of the input"
        )
    return Value(rows, len(a), factor, a.numel() / (_HEIGHTS[0] * _WIDTH))


def _plain(item: Any) -> Any:
    """Returns arguments for comparison: tensors that are constants count as equal."""
    if isinstance(item, Tensor):
        return tuple(item.shape)
    if isinstance(item, (list, tuple)):
        return [_plain(part) for part in item]
    if isinstance(item, dict):
        return {k: _plain(v) for k, v in item.items()}
    return item
