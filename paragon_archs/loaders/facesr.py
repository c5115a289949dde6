"""spandrel loader of the face network."""

from __future__ import annotations

import math
from collections.abc import Mapping

from spandrel import ModelTiling
from spandrel.util import KeyCondition, get_seq_len
from torch import Tensor

from ..archs.facesr_arch import VARIANTS, FaceSR
from .base import PackArchitecture, Reading, Traits, square_root


class FaceSRArch(PackArchitecture):
    """FaceSR with purpose "SR": spandrel's "FaceSR" has another call and range."""

    network = FaceSR

    def __init__(self) -> None:
        super().__init__(
            id="FaceSR",
            detect=KeyCondition.has_all(
                "conv_in.weight",
                "residual.conv1.weight",
                "residual.norm.weight",
                "upsampler.0.weight",
                "refine.0.norm.weight",
                "conv_out.weight",
            ),
        )

    def traits(self, arguments: Mapping[str, object]) -> Traits:
        # Group norms over the whole image.
        return Traits(tiling=ModelTiling.DISCOURAGED)

    def read(self, state_dict: Mapping[str, Tensor]) -> Reading:
        num_feat, in_chans = state_dict["conv_in.weight"].shape[:2]
        refine_feat = state_dict["conv_out.weight"].shape[1]
        steps = get_seq_len(state_dict, "upsampler")
        weights = [state_dict[f"upsampler.{i}.weight"] for i in range(steps)]
        after = [*(w.shape[1] for w in weights[1:]), refine_feat]
        factors = (
            square_root(w.shape[0], c) for w, c in zip(weights, after, strict=True)
        )
        middle = after[0] if steps > 1 else VARIANTS["facesr"]["mid_feat"]
        arguments = {
            "scale": math.prod(factors),
            "in_chans": in_chans,
            "num_feat": num_feat,
            "mid_feat": middle,  # cannot be deduced from one step, has no part in it
            "refine_feat": refine_feat,
            "num_refine": get_seq_len(state_dict, "refine"),
        }
        return Reading(arguments)
