"""What each operation needs to know beyond the row that it computes.

Whatever is not listed here is refused: a network that uses it is run in tiles instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ..archs.fusionsr_arch import SwinBlock
from ..archs.paragonsr2_arch import MagicKernelSharp2021, WindowAttention
from ..deploy.leaf import Rule
from .nodes import Node, Value


class UntraceableError(Exception):
    """The network does something whose rows cannot be computed strip by strip."""


# What announces itself without a rule: the arch files know nothing of this pack.
_RULES: dict[Callable[..., object], Callable[..., Rule]] = {
    WindowAttention.forward: lambda m, x: Rule(
        "window", window=m.window, shift=m.shift
    ),
    SwinBlock.attend: lambda m, x: Rule(
        "window", window=m.window, shift=m.shift, masked=m.shift > 0
    ),
    MagicKernelSharp2021.forward: lambda m, x: Rule(halo=4),
}


def announced(
    call: Callable[..., object], args: Sequence[object], kwargs: dict[str, object]
) -> Rule | None:
    """Returns the rule of an operation that announces itself, None for others."""
    rule = getattr(call, "rule", None) or _RULES.get(call)
    return None if rule is None else rule(*args, **kwargs)


# Every row alone, whatever the other arguments are.
_POINTWISE = frozenset(
    """
    abs add addcmul clamp clamp_max clamp_min clip contiguous div double elu exp float
    gelu half hardsigmoid hardswish hardtanh leaky_relu log maximum minimum mish mul neg
    pow prelu reciprocal relu relu6 rsqrt rsub selu sigmoid silu softplus sqrt square
    sub tanh to true_divide truediv type type_as where clone detach pos bfloat16
    """.split()
)
# Along one dimension, which must not be that of the rows: name -> its position and
# keyword among the arguments, and its default.
_ALONG = {
    "softmax": (1, "dim", None),
    "cat": (1, "dim", 0),
    "concat": (1, "dim", 0),
    "chunk": (2, "dim", 0),
    "split": (2, "dim", 0),
    "unbind": (1, "dim", 0),
}
# Rearrangements: where the rows are afterwards is seen in the shapes.
_MOVES = frozenset(
    ["permute", "transpose", "getitem", "unsqueeze", "squeeze", "pad", "flip"]
)
_STATISTICS = frozenset(["mean", "adaptive_avg_pool2d"])


def classify(node: Node, values: Sequence[Value]) -> Rule:
    """Returns what a recorded node needs.

    Raises:
        UntraceableError: when that is not known.
    """
    if node.announced is not None:
        return node.announced
    rows = [values[v] for v in node.inputs if values[v].rows_dim is not None]
    made = [values[v] for v in node.outputs]
    name = node.name.strip("_")
    if name[:1] in "ir" and name[1:] in _POINTWISE:  # __iadd__, __rmul__
        name = name[1:]
    if not rows:
        return Rule()
    source = rows[0]
    refused = UntraceableError(f"{name} on a tensor of the image's rows")
    if name == "conv2d":
        return _convolution(node, source, made[0], refused)
    if name == "group_norm":
        return Rule("norm")
    if name in _STATISTICS:
        if made[0].rows_dim is None:
            return Rule("mean")
        if made[0].factor == source.factor:
            return Rule()
        raise refused
    if any(m.rows_dim is None for m in made):
        raise refused
    if name in ("pixel_shuffle", "interpolate"):
        if name == "interpolate" and argument(node, 3, "mode", "nearest") != "nearest":
            raise refused
        return Rule()
    if len({v.factor for v in (*rows, *made)}) > 1:
        raise refused
    if name in _POINTWISE:
        if len({_from_end(v) for v in rows}) > 1:
            raise refused
        return Rule()
    if name in _MOVES:
        return Rule()
    if _leaves_rows_alone(name, node, source, values):
        return Rule()
    raise refused


def _leaves_rows_alone(
    name: str, node: Node, source: Value, values: Sequence[Value]
) -> bool:
    """Whether an operation along a dimension or over channels mixes no rows."""
    dims = source.dims
    if name in _ALONG:
        position, keyword, default = _ALONG[name]
        along = argument(node, position, keyword, default)
        return isinstance(along, int) and along % dims != source.rows_dim
    if name in ("linear", "matmul"):
        varies = any(values[v].rows_dim is not None for v in node.inputs[1:])
        constant = not varies and not isinstance(node.args[0], Tensor)
        return constant and source.rows_dim != dims - 1
    if name == "layer_norm":
        normalized = len(argument(node, 1, "normalized_shape", ()))
        return source.rows_dim is not None and source.rows_dim < dims - normalized
    if name in ("batch_norm", "dropout"):
        # At the positions of `training`: a batch or chance would decide then.
        position = 5 if name == "batch_norm" else 2
        return not argument(node, position, "training", False)
    return False


def _convolution(
    node: Node, source: Value, made: Value, refused: UntraceableError
) -> Rule:
    weight = argument(node, 1, "weight", None)
    stride = argument(node, 3, "stride", 1)
    dilation = argument(node, 5, "dilation", 1)
    down = stride if isinstance(stride, int) else stride[0]
    apart = dilation if isinstance(dilation, int) else dilation[0]
    fits = isinstance(weight, Tensor) and source.rows_dim == 2 and down == 1
    if not fits or made.factor != source.factor or weight.shape[2] % 2 == 0:
        raise refused
    return Rule(halo=apart * (weight.shape[2] // 2))


def argument(node: Node, position: int, keyword: str, default: object) -> Any:
    """Returns an argument of a recorded call."""
    if keyword in node.kwargs:
        return node.kwargs[keyword]
    return node.args[position] if len(node.args) > position else default


def _from_end(value: Value) -> int:
    """Where rows are, counted from the end: broadcasting aligns shapes there."""
    return value.axis - value.dims
