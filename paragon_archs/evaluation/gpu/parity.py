"""Whether a device computes what a CPU does in float32."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from ...checkpoint import load_model
from ...deploy import deploy_model
from ...fuse import fuse_model
from ...inference.layout import LAYOUTS
from ...utils.dtypes import DTYPES, dtype_of
from ...weights import available
from .bench import SCALE, Bench
from .report import Row, Section, attempt

LIMITS = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 3e-2}
"""Largest root mean square of the error, in units of the result's deviation."""

_FORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "fused": fuse_model,
    "deploy": deploy_model,
}
_WORK = 2e10  # multiply-adds that a CPU is asked for
_SIDES = (28, 224)  # the larger reaches what is done for large images alone


def section(bench: Bench) -> Section:
    """Returns the table of every network, form and dtype."""
    lines: dict[str, Callable[[], Row]] = {}
    for name in bench.variants:
        network = functools.cache(functools.partial(bench.network, name))
        for form in _FORMS:
            line = functools.partial(_line, bench, network, form)
            lines[f"{name}, {form}"] = line
    for name, file in {} if bench.small else available().items():
        trained = functools.partial(_trained, str(file))
        lines[f"{name}, trained, deploy"] = functools.partial(
            _line, bench, trained, "deploy"
        )
    limits = ", ".join(f"{name} {limit:g}" for name, limit in LIMITS.items())
    return Section(
        "Parity with the CPU",
        "Root mean square of the error against the fused form on the CPU in float32, "
        "over the result's standard deviation; the worse of both memory layouts. TF32 "
        f"is off. Allowed: {limits}.",
        ("network, form", *DTYPES),
        lines,
        binding=True,
    )


def exact() -> AbstractContextManager[object]:
    """Returns a context in which float32 is float32: convolutions without TF32."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def error(got: Tensor, wanted: Tensor) -> float:
    """Returns the root mean square of an error over the deviation of what is right."""
    gap = (got.double().cpu() - wanted.double()).square().mean().sqrt()
    return float(gap / wanted.double().std())


def _trained(file: str) -> nn.Module:
    model = load_model(file).model
    assert isinstance(model, nn.Module)
    return model


def _line(bench: Bench, network: Callable[[], nn.Module], form: str) -> Row:
    plain = network()
    weights = sum(p.numel() for p in plain.parameters())
    side = min(max(math.isqrt(int(_WORK / weights)), _SIDES[0]), _SIDES[1])
    x = bench.image(*((19, 22) if bench.small else (side, side - 7)))
    with torch.inference_mode():
        wanted, network = fuse_model(plain)(x), _FORMS[form](plain)
        rows = [
            attempt(functools.partial(_cell, bench, network, x, wanted, dtype))
            for dtype in DTYPES
        ]
    return Row([cell for row in rows for cell in row.cells], all(r.held for r in rows))


def _cell(
    bench: Bench, network: nn.Module, x: Tensor, wanted: Tensor, dtype: str
) -> Row:
    network = copy.deepcopy(network).to(bench.device, dtype_of(dtype))
    with exact():
        found = max(_errors(network, x.to(bench.device, dtype_of(dtype)), wanted))
    held = found <= LIMITS[dtype]
    return Row([f"{found:.0e}" if held else f"**{found:.0e}**"], held)


def _errors(network: nn.Module, x: Tensor, wanted: Tensor) -> Iterator[float]:
    for layout in LAYOUTS.values():
        y = network(x.contiguous(memory_format=layout))
        if y.shape != wanted.shape or y.dtype != x.dtype:
            raise ValueError(
                f"Expected {tuple(wanted.shape)} in {x.dtype}, but got "
                f"{tuple(y.shape)} in {y.dtype} at x{SCALE}. Report this network."
            )
        found = error(y, wanted)
        yield math.inf if math.isnan(found) else found
