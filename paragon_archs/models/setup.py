"""What training and test runs begin with: processes, seed, model."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from basicsr.models import build_model

from ..config.errors import OptionError, wrong
from ..config.loading import Options
from ..utils.processes import init_processes
from .folders import seed_all


def join(arguments: argparse.Namespace, opt: dict[str, Any]) -> None:
    """Joins the other processes, seeds this one, and notes both in the options.

    Raises:
        OptionError: when the launcher did not set its environment variables.
    """
    try:
        opt["rank"], opt["world_size"] = init_processes(
            arguments.launcher, opt.get("dist_params") or {}
        )
    except ValueError as error:
        raise wrong("launcher", problem=error) from error
    opt["dist"] = arguments.launcher != "none"
    seed_all(opt)


def together(opt: dict[str, Any]) -> None:
    """Waits for the other processes."""
    if opt["dist"]:
        torch.distributed.barrier()


def build(options: Options) -> Any:
    """Builds the model of the options.

    Raises:
        OptionError: when a network or an argument of it is impossible.
    """
    try:
        return build_model(options.values)
    except OptionError:
        raise
    except (ValueError, TypeError) as error:
        place = options.place(("network_g",))
        raise wrong("network", key="network_g", problem=error, place=place) from error
