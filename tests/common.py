"""Helpers that are no fixtures."""

from __future__ import annotations

import torch
from torch import nn

FIXED = ("base.", "relative_position_index")


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every floating entry a value that matters; fixed filters stay.

    A fresh LayerScale of 1e-5 would make any comparison pass: gammas become about 0.5.
    """
    generator = torch.Generator().manual_seed(seed)
    state = model.state_dict()
    for name, value in state.items():
        if not value.is_floating_point() or any(f in name for f in FIXED):
            continue
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        leaf = name.rsplit(".", 1)[-1]
        if leaf in ("gamma", "mix_weight", "residual_scale", "detail_gain"):
            noise = 0.5 + 0.1 * noise
        elif leaf in ("bias", "relative_position_bias_table"):
            noise = 0.1 * noise
        elif value.ndim == 1 or (value.ndim == 3 and value.shape[1:] == (1, 1)):
            noise = 1 + 0.1 * noise
        else:
            noise = noise / max(1, value[0].numel()) ** 0.5
        state[name] = noise.to(value.dtype)
    model.load_state_dict(state)
    return model.eval()


def image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32):
    """A noise image (B, C, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)
