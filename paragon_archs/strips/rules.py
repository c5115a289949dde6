"""What each operation needs to know beyond the row that it computes.

Whatever is not listed here is refused: a network that uses it is run in tiles instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..archs.fusionsr_arch import SwinBlock
from ..archs.paragonsr2_arch import MagicKernelSharp2021, WindowAttention
from ..deploy import ops
from ..deploy.facesr import FaceDeploy
from ..deploy.fusionsr import _Swin as DeploySwin
from ..deploy.head import MergedHead
from ..deploy.paragonsr import ParagonDeployBlock
from ..deploy.paragonsr2 import ParagonDeploy2
from ..deploy.paragonsr2 import _Mixer as Mixer
from ..deploy.paragonsr2 import _Norm as DeployNorm
from ..deploy.paragonsr2 import _Windows as DeployWindows

if TYPE_CHECKING:
    from .graph import Node, Value


class UntraceableError(Exception):
    """The network does something whose rows cannot be computed strip by strip."""


@dataclass(frozen=True)
class Rule:
    """What an operation needs.

    Attributes:
        kind: `local` (rows within `halo`), `norm` (mean and variance of its input,
            then each row alone), `mean` (a statistic of the whole image), `window`
            (whole windows).
        halo: Rows above and below, counted in its input's rows.
        window: Side of the windows in pixels.
        shift: Rows that the windows are shifted by; the top rows share the last ones.
        masked: Whether the last row of windows is treated unlike the others.
        given: Of `norm`: whether the call takes the statistics as its last argument.
        inside: Values per pixel that it holds beside its input and its result.
    """

    kind: str = "local"
    halo: int = 0
    window: int = 0
    shift: int = 0
    masked: bool = False
    given: bool = False
    inside: float = 0.0


@dataclass(frozen=True)
class Leaf:
    """A module, or one method of it, that is recorded as one operation."""

    module: type[nn.Module]
    method: str
    rule: Callable[[Any], Rule]

    def fits(self, module: nn.Module) -> bool:
        """Whether `module` is one."""
        return isinstance(module, self.module)


LEAVES: tuple[Leaf, ...] = (
    Leaf(
        WindowAttention,
        "forward",
        lambda m: Rule("window", window=m.window, shift=m.shift),
    ),
    Leaf(
        SwinBlock,
        "_attend",
        lambda m: Rule("window", window=m.window, shift=m.shift, masked=m.shift > 0),
    ),
    Leaf(MagicKernelSharp2021, "forward", lambda m: Rule(halo=4)),
    Leaf(
        DeployWindows,
        "windows",
        lambda m: Rule("window", window=m.window, shift=m.shift),
    ),
    Leaf(
        DeploySwin,
        "_attend",
        lambda m: Rule(
            "window",
            window=m.block.window,
            shift=m.block.shift,
            masked=m.block.shift > 0,
        ),
    ),
    Leaf(  # its hidden layer and its normed input
        DeploySwin,
        "_feed",
        lambda m: Rule(inside=sum(layer.out_features for layer in m.block.mlp[:3:2])),
    ),
    Leaf(DeployNorm, "forward", lambda m: Rule()),
    Leaf(Mixer, "forward", lambda m: Rule(halo=1, inside=2 * len(m.into))),
    Leaf(
        ParagonDeployBlock,
        "mix",
        lambda m: Rule(
            "norm",
            halo=max(rows for rows, _ in m.paddings),
            given=True,
            inside=2 * len(m.shift),
        ),
    ),
    Leaf(
        ParagonDeployBlock,
        "feed",
        lambda m: Rule("norm", halo=1, given=True, inside=3 * len(m.gate)),
    ),
    # What it makes stands as cells and as the image.
    Leaf(
        FaceDeploy,
        "enlarge",
        lambda m: Rule(halo=1, inside=m.conv_in.out_channels * m.scale**2),
    ),
    Leaf(MergedHead, "forward", lambda m: Rule(halo=3)),
    # The head's 3, or the base path's 3 of `sharp` and 2 of the blur (4 of MKS 2021).
    Leaf(ParagonDeploy2, "end", lambda m: Rule(halo=5)),
)


def _whole(call: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `call` that is given dense channels-last maps, as the fast ways need."""

    def dense(*args: Any, **kwargs: Any) -> Any:
        if ops.fast(args[0]):
            args = tuple(_channels_last(a) for a in args)
            kwargs = {k: _channels_last(v) for k, v in kwargs.items()}
        return call(*args, **kwargs)

    return dense


def _channels_last(item: Any) -> Any:
    is_map = isinstance(item, Tensor) and item.ndim == 4 and item.shape[0] == 1
    return ops.channels_last(item) if is_map else item


# Functions of the deploy forms that are recorded as one operation each: name -> what
# is called when strips run.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: _whole(getattr(ops, name))
    for name in ("conv", "pointwise", "mish", "product", "shuffle")
}

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
    module = getattr(node.call, "__self__", None)
    if isinstance(module, nn.Module):
        for leaf in LEAVES:
            if leaf.fits(module) and node.name == leaf.method:
                return leaf.rule(module)
    rows = [values[v] for v in node.inputs if values[v].rows_dim is not None]
    made = [values[v] for v in node.outputs]
    name = node.name.strip("_")
    if name[:1] in "ir" and name[1:] in _POINTWISE:  # __iadd__, __rmul__
        name = name[1:]
    if not rows:
        return Rule()
    source = rows[0]
    refused = UntraceableError(f"{name} on a tensor of the image's rows")
    if node.call in FUNCTIONS.values():
        if name != "conv":
            return Rule()
        dilation = argument(node, 5, "dilation", 1)
        return Rule(halo=dilation * (argument(node, 1, "weight", None).shape[2] // 2))
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
    dims = source.dims
    if name in _ALONG:
        position, keyword, default = _ALONG[name]
        along = argument(node, position, keyword, default)
        if isinstance(along, int) and along % dims != source.rows_dim:
            return Rule()
    elif name in ("linear", "matmul"):
        constant = not any(
            values[v].rows_dim is not None for v in node.inputs[1:]
        ) and not isinstance(node.args[0], Tensor)
        if constant and source.rows_dim != dims - 1:
            return Rule()
    elif name == "layer_norm":
        normalised = len(argument(node, 1, "normalized_shape", ()))
        if source.rows_dim is not None and source.rows_dim < dims - normalised:
            return Rule()
    elif name in ("batch_norm", "dropout"):
        # At the positions of `training`: a batch or chance would decide then.
        position = 5 if name == "batch_norm" else 2
        if not argument(node, position, "training", False):
            return Rule()
    raise refused


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


def argument(node: Node, position: int, keyword: str, default: Any) -> Any:
    """Returns an argument of a recorded call."""
    if keyword in node.kwargs:
        return node.kwargs[keyword]
    return node.args[position] if len(node.args) > position else default


def _from_end(value: Value) -> int:
    """Where rows are, counted from the end: broadcasting aligns shapes there."""
    assert value.rows_dim is not None
    return value.rows_dim - value.dims
