"""What the loaders share: from a state dict to a spandrel descriptor."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from spandrel import (
    Architecture,
    ImageModelDescriptor,
    ModelTiling,
    SizeRequirements,
    StateDict,
)
from torch import Tensor, nn

from ..archs import variants
from ..deploy import DeployCall, deploy_model
from ..fuse import fuse_model
from ..utils.nearest import did_you_mean


@dataclass(frozen=True)
class Reading:
    """What a state dict shows about its network.

    Attributes:
        arguments: Every argument of the network's constructor.
        form: `training` or `fused`.
        assumed: For arguments that the tensors do not show: where the value is from.
    """

    arguments: dict[str, Any]
    form: str = "training"
    assumed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Traits:
    """What a network supports.

    Attributes:
        half: Whether float16 stays finite and within 2% RMS of float32's spread.
        bfloat16: The same of bfloat16.
        tiling: Whether tiles with a margin give the whole image's picture.
    """

    half: bool = True
    bfloat16: bool = True
    tiling: ModelTiling = ModelTiling.SUPPORTED


class PackArchitecture(Architecture[nn.Module]):
    """A spandrel architecture whose hyperparameters can be read, shown and overridden.

    A subclass sets the class attributes, passes `id` and `detect` to `__init__` and
    writes `read`.
    """

    network: Callable[..., nn.Module]
    initial: frozenset[str] = frozenset()
    """Arguments that do not make the variant: training starts, or choices of use."""

    def read(self, state_dict: Mapping[str, Tensor]) -> Reading:
        """Reads the network's arguments off the tensors' names and shapes."""
        raise NotImplementedError

    def canonical(self, state_dict: StateDict) -> StateDict:
        """Returns the state dict under today's names; older ones are renamed."""
        return state_dict

    def traits(self, arguments: Mapping[str, Any]) -> Traits:
        """Returns what the network with these arguments supports, as measured."""
        return Traits()

    def variant(self, reading: Reading) -> str | None:
        """Returns the variant whose `VARIANTS` entry equals what was read, or None."""
        for name, arguments in variants().items():
            shape = {k: v for k, v in arguments.items() if k not in self.initial}
            built_here = name.startswith(self.id.lower())
            if built_here and shape.items() <= reading.arguments.items():
                return name
        return None

    def overridden(
        self, state_dict: StateDict, reading: Reading, overrides: Mapping[str, object]
    ) -> StateDict:
        """Checks overrides against the weights; returns the weights to load.

        Raises:
            TypeError: when an override is no argument of the network.
        """
        for name in overrides:
            if name not in reading.arguments:
                hint = did_you_mean(name, reading.arguments, "Leave it out.", 2)
                raise TypeError(
                    f"Expected overrides of {self.name} to be out of "
                    f"{', '.join(reading.arguments)}, but got {name!r}. {hint}"
                )
        return state_dict

    def inspect(self, state_dict: StateDict) -> Reading:
        """Reads the arguments off a state dict of any supported layout.

        Raises:
            ValueError: when an entry that holds them is missing or misshapen.
        """
        try:
            return self.read(self.canonical(state_dict))
        except (LookupError, ValueError, TypeError, ZeroDivisionError) as error:
            raise ValueError(
                f"Expected the weights of {self.name} to show its hyperparameters, but "
                f"an entry is missing or misshapen ({error}). Check that the file is "
                "whole and unedited."
            ) from error

    def load(
        self, state_dict: StateDict, overrides: Mapping[str, object] | None = None
    ) -> ImageModelDescriptor[nn.Module]:
        """Builds the network and loads the weights, strictly.

        Args:
            state_dict: Names and tensors, as spandrel hands them over.
            overrides: Arguments that replace what was read or assumed.
        """
        reading = self.inspect(state_dict)
        state_dict = self.canonical(state_dict)
        state_dict = self.overridden(state_dict, reading, overrides or {})
        arguments = {**reading.arguments, **(overrides or {})}
        traits = self.traits(arguments)
        model = self.network(**arguments)
        if reading.form == "fused":
            model = fuse_model(model)
        variant = self.variant(reading)
        descriptor = ImageModelDescriptor(
            model,
            state_dict,
            architecture=self,
            purpose="SR",
            tags=[*([variant] if variant else []), reading.form],
            supports_half=traits.half,
            supports_bfloat16=traits.bfloat16,
            scale=arguments["scale"],
            input_channels=arguments["in_chans"],
            output_channels=arguments["in_chans"],
            size_requirements=SizeRequirements(),  # each network pads by itself
            tiling=traits.tiling,
            call_fn=DeployCall(deploy_model),
        )
        # What torch.jit.trace and torch.jit.script ask for.
        vars(descriptor).update(__name__=self.id, __prepare_scriptable__=_no_script)
        return descriptor


def _no_script() -> NoReturn:
    raise TypeError(
        "Expected torch.jit.trace for a descriptor, but got torch.jit.script. One "
        "trace serves every size: torch.jit.trace(descriptor, torch.rand(1, 3, 64, "
        "64), check_trace=False)."
    )


def ratio(part: int, whole: int, usual: float) -> float:
    """Returns the argument `r` with `int(whole * r) == part`, `usual` if that fits."""
    if int(whole * usual) == part:
        return usual
    exact = part / whole
    return exact if int(whole * exact) == part else (part + 0.5) / whole


def square_root(outer: int, inner: int) -> int:
    """Returns r with `outer == inner * r * r`: a PixelShuffle factor.

    Raises:
        ValueError: when there is none.
    """
    root = math.isqrt(outer // inner)
    if root < 1 or inner * root * root != outer:
        raise ValueError(f"{outer} channels are no {inner} times a square")
    return root


def renamed(state_dict: StateDict, table: Sequence[tuple[str, str]]) -> StateDict:
    """Returns a copy under new names: each regular expression in turn, on each name."""

    def today(name: str) -> str:
        for pattern, replacement in table:
            name = re.sub(pattern, replacement, name)
        return name

    return {today(name): value for name, value in state_dict.items()}
