"""spandrel loader of FusionSR, whole or as its baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping

from spandrel import ModelTiling
from spandrel.util import KeyCondition, get_seq_len
from torch import Tensor

from ..archs.fusionsr_arch import FusionSR
from .base import PackArchitecture, Reading, Traits, ratio, square_root


class FusionSRArch(PackArchitecture):
    """FusionSR with any depth and width, scales 1 to 8, any channels."""

    network = FusionSR

    def __init__(self) -> None:
        super().__init__(
            id="FusionSR",
            detect=KeyCondition.has_all(
                "conv_first.original_path.0.weight",
                "conv_first.original_path.4.weight",
                "body.0.attn.relative_position_bias_table",
                "body.0.mlp.0.weight",
                "feature_fusion.0.weight",
                "upsample.0.weight",
            ),
        )

    def traits(self, arguments: Mapping[str, object]) -> Traits:
        # Windows begin where the image begins, and the enhanced path averages over it.
        return Traits(tiling=ModelTiling.DISCOURAGED)

    def read(self, state_dict: Mapping[str, Tensor]) -> Reading:
        embed_dim = state_dict["conv_first.original_path.4.weight"].shape[0]
        in_chans = state_dict["conv_first.original_path.0.weight"].shape[1]
        # The table has a row for each distance in a window: (2 * window - 1)^2.
        rows, num_heads = state_dict["body.0.attn.relative_position_bias_table"].shape
        hidden = state_dict["body.0.mlp.0.weight"].shape[0]
        arguments = {
            "scale": square_root(state_dict["upsample.0.weight"].shape[0], in_chans),
            "in_chans": in_chans,
            "embed_dim": embed_dim,
            "depth": get_seq_len(state_dict, "body"),
            "num_heads": num_heads,
            "window_size": (math.isqrt(rows) + 1) // 2,
            "mlp_ratio": ratio(hidden, embed_dim, 4),
            "use_rca": "conv_first.mix_weight" in state_dict,
        }
        return Reading(arguments)
