"""What training and test runs build: data sets and the model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.data import build_dataset
from basicsr.models import build_model

from ..config.check import has_base
from ..config.data_check import IMPOSSIBLE
from ..config.errors import OptionError, SectionError, TrainingError, wrong
from ..config.frozen import Frozen, RunOptions
from ..data.stream import sort_paths
from ..utils.budget import CreationBudget
from ..utils.registry import MODEL_REGISTRY
from ..utils.weight_header import MAX_TENSORS

MAX_NUMBERS = 1 << 28  # of a model: 1 GB
MAX_CREATED = MAX_TENSORS // 2  # its weight files can be read with as many


def build_set(section: Mapping[str, object]) -> Any:
    """Builds one data set, its files in an order that no file system decides.

    Raises:
        OptionError: when its files do not fit its section.
    """
    try:
        dataset = build_dataset(section)  # it works on a copy
    except OptionError:
        raise
    except (OSError, *IMPOSSIBLE) as error:
        # The host's messages name neither the set nor what to do.
        raise wrong("data_set", name=section["name"], problem=error) from error
    sort_paths(dataset)
    if len(dataset) == 0:
        raise wrong("data_set", name=section["name"], problem="it holds no images")
    return dataset


def build(options: RunOptions, opt: Frozen) -> Any:
    """Builds the model.

    Args:
        options: For places of keys in messages.
        opt: What the model's class gets. The host's takes its options apart, and gets
            a copy.

    Raises:
        OptionError: when a network, a loss, an optimizer, a schedule or an argument of
            one is impossible.
    """
    kind = MODEL_REGISTRY.get(options.model_type)
    try:
        with CreationBudget(MAX_NUMBERS, MAX_CREATED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers without channels; they fail
            return kind(opt) if has_base(kind, "ParagonModel") else build_model(opt)
    except (OptionError, TrainingError, torch.OutOfMemoryError):
        raise
    except SectionError as error:
        place = options.place((error.section,))
        raise wrong("network", key=error.section, problem=error, place=place) from error
    except (FileNotFoundError, *IMPOSSIBLE) as error:
        raise wrong("model", problem=error, place=options.file) from error
