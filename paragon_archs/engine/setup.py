"""What training and test runs begin with: processes, seed, model."""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import torch
from basicsr.data import build_dataset
from basicsr.models import build_model

from ..config.data_check import IMPOSSIBLE
from ..config.errors import OptionError, SectionError, TrainingError, wrong
from ..config.loading import Options
from ..data.stream import sort_paths
from ..utils.budget import CreationBudget
from ..utils.processes import init_processes
from ..utils.weight_header import MAX_TENSORS
from .folders import seed_all

MAX_NUMBERS = 1 << 28  # of a model: 1 GB
MAX_CREATED = MAX_TENSORS // 2  # its weight files can be read with as many


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


def build_set(section: dict[str, Any]) -> Any:
    """Builds one data set, its files in an order that no file system decides.

    Raises:
        OptionError: when its files are not what its section says.
    """
    try:
        dataset = build_dataset(section)
    except OptionError:
        raise
    except (OSError, *IMPOSSIBLE) as error:
        # The host's messages name neither the set nor what to do.
        raise wrong("data_set", name=section["name"], problem=error) from error
    sort_paths(dataset)
    if len(dataset) == 0:
        raise wrong("data_set", name=section["name"], problem="it holds no images")
    return dataset


def build(options: Options) -> Any:
    """Builds the model of the options.

    Raises:
        OptionError: when a network, a loss, an optimizer, a schedule or an argument of
            one is impossible.
    """
    try:
        with CreationBudget(MAX_NUMBERS, MAX_CREATED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers without channels; they fail
            return build_model(options.values)
    except (OptionError, TrainingError, torch.OutOfMemoryError):
        raise
    except SectionError as error:
        place = options.place((error.section,))
        raise wrong("network", key=error.section, problem=error, place=place) from error
    except (FileNotFoundError, *IMPOSSIBLE) as error:
        raise wrong("model", problem=error, place=options.file) from error
