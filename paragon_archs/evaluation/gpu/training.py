"""A training step: plain, and with all that makes it fast."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bench import SCALE, Bench, milliseconds
from .report import Row, Section, attempt

_VARIANTS = ("paragonsr2_realtime", "paragonsr_xs", "fusionsr")


def section(bench: Bench) -> Section:
    """Returns the table of training steps."""
    batch, side = _patch(bench)
    return Section(
        "Training",
        f"Milliseconds of a step (L1, AdamW, batch {batch}, {side}x{side} to x{SCALE}):"
        " float32, bf16 under autocast with channels last, and the same compiled.",
        ("network", "fp32", "bf16, NHWC", "compiled too", "times as fast"),
        {name: functools.partial(_line, bench, name) for name in _VARIANTS},
    )


def _patch(bench: Bench) -> tuple[int, int]:
    return (1, 16) if bench.small else (8, 64)


def _line(bench: Bench, name: str) -> Row:
    plain = bench.network(name).train().requires_grad_().to(bench.device)
    quick = copy.deepcopy(plain)
    quick = quick.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    taken = [bench.seconds(_step(bench, plain, False))]
    taken.append(bench.seconds(_step(bench, quick, True)))
    row = Row(["not on a CPU"])
    if not bench.small:

        def compiled() -> Row:
            taken.append(bench.seconds(_step(bench, torch.compile(quick), True)))
            return Row([milliseconds(taken[-1])])

        row = attempt(compiled)
    ratio = f"{taken[0] / min(taken):.2f}"
    return Row([*map(milliseconds, taken[:2]), row.cells[0], ratio], row.held)


def _step(
    bench: Bench, network: Callable[..., Tensor] | nn.Module, quick: bool
) -> Callable[[], None]:
    """Returns a step of training; it raises where the loss is no number."""
    batch, side = _patch(bench)
    layout = torch.channels_last if quick else torch.contiguous_format
    x, wanted = (
        bench.image(side * s, side * s, batch).to(bench.device, memory_format=layout)
        for s in (1, SCALE)
    )
    assert isinstance(network, nn.Module)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=quick):
            y = network(x)
        loss = F.l1_loss(y.float(), wanted)
        loss.backward()
        optimizer.step()
        seen.append(loss.detach())

    seen: list[Tensor] = []

    def checked() -> None:
        step()
        if len(seen) == 1 and not math.isfinite(float(seen[0])):
            raise ValueError("the loss is not a number")
        del seen[1:]

    return checked
