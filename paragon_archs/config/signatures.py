"""What a `type` names, and which keys its section may hold."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from ..utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    Registry,
    load_host,
)
from .host_keys import MODELS, SETS
from .key import REQUIRED, Key

HOST_SUFFIX = "_basicsr"  # the host registers some of its names with it

REGISTRIES: dict[str, Registry] = {
    "network": ARCH_REGISTRY,
    "data set": DATASET_REGISTRY,
    "loss": LOSS_REGISTRY,
    "metric": METRIC_REGISTRY,
    "model": MODEL_REGISTRY,
}


def known_types(what: str) -> dict[str, Callable[..., object]]:
    """Returns every name that `type` may take, and what it names.

    Args:
        what: network, data set, loss, metric, model, optimizer or scheduler.
    """
    if what == "optimizer":
        from ..optim.optimizers import OPTIMIZERS  # noqa: PLC0415 (imports torch's)

        return dict(OPTIMIZERS)
    if what == "scheduler":
        from ..optim.schedulers import SCHEDULERS  # noqa: PLC0415 (imports the host)

        return dict(SCHEDULERS)
    load_host()  # it registers its own, and the pack's
    return {
        name.removesuffix(HOST_SUFFIX): obj
        for name, obj in REGISTRIES[what]
        if not (what == "metric" and name.endswith("_pt"))  # of tensors, not images
    }


# What the trainer itself passes, so that no option file may.
_PASSED = {
    # The trainer's step is no part of a graph.
    "optimizer": ("params", "differentiable"),
    "scheduler": ("optimizer", "last_epoch", "verbose", "iterations_per_epoch"),
    "metric": ("img", "img2", "data"),
}

# What the trainer knows, so that an option file need not say it.
KNOWN_TO_TRAINER = ("T_max", "total_steps", "total_iters")


def parameters(
    what: str, target: Callable[..., object]
) -> dict[str, inspect.Parameter]:
    """Returns the arguments that an option file may give to `target`."""
    passed = _PASSED.get(what, ())
    found: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            # A variant's function hands its overrides on to the class it returns.
            found |= _network_class_parameters(target)
        elif parameter.kind is not parameter.VAR_POSITIONAL and name not in passed:
            found[name] = parameter
    return found


def _network_class_parameters(
    target: Callable[..., object],
) -> dict[str, inspect.Parameter]:
    """Arguments of the class that a variant's function is annotated to return."""
    annotation = inspect.signature(target).return_annotation
    if isinstance(annotation, str):
        annotation = getattr(target, "__globals__", {}).get(annotation)
    if not inspect.isclass(annotation):
        return {}
    return parameters("network", annotation)


# Sections that a model class reads beside the options on top.
FREE = ("path", "train", "val", "network_g", "network_d")

# What the host's data sets expect of a value; of other keys their code alone knows.
_HOST_KINDS = {
    "dataroot_gt": "str",
    "dataroot_lq": "str",
    "filename_tmpl": "template",
    "io_backend": "map",
    "gt_size": "int",
    "use_hflip": "bool",
    "use_rot": "bool",
}


def dataset_keys(target: type, training: bool) -> dict[str, Key]:
    """Returns the keys of a data set's section.

    A class of ours lists its keys in `KEYS`; the host's classes stand in a table.
    Another class takes one dict of options and may read anything.
    """
    keys: dict[str, Key] = {}
    for base in reversed(target.__mro__):
        keys |= vars(base).get("KEYS", {})
    if keys:
        return keys
    known = SETS.get(target.__name__)
    if known is None:
        return {"*": Key("any", None, "")}
    needed, cropped = known.needed.split(), known.cropped.split()
    for name in sorted({*needed, *cropped, *known.optional.split()}):
        # The samples of training alone are cropped and turned.
        required = name in needed or (training and name in cropped)
        keys[name] = Key(
            _HOST_KINDS.get(name, "any"),
            REQUIRED if required and not name.startswith("meta_info") else None,
            "",
            low=1 if name == "gt_size" else None,
            high=2**15 if name == "gt_size" else None,
            example=f"{target.__name__} reads it",
        )
    return keys


def model_keys(target: type) -> set[tuple[str, str]]:
    """Returns what a host's model class reads: (section or `opt`, key).

    The key is `*` in every section for a class that is not the host's own.
    """
    found: set[tuple[str, str]] = set()
    for base in target.__mro__:
        if base is object:
            continue
        if base.__name__ not in MODELS:
            found |= {(section, "*") for section in ("opt", *FREE)}
            continue
        for entry in MODELS[base.__name__].split():
            section, _, key = entry.rpartition(":")
            found.add((section or "opt", key))
    return found


# Arguments whose value neither annotation nor default shows.
_ARGUMENTS: dict[str, Key] = {
    "crop_border": Key("int", None, "", low=0, high=2**15),
    "input_order": Key("str", None, "", choices=("HWC", "CHW")),
    "milestones": Key("list", None, "", low=0),
}
_LARGEST_PART = 2**16  # channels, blocks or kernels of a network


def argument_key(what: str, parameter: inspect.Parameter) -> Key:
    """Returns what a plain value of this argument must be, as far as that is clear.

    Args:
        what: As for `known_types`.
        parameter: Of the class or function that `type` names.
    """
    if parameter.name in _ARGUMENTS:
        return _ARGUMENTS[parameter.name]
    kind = _literal_kind(parameter) or "any"
    # Sizes: what a network makes of them is looked at when it is built.
    high = _LARGEST_PART if what == "network" and kind in ("int", "float") else None
    return Key(kind, None, "", high=high)


def _literal_kind(parameter: inspect.Parameter) -> str | None:
    default = parameter.default
    annotation = str(parameter.annotation)
    if isinstance(default, tuple):
        return "list"  # a string would pass for one, character by character
    if isinstance(default, bool):
        return "bool"
    if isinstance(default, (int, float)):
        return "float|list" if "Tuple" in annotation else "float"
    if annotation in ("int", "<class 'int'>"):
        return "int"
    if annotation in ("float", "<class 'float'>"):
        return "float"
    return None


# Path of a section with a `type` -> what that names.
SECTIONS: dict[str, str] = {
    "network_*": "network",
    "datasets:*": "data set",
    "train:optim_*": "optimizer",
    "train:scheduler": "scheduler",
    "train:*_opt": "loss",
    "train:losses:*": "loss",
    "stages:*:losses:*": "loss",
    "stages:*:scheduler": "scheduler",
    "val:metrics:*": "metric",
}
