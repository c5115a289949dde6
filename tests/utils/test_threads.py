"""Threads that sleep at barriers, as OpenMP's runtime itself reports."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
from paragon_archs.cli.dispatch import Command, dispatch
commands = {"train": Command("torch", "")}
try:
    dispatch("x", commands, ["train"])
except AttributeError:
    import torch
    torch.ones(300, 300) @ torch.ones(300, 300)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP reports there")
@pytest.mark.parametrize(
    ("own", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]
)
def test_commands_let_threads_sleep_unless_the_user_says_otherwise(own, policy):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP", "GOMP"))}
    run = subprocess.run(
        [sys.executable, "-c", CODE],
        env=clean | own | {"OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"OMP_WAIT_POLICY = '{policy}'" in run.stderr
