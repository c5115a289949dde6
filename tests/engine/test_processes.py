"""Several processes on the CPU (gloo, torchrun): the numbers of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engine_common as common
import pytest
import torch
import torch.distributed as dist
from model_common import batch, options, run
from safetensors.torch import load_file
from tensorboard.backend.event_processing import event_accumulator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from paragon_archs.cli import basicsr
from paragon_archs.models.paragon_gan_model import ParagonGANModel
from paragon_archs.models.paragon_model import ParagonModel
from paragon_archs.models.paragon_staged_model import ParagonStagedModel

CHANGES: dict[str, Any] = {
    "train:total_iter": 6,
    "train:accum_iter": 2,
    "train:grad_clip": 0.5,
    "train:precision": "fp32",
    "datasets:train:batch_size_per_gpu": 1,
    "val:val_freq": 3,
    "logger:save_checkpoint_freq": 3,
    "logger:use_tb_logger": True,
    "dist_params": {"backend": "nccl", "timeout_minutes": 2},  # as the host's files say
}

# Both runs of the test in one group of processes: importing the host takes seconds.
BOTH = """
import os, sys, torch
torch.set_num_threads(1)
from paragon_archs.cli.basicsr import main
from paragon_archs.utils import processes
leave, processes.leave_processes = processes.leave_processes, lambda: None
join, joined = processes.init_processes, []
def once(*a):
    joined[:] = joined or [join(*a)]
    return joined[0]
from paragon_archs.engine import context, state
if os.environ["RANK"] == "1":  # a shared folder that shows the first one's files late
    state.newest_state = lambda folder: None
context.init_processes, context.leave_processes = once, lambda: None
codes = []
for file, *flags in (
    ["two.yml"],
    ["steady_two.yml"],
    ["parts.yml", "--force_yml", "train:total_iter=3"],
    ["parts.yml", "--auto_resume"],
    ["host.yml"],
):
    codes.append(main(["train", "-opt", file, "--launcher", "pytorch", *flags]))
leave()
sys.exit(max(codes))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one and two processes have trained the same."""
    here = tmp_path_factory.mktemp("processes")
    common.write_images(here / "data", count=3)
    one = {**CHANGES, "datasets:train:batch_size_per_gpu": 2, "name": "one"}
    common.write_options(here / "one.yml", one)
    for name, size in (("steady_one", 2), ("steady_two", 1)):
        steady = {"train:accum_iter": 1, "datasets:train:batch_size_per_gpu": size}
        common.write_options(here / f"{name}.yml", {**CHANGES, **steady, "name": name})
    for name in ("two", "parts"):
        common.write_options(here / f"{name}.yml", {**CHANGES, "name": name})
    sr = {**CHANGES, "name": "host", "model_type": "SRModel", "train:losses": ...}
    sr |= {"train:accum_iter": ..., "train:grad_clip": ..., "train:precision": ...}
    sr |= {"train:pixel_opt": {"type": "L1Loss"}}
    common.write_options(here / "host.yml", sr)
    (here / "both.py").write_text(BOTH)
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"),
            *("--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"),
            "both.py",
        ],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    former = Path.cwd()
    os.chdir(here)
    try:
        for name in ("one", "steady_one"):
            assert basicsr.main(["train", "-opt", f"{name}.yml"]) == 0
    finally:
        os.chdir(former)
    return here


def numbers(here: Path, name: str) -> dict[int, float]:
    losses = common.losses_of(common.log_of(here, name))
    return {i: float(text.split("l_l1: ")[1]) for i, text in losses.items()}


def scalars(here: Path, name: str) -> list[float]:
    """The losses as TensorBoard has them: all digits, where the log has five."""
    accumulator = event_accumulator.EventAccumulator(
        str(here / "experiments" / name / "tb_logger")
    )
    found = [e.value for e in accumulator.Reload().Scalars("losses/l_l1")]
    assert len(found) == 6
    return found


def state(here: Path, name: str) -> dict[str, Any]:
    file = here / "experiments" / name / "training_states/6.state"
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("names", [("one", "two"), ("steady_one", "steady_two")])
def test_losses_and_weights_equal_one_process_with_twice_the_batch(
    names: tuple[str, str], runs: Path
) -> None:
    """In micro-batches, and in one, where the graph of a step is known to stay."""
    losses = [scalars(runs, name) for name in names]
    assert losses[1] == pytest.approx(losses[0], rel=0, abs=1e-6)
    one, two = (state(runs, name)["networks"]["net_g"] for name in names)
    for key, value in one.items():
        assert (two[key] - value).abs().max() <= 1e-6 * max(1, value.abs().max()), key


def test_the_validation_metric_is_the_same_number(runs: Path) -> None:
    found = [
        state(runs, n)["best_metric_results"]["few"]["psnr"] for n in ("one", "two")
    ]
    assert found[0]["iter"] == found[1]["iter"]
    assert found[1]["val"] == pytest.approx(found[0]["val"], abs=1e-9)


def test_resumed_processes_go_on_exactly(runs: Path) -> None:
    whole, parts = numbers(runs, "two"), numbers(runs, "parts")
    assert list(parts) == [4, 5, 6] and {i: whole[i] for i in parts} == parts
    weights = [
        load_file(runs / f"experiments/{name}/models/net_g_latest.safetensors")
        for name in ("two", "parts")
    ]
    assert all(torch.equal(weights[1][key], value) for key, value in weights[0].items())
    assert len(state(runs, "two")["rng"]) == 2


def test_only_rank_0_writes(runs: Path) -> None:
    assert len(list((runs / "experiments/two").glob("*.log"))) == 1
    assert len(list((runs / "experiments").iterdir())) == 6  # no archive of rank 1
    for name in ("one", "two", "steady_two", "parts", "host"):
        rows = (runs / "experiments" / name / "report.jsonl").read_text().split("\n")
        steps = [json.loads(row)["iter"] for row in rows if '"losses"' in row]
        assert steps == [1, 2, 3, 4, 5, 6]


def test_a_host_model_trains_and_validates_in_two_processes(runs: Path) -> None:
    """The host divides by the GPUs that are not there (D1, D2, D5)."""
    log = common.log_of(runs, "host")
    assert len(common.losses_of(log)) == 6 and log.count("Validation few") == 2


WRAPPED: dict[str, tuple[type[ParagonModel], dict[str, Any], bool]] = {
    "plain": (ParagonModel, {}, True),
    "parts": (ParagonModel, {"train:accum_iter": 2}, False),
    "recomputed": (ParagonModel, {"train:grad_checkpointing": True}, False),
    "unused": (ParagonModel, {"find_unused_parameters": True}, False),
    "staged": (ParagonStagedModel, common.STAGED, False),
    "gan": (ParagonGANModel, common.GAN, False),
}


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", WRAPPED)
def test_gradients_are_views_of_what_is_sent(
    name: str, here: Path, alone: None, recwarn: pytest.WarningsRecorder
) -> None:
    """No second copy of them, no buffers in each step, and a graph learned once."""
    kind, changes, static = WRAPPED[name]
    one = kind({**options(here, changes), "dist": True})
    net = one.net_g
    assert not [w for w in recwarn if "buffers" in str(w.message)]
    assert isinstance(net, DistributedDataParallel)
    assert net.static_graph == static
    assert net.gradient_as_bucket_view and not net.broadcast_buffers
    if name == "plain":
        run(one, batch(2), 3)
        views = {p.grad.untyped_storage().data_ptr() for p in net.parameters()}
        assert len(views) < len(list(net.parameters()))


def test_running_statistics_are_shared_in_each_step(here: Path, alone: None) -> None:
    one = ParagonModel({**options(here), "dist": True})
    net = one.model_to_device(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    assert isinstance(net, DistributedDataParallel) and net.broadcast_buffers
