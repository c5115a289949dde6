"""How an operation announces itself as one step to whoever records a network.

torch's own functions pass by a `TorchFunctionMode` that is active in their thread; so
does what `leaf` wraps. A recorder then sees one call with a rule instead of the steps
inside, and no other thread notices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch.overrides import handle_torch_function, has_torch_function

Call = TypeVar("Call", bound=Callable[..., object])


@dataclass(frozen=True)
class Rule:
    """What an operation needs to know beyond the row that it computes.

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


def leaf(rule: Callable[..., Rule], dense: bool = False) -> Callable[[Call], Call]:
    """Lets a function or method be recorded as one operation.

    Args:
        rule: From the call's arguments to what the operation needs.
        dense: Whether a part of the image has to be copied to a map of its own,
            channels-last, before `call` takes it on the fast way.
    """

    def announce(call: Call) -> Call:
        @functools.wraps(call)
        def announced(*args: object, **kwargs: object) -> object:
            # Compilers and exporters see what is inside; the question itself would
            # keep them from it.
            if not torch.compiler.is_compiling() and has_torch_function(args):
                return handle_torch_function(announced, args, *args, **kwargs)
            return call(*args, **kwargs)

        vars(announced).update(rule=rule, dense=dense)
        return cast("Call", announced)

    return announce
