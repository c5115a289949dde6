"""A record of what a network computes: operations in order, values between them.

The network runs twice on small images of different height. Operations on what depends
on the input are noted; where a shape differs between the runs are the image's rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..deploy.leaf import Rule
from ..deploy.onednn import channels_last
from ..deploy.ops import fast
from .nodes import Graph, Node, Ref, Value
from .rules import UntraceableError, announced, classify

# Heights of the two runs and their width: no multiples of a window, higher than one.
_HEIGHTS, _WIDTH = (37, 53), 27


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
        self._kept: list[Tensor] = []  # ids are only unique among living objects
        self._known: dict[int, int] = {}
        self.inputs = [self._new(x) for x in inputs]

    def _new(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        self.shapes.append(tensor.shape)
        self._known[id(tensor)] = len(self.shapes) - 1
        return len(self.shapes) - 1

    def value_of(self, tensor: object) -> int:
        if id(tensor) not in self._known:
            raise UntraceableError("its result does not depend on its input")
        return self._known[id(tensor)]

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Any:
        if func is fast:  # the plain steps can be followed; strips take the fast ones
            return False
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        rule = announced(func, args, kwargs)
        if getattr(func, "dense", False):
            func = _on_dense(func)
        if args and isinstance(args[0], nn.Module):
            func, args = MethodType(func, args[0]), args[1:]
        self.note(func, args, kwargs, result, rule)
        return result

    def note(
        self,
        func: Callable[..., Any],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        result: Any,
        rule: Rule | None,
    ) -> None:
        """Adds a node if `func` made tensors out of values."""
        inputs: list[int] = []

        def refer(item: object) -> object:
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
        self.nodes.append(Node(func, kept, named, inputs, outputs, many, rule))


def _on_dense(call: Callable[..., object]) -> Callable[..., object]:
    """Returns `call` that is given dense channels-last maps where it is `fast`."""

    def dense(item: object) -> object:
        if isinstance(item, Tensor) and item.ndim == 4 and item.shape[0] == 1:
            return channels_last(item)
        return item

    @functools.wraps(call)
    def on_dense(*args: Any, **kwargs: object) -> object:
        if fast(args[0]):
            args = tuple(dense(a) for a in args)
            kwargs = {k: dense(v) for k, v in kwargs.items()}
        return call(*args, **kwargs)

    return on_dense


def _run(
    call: Callable[..., object],
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
    with torch.no_grad(), recorder:
        result = call(*inputs)
    made = result if isinstance(result, (list, tuple)) else [result]
    outputs = [recorder.value_of(m) for m in made]
    return _Run(recorder.nodes, recorder.shapes, recorder.inputs, outputs)


def record(
    network: nn.Module,
    channels: Sequence[int],
    call: Callable[..., object] | None = None,
) -> Graph:
    """Records a network.

    Args:
        network: In eval mode, on its device and in its dtype.
        channels: Of each input, (1, C, H, W) maps of one size.
        call: What is run on the inputs; the network itself by default.

    Raises:
        UntraceableError: when rows cannot be computed from a neighborhood,
            statistics and windows; the message names the operation.
    """
    parameter = next(network.parameters(), torch.empty(0))
    runs = [
        _run(call or network, channels, h, parameter.dtype, parameter.device)
        for h in _HEIGHTS
    ]
    first, second = runs
    if not first.nodes:
        raise UntraceableError("it computes nothing")
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


def _plain(item: object) -> object:
    """Returns arguments for comparison: tensors that are constants count as equal."""
    if isinstance(item, Tensor):
        return tuple(item.shape)
    if isinstance(item, (list, tuple)):
        return [_plain(part) for part in item]
    if isinstance(item, dict):
        return {k: _plain(v) for k, v in item.items()}
    return item
