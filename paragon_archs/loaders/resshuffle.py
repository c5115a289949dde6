"""spandrel loader of ResShuffle."""

from __future__ import annotations

import math
from collections.abc import Mapping

from spandrel.util import KeyCondition, get_seq_len
from torch import Tensor

from ..archs.resshuffle_arch import ResShuffle
from .base import PackArchitecture, Reading, square_root


class ResShuffleArch(PackArchitecture):
    """ResShuffle with any width and depth, scales 1 to 8, any channels."""

    network = ResShuffle

    def __init__(self) -> None:
        super().__init__(
            id="ResShuffle",
            detect=KeyCondition.has_all(
                "conv_input.weight",
                "residual_blocks.0.conv1.weight",
                "residual_blocks.0.conv2.weight",
                "conv_mid.weight",
                "upsample.0.conv.weight",
                "conv_output.weight",
            ),
        )

    def read(self, state_dict: Mapping[str, Tensor]) -> Reading:
        num_features, in_chans = state_dict["conv_input.weight"].shape[:2]
        factors = (
            square_root(state_dict[f"upsample.{i}.conv.weight"].shape[0], num_features)
            for i in range(get_seq_len(state_dict, "upsample"))
        )
        arguments = {
            "scale": math.prod(factors),
            "in_chans": in_chans,
            "num_features": num_features,
            "num_residuals": get_seq_len(state_dict, "residual_blocks"),
        }
        return Reading(arguments)
