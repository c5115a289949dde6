"""spandrel loader of ParagonSR2, today's names and the older ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from spandrel import ModelTiling, StateDict
from spandrel.util import KeyCondition, get_seq_len
from torch import Tensor

from ..archs.paragonsr2_arch import MILLION, VARIANTS, ParagonSR2
from .base import PackArchitecture, Reading, Traits, renamed, square_root

_BLOCK = "body.0.blocks.0."
_OLDER = (
    (r"^base_upsampler\.resample_conv\.", "base.blur."),
    (r"^base_upsampler\.sharpen\.", "base.sharp."),
    (r"^(base\..*)conv_([hv])\.", r"\1\2."),
    (r"(\.blocks\.\d+)\.net\.0\.", r"\1.conv1."),
    (r"(\.blocks\.\d+)\.net\.2\.", r"\1.dw."),
    (r"(\.blocks\.\d+)\.net\.4\.", r"\1.conv2."),
    (r"^global_detail_gain$", "detail_gain"),
    (r"^detail_upsampler\.up_conv\.", "up.0."),
    (r"^conv_fuse\.", "conv_mid."),
)
"""Older names, as regular expressions, and today's; applied in this order."""

WINDOW_SIZE = 16  # of every published variant


class ParagonSR2Arch(PackArchitecture):
    """ParagonSR2 with any counts of groups and blocks, scales 1 to 8, any channels."""

    network = ParagonSR2
    initial = frozenset({"detail_gain", "upsampler_alpha"})

    def __init__(self) -> None:
        super().__init__(
            id="ParagonSR2",
            detect=KeyCondition.has_all(
                "conv_in.weight",
                KeyCondition.has_any(f"{_BLOCK}scale.gamma", f"{_BLOCK}scale1.gamma"),
                KeyCondition.has_any("detail_gain", "global_detail_gain"),
                KeyCondition.has_any("conv_mid.weight", "conv_fuse.weight"),
                KeyCondition.has_any("up.0.weight", "detail_upsampler.up_conv.weight"),
                "conv_out.weight",
            ),
        )

    def canonical(self, state_dict: StateDict) -> StateDict:
        return renamed(state_dict, _OLDER)

    def traits(self, arguments: Mapping[str, object]) -> Traits:
        pro = arguments["variant"] == "pro"
        attention = arguments["variant"] == "photo" and not (
            arguments["export_safe"] or arguments["attention_mode"] is None
        )
        # Pro averages over the image, and its gates on those averages are so steep
        # that 16 bits miss the 2% (up to 0.1 in float16, 0.7 in bfloat16). Photo's
        # windows depend on where the image begins.
        return Traits(
            half=not pro,
            bfloat16=not pro,
            tiling=ModelTiling.DISCOURAGED
            if pro or attention
            else ModelTiling.SUPPORTED,
        )

    def read(self, state_dict: Mapping[str, Tensor]) -> Reading:
        num_feat, in_chans = state_dict["conv_in.weight"].shape[:2]
        variant = "realtime"
        if f"{_BLOCK}dw1.weight" in state_dict:
            variant = "stream"
        elif f"{_BLOCK}norm.scale" in state_dict:
            variant = "photo"
        elif f"{_BLOCK}norm1.scale" in state_dict:
            variant = "pro"
        attention = {"photo": "attn", "pro": "window_attn"}.get(variant)
        export_safe = (
            attention is not None
            and f"{_BLOCK}{attention}.qkv.weight" not in state_dict
        )
        assumed = {
            "attention_mode": "no trace in weights; sdpa and flex compute the same",
            "use_checkpointing": "no trace in weights; a matter of training only",
        }
        alpha, window_size = self._settings(state_dict)
        if alpha is None or window_size is None:
            alpha = VARIANTS[f"paragonsr2_{variant}"]["upsampler_alpha"]
            window_size = WINDOW_SIZE
            assumed["upsampler_alpha"] = f"published default of paragonsr2_{variant}"
            assumed["window_size"] = "published default"
        arguments = {
            "scale": square_root(state_dict["up.0.weight"].shape[0], num_feat),
            "in_chans": in_chans,
            "num_feat": num_feat,
            "num_groups": get_seq_len(state_dict, "body"),
            "num_blocks": get_seq_len(state_dict, "body.0.blocks"),
            "variant": variant,
            "detail_gain": round(float(state_dict["detail_gain"]), 6),
            "upsampler_alpha": alpha,
            "use_checkpointing": False,  # cannot be deduced
            "attention_mode": "sdpa",  # cannot be deduced
            "export_safe": export_safe,
            "window_size": window_size,
            "base_kernel": "mks2021"
            if "base.mks2021.h.weight" in state_dict
            else "published",
        }
        return Reading(arguments, assumed=assumed)

    @staticmethod
    def _settings(state_dict: Mapping[str, Tensor]) -> tuple[float | None, int | None]:
        """Returns upsampler_alpha and window_size where the weights carry them."""
        settings = state_dict.get("settings")
        # A converter may have turned the integers into halves, which overflow.
        if settings is None or not all(map(math.isfinite, settings.flatten().tolist())):
            return None, None
        alpha, window_size = settings.tolist()
        return alpha / MILLION, int(window_size)

    def overridden(
        self, state_dict: StateDict, reading: Reading, overrides: Mapping[str, Any]
    ) -> StateDict:
        state_dict = dict(super().overridden(state_dict, reading, overrides))
        drops = overrides.get("export_safe") or (
            "attention_mode" in overrides and overrides["attention_mode"] is None
        )
        attends = reading.arguments["variant"] in ("photo", "pro")
        if drops and attends and not reading.arguments["export_safe"]:
            raise ValueError(
                "Expected weights without attention for export_safe (or attention_mode "
                "None), but got weights that were trained with it: the trained "
                "attention would be dropped. Leave the override out, or use weights "
                "that were trained so."
            )
        if {"upsampler_alpha", "window_size"} & set(overrides):
            state_dict.pop("settings", None)  # recorded elsewhere, so no warning
        if "detail_gain" in overrides:
            state_dict["detail_gain"] = torch.tensor(float(overrides["detail_gain"]))
        return state_dict
