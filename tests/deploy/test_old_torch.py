"""Half precision in the oldest torch that the pack allows."""

from __future__ import annotations

import os
import subprocess

import pytest

FILES = ("tests/deploy", "tests/strips/test_strips.py")
# There a GPU that does not exist asks for a driver.
HALF = "(half or halves or autocast or beyond or float16 or video) and not on_a_gpu"


def test_half_precision_in_torch_2_7(root):
    """The same tests, by a Python of its own."""
    python = os.environ.get("PARAGON_TORCH27_PYTHON")
    if not python:
        pytest.skip("PARAGON_TORCH27_PYTHON names no Python with torch 2.7.0")
    code = "import torch; assert torch.__version__.startswith('2.7.0'), torch"
    subprocess.run([python, "-c", code], check=True)
    line = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FILES, "-k", HALF]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    del environment["PARAGON_TORCH27_PYTHON"]  # this very test is skipped there
    done = subprocess.run(
        line, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
