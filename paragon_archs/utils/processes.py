"""Several processes: starting them, and the messages between them."""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def init_processes(launcher: str, options: Mapping[str, Any]) -> tuple[int, int]:
    """Joins the group of processes that torchrun or slurm has started.

    NCCL on GPUs, gloo on CPUs. Workers of data loaders start as the platform does it,
    not by `spawn` as the host demands.

    Args:
        launcher: `none`, `pytorch` (torchrun) or `slurm`.
        options: The section `dist_params`: backend, port, timeout_minutes.

    Returns:
        This process's rank, and the number of processes.

    Raises:
        ValueError: when the launcher's environment variables are missing.
    """
    if launcher == "none":
        return 0, 1
    if launcher == "slurm":
        _slurm_environment(options.get("port"))
    missing = [
        name
        for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        if name not in os.environ
    ]
    if missing:
        raise ValueError(
            f"Expected the launcher {launcher} to set {missing[0]}, but it is not set. "
            "Start with: torchrun --nproc_per_node N -m paragon_archs.cli.train "
            "-opt FILE --launcher pytorch"
        )
    gpus = torch.cuda.device_count()
    backend = options.get("backend") or ("nccl" if gpus else "gloo")
    if backend == "nccl" and not gpus:
        backend = "gloo"  # the host's own files say nccl, on every machine
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % gpus)
    minutes = options.get("timeout_minutes") or 120
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=minutes))
    return dist.get_rank(), dist.get_world_size()


def _slurm_environment(port: int | None) -> None:
    if "SLURM_PROCID" not in os.environ:
        raise ValueError(
            "Expected the launcher slurm to run under srun, but SLURM_PROCID is not "
            "set. Start it with srun."
        )
    nodes = subprocess.run(
        ["scontrol", "show", "hostname", os.environ["SLURM_NODELIST"]],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_NTASKS"]
    os.environ["LOCAL_RANK"] = os.environ.get("SLURM_LOCALID", "0")
    os.environ["MASTER_ADDR"] = nodes[0]
    os.environ["MASTER_PORT"] = str(port or os.environ.get("MASTER_PORT", "29500"))


def any_process(flag: int, world: int, device: torch.device) -> int:
    """Returns the largest `flag` of all processes."""
    if world == 1:
        return flag
    value = torch.tensor(flag, device=device if device.type == "cuda" else "cpu")
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


def of_first(value: T, distributed: bool) -> T:
    """Returns the first process's `value`, in all of them."""
    if not distributed:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def leave_processes() -> None:
    """Leaves the group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
