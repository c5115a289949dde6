"""Helpers that are no fixtures."""

from __future__ import annotations

import importlib
import os
import re
import runpy
import shlex
import sys
from typing import Any

import numpy as np
import torch
from torch import nn

import paragon_archs
from paragon_archs.cli.__main__ import main

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


# Small networks that have every part of their system; a variant's own counts of blocks
# only repeat these parts (golden cases and tests of counts hold those).
SMALL_VARIANTS = {
    "paragonsr_nano": {"num_groups": 1},
    "paragonsr2_realtime": {},
    "paragonsr2_stream": {"num_groups": 1, "num_blocks": 2},
    "paragonsr2_photo": {
        "num_feat": 16,
        "num_groups": 2,
        "num_blocks": 1,
        "window_size": 4,
    },
    "paragonsr2_pro": {
        "num_feat": 16,
        "num_groups": 1,
        "num_blocks": 2,
        "window_size": 4,
    },
    "fusionsr": {"embed_dim": 24, "depth": 2, "num_heads": 2, "window_size": 4},
    "resshuffle": {"num_features": 8, "num_residuals": 2},
    "facesr": {"num_feat": 16, "mid_feat": 8, "refine_feat": 8, "num_refine": 1},
}

# Every architecture and every kind of block, as small as its structure allows.
SMALL: dict[str, tuple[str, dict]] = {
    "paragonsr": ("paragonsr_nano", {"num_groups": 2, "num_blocks": 1}),
    "realtime": ("paragonsr2_realtime", {"num_blocks": 1}),
    "mks2021": ("paragonsr2_realtime", {"num_blocks": 1, "base_kernel": "mks2021"}),
    "stream": (
        "paragonsr2_stream",
        {"num_feat": 8, "num_groups": 1, "num_blocks": 1},
    ),
    "photo": (
        "paragonsr2_photo",
        {"num_feat": 16, "num_groups": 1, "num_blocks": 2, "window_size": 8},
    ),
    "photo_export_safe": (
        "paragonsr2_photo",
        {"num_feat": 16, "num_groups": 1, "num_blocks": 1, "export_safe": True},
    ),
    "pro": (
        "paragonsr2_pro",
        {"num_feat": 16, "num_groups": 1, "num_blocks": 2, "window_size": 8},
    ),
    "fusionsr": ("fusionsr", {"embed_dim": 24, "depth": 2, "num_heads": 3}),
    "fusionsr_baseline": (
        "fusionsr",
        {"embed_dim": 24, "depth": 2, "num_heads": 3, "use_rca": False},
    ),
    "resshuffle": ("resshuffle", {"num_features": 8, "num_residuals": 1}),
    "facesr": ("facesr", {"num_feat": 16, "num_refine": 1}),
}


def pattern(height, width, channels, dtype: type = np.uint8):
    """Smooth colors: what any format keeps."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    layers = [0.2 + 0.6 * (x * (c + 1) / 4 + y * (4 - c) / 4) / 1.3 for c in range(4)]
    values = np.stack(layers[:channels], axis=2)
    return (values * np.iinfo(dtype).max).astype(dtype)


def small_model(name: str, scale: int = 2) -> Any:
    """A randomised network of `SMALL`, in training form."""
    variant, overrides = SMALL[name]
    return randomise(paragon_archs.create(variant, scale, **overrides))


def execute(line: str) -> int:
    """Runs a command line in this process; returns its exit code."""
    program, *arguments = shlex.split(line)
    if program == "basicsr":  # the console script of pyproject.toml
        module = importlib.import_module("paragon_archs.cli.basicsr")
        return module.main(arguments)
    assert program == "python"
    as_module = arguments[0] == "-m"
    target, *rest = arguments[as_module:]
    before, sys.argv = sys.argv, [target, *rest]
    try:
        if as_module:
            # Python puts the current folder first; nothing of another one stays.
            sys.path.insert(0, os.getcwd())
            for name in [n for n in sys.modules if n.split(".")[0] == "scripts"]:
                del sys.modules[name]
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(target, run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
        if as_module:
            sys.path.remove(os.getcwd())
    return 0


def error_of(capsys, arguments, code=2):
    """Runs a command that has to fail; returns its one sentence."""
    assert main([str(a) for a in arguments]) == code
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    return lines[0]


def older_names(state):
    """ParagonSR2's state dict as early files name it."""
    table = (
        (r"^base\.blur\.", "base_upsampler.resample_conv."),
        (r"^base\.sharp\.", "base_upsampler.sharpen."),
        (r"^(base_upsampler\.\w+)\.([hv])\.", r"\1.conv_\2."),
        (r"(\.blocks\.\d+)\.conv1\.", r"\1.net.0."),
        (r"(\.blocks\.\d+)\.dw\.", r"\1.net.2."),
        (r"(\.blocks\.\d+)\.conv2\.", r"\1.net.4."),
        (r"^detail_gain$", "global_detail_gain"),
        (r"^up\.0\.", "detail_upsampler.up_conv."),
        (r"^conv_mid\.", "conv_fuse."),
    )
    renamed = {}
    for key, value in state.items():
        if key == "settings":
            continue
        name = key
        for pattern, replacement in table:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    assert set(renamed) != set(state)
    return renamed
