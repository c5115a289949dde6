"""spandrel loader of ParagonSR, training and fused form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spandrel import ModelTiling
from spandrel.util import KeyCondition, get_seq_len
from torch import Tensor

from ..archs.paragonsr_arch import ParagonSR
from .base import PackArchitecture, Reading, Traits, ratio, square_root

_BLOCK = "body.0.blocks.0."


class ParagonSRArch(PackArchitecture):
    """ParagonSR; any counts of groups and blocks, scales 1 to 8, any channels."""

    network = ParagonSR

    def __init__(self) -> None:
        mixer = f"{_BLOCK}transformer.spatial_mixer."
        super().__init__(
            id="ParagonSR",
            detect=KeyCondition.has_all(
                "conv_in.weight",
                f"{_BLOCK}context.dwconv_hw.weight",
                f"{_BLOCK}ls1.gamma",
                f"{_BLOCK}transformer.project_in_g.weight",
                KeyCondition.has_any(f"{mixer}conv3x3.weight", f"{mixer}weight"),
                "conv_fuse.weight",
                "upsampler.0.weight",
                "conv_out.weight",
            ),
        )

    def traits(self, arguments: Mapping[str, Any]) -> Traits:
        # Measured with random weights: every group doubles the features' spread, and
        # 144 blocks (xl) leave float16's range; bfloat16 misses the 2% from 100 (l) on
        # and is at 1.8% with 64 (m). Group norm over the whole image: a tile has other
        # statistics than the picture.
        blocks = arguments["num_groups"] * arguments["num_blocks"]
        return Traits(
            half=blocks <= 100, bfloat16=blocks <= 36, tiling=ModelTiling.DISCOURAGED
        )

    def read(self, state_dict: Mapping[str, Tensor]) -> Reading:
        num_feat, in_chans = state_dict["conv_in.weight"].shape[:2]
        hidden = state_dict[f"{_BLOCK}transformer.project_in_g.weight"].shape[0]
        square = state_dict[f"{_BLOCK}context.dwconv_hw.weight"]
        band = state_dict[f"{_BLOCK}context.dwconv_w.weight"]
        mixer = f"{_BLOCK}transformer.spatial_mixer."
        arguments = {
            "scale": square_root(state_dict["upsampler.0.weight"].shape[0], num_feat),
            "in_chans": in_chans,
            "num_feat": num_feat,
            "num_groups": get_seq_len(state_dict, "body"),
            "num_blocks": get_seq_len(state_dict, "body.0.blocks"),
            "ffn_expansion": ratio(hidden, num_feat, 2.0),
            "square_kernel_size": square.shape[2],
            "band_kernel_size": band.shape[3],
            "branch_ratio": ratio(square.shape[0], num_feat, 0.125),
            "branch_scales": f"{mixer}branch_scales" in state_dict,
        }
        form = "fused" if f"{mixer}weight" in state_dict else "training"
        return Reading(arguments, form)
