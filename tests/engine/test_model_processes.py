"""Two processes of the GAN and the staged model do what one does on twice the batch."""

from __future__ import annotations

import os
import subprocess
import sys

import engine_common as common
import pytest
import torch
from engine_common import GAN, STAGED

from paragon_archs.utils.registry import HAS_BASICSR

if not HAS_BASICSR:
    pytest.skip("needs BasicSR", allow_module_level=True)

RUNS = {
    "gan": (GAN | {"train:grad_clip": 1.0, "train:accum_iter": 2}, 4),
    "staged": (STAGED, 10),
}


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_equal_one(name, root, tmp_path):
    changes, last = RUNS[name]
    common.write_images(tmp_path / "data", count=5, side=40)
    states = []
    for run, size, launch in (
        ("one", 4, []),
        ("two", 2, ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]),
    ):
        sized = {"name": run, "datasets:train:batch_size_per_gpu": size}
        common.write_options(tmp_path / f"{run}.yml", changes | sized)
        command = [sys.executable, *(f for part in launch[:1] for f in ("-m", part))]
        command += [*launch[1:], "-m", "paragon_archs.cli.train", "-opt", f"{run}.yml"]
        command += ["--launcher", "pytorch"] if launch else []
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        file = tmp_path / f"experiments/{run}/training_states/{last}.state"
        states.append(torch.load(file, weights_only=True)["networks"])
    for net, tensors in states[0].items():
        for key, value in tensors.items():
            torch.testing.assert_close(
                states[1][net][key], value, rtol=0, atol=1e-5, msg=f"{net} {key}"
            )
    metrics = [
        [line for line in common.log_of(tmp_path, run).splitlines() if "# psnr" in line]
        for run in ("one", "two")
    ]
    assert metrics[0] == metrics[1]
