"""From the command to the optimizer in few steps that a reader can follow."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import engine_common as common
from torch.optim.optimizer import register_optimizer_step_pre_hook


def test_the_command_reaches_the_optimizer_in_ten_calls(here: Path) -> None:
    seen: list[list[str]] = []

    def note(*_: Any) -> None:
        frames = traceback.extract_stack()
        own = [f for f in frames if "paragon_archs" in Path(f.filename).parts]
        seen.append([f"{Path(f.filename).stem}.{f.name}" for f in own])

    handle = register_optimizer_step_pre_hook(note)
    try:
        assert common.train(here, {"val": ..., "train:total_iter": 1}) == 0
    finally:
        handle.remove()
    (calls,) = {tuple(calls) for calls in seen[-1:]}
    assert calls[0] == "basicsr.main" and calls[-1] == "stepping.step"
    assert len(calls) <= 10, calls
