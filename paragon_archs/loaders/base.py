"""What the loaders share: from a state dict to a spandrel descriptor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from spandrel import (
    Architecture,
    ImageModelDescriptor,
    ModelTiling,
    SizeRequirements,
    StateDict,
)
from torch import nn

from ..archs import variants
from ..fuse import fuse_model


@dataclass(frozen=True)
class Reading:
    """What a state dict tells about its network.

    Attributes:
        arguments: Every argument of the network's constructor.
        form: `training` or `fused`.
        assumed: For arguments that the tensors do not tell: where the value is from.
    """

    arguments: dict[str, Any]
    form: str = "training"
    assumed: dict[str, str] = field(default_factory=dict)


class PackArchitecture(Architecture[nn.Module]):
    """A spandrel architecture whose hyperparameters can be read, shown and overridden.

    A subclass sets the class attributes, passes `id` and `detect` to `__init__` and
    writes `read`.
    """

    network: Callable[..., nn.Module]
    supports_half: bool = True
    supports_bfloat16: bool = True
    tiling: ModelTiling = ModelTiling.SUPPORTED

    def read(self, state_dict: Mapping[str, Any]) -> Reading:
        """Reads the network's arguments off the tensors' names and shapes."""
        raise NotImplementedError

    def canonical(self, state_dict: StateDict) -> StateDict:
        """Returns the state dict under today's names; older ones are renamed."""
        return state_dict

    def variant(self, reading: Reading) -> str | None:
        """Returns the variant whose `VARIANTS` entry equals what was read, or None."""
        for name, arguments in variants().items():
            built_here = name.startswith(self.id.lower())
            if built_here and arguments.items() <= reading.arguments.items():
                return name
        return None

    def load(
        self, state_dict: StateDict, overrides: Mapping[str, Any] | None = None
    ) -> ImageModelDescriptor[nn.Module]:
        """Builds the network and loads the weights, strictly.

        Args:
            state_dict: Names and tensors, as spandrel hands them over.
            overrides: Arguments that replace what was read or assumed.
        """
        state_dict = self.canonical(state_dict)
        reading = self.read(state_dict)
        arguments = {**reading.arguments, **(overrides or {})}
        model = self.network(**arguments)
        if reading.form == "fused":
            model = fuse_model(model)
        variant = self.variant(reading)
        return ImageModelDescriptor(
            model,
            state_dict,
            architecture=self,
            purpose="SR",
            tags=[*([variant] if variant else []), reading.form],
            supports_half=self.supports_half,
            supports_bfloat16=self.supports_bfloat16,
            scale=arguments["scale"],
            input_channels=arguments["in_chans"],
            output_channels=arguments["in_chans"],
            size_requirements=SizeRequirements(),
            tiling=self.tiling,
        )


def ratio(part: int, whole: int, usual: float) -> float:
    """Returns the argument `r` with `int(whole * r) == part`, `usual` if that fits."""
    if int(whole * usual) == part:
        return usual
    exact = part / whole
    return exact if int(whole * exact) == part else (part + 0.5) / whole
