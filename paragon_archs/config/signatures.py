"""What a `type` names, and which keys its section may hold."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

from ..utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)
from .keys import REQUIRED, Key

HOST_SUFFIX = "_basicsr"  # the host registers some of its names with it

REGISTRIES: dict[str, Any] = {
    "network": ARCH_REGISTRY,
    "data set": DATASET_REGISTRY,
    "loss": LOSS_REGISTRY,
    "metric": METRIC_REGISTRY,
    "model": MODEL_REGISTRY,
}


def known_types(what: str) -> dict[str, Callable[..., Any]]:
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
    return {
        name.removesuffix(HOST_SUFFIX): obj
        for name, obj in REGISTRIES[what]
        if not (what == "metric" and name.endswith("_pt"))  # of tensors, not images
    }


# What the trainer itself passes, so that no option file may.
_PASSED = {
    "optimizer": ("params",),
    "scheduler": ("optimizer", "last_epoch", "verbose", "iterations_per_epoch"),
    "metric": ("img", "img2", "data"),
}

# What the trainer knows, so that an option file need not say it.
KNOWN_TO_TRAINER = ("T_max", "total_steps", "total_iters")


def parameters(what: str, target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
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


def _network_class_parameters(target: Any) -> dict[str, inspect.Parameter]:
    """Arguments of the class that a variant's function is annotated to return."""
    annotation = inspect.signature(target).return_annotation
    if isinstance(annotation, str):
        annotation = getattr(target, "__globals__", {}).get(annotation)
    if not inspect.isclass(annotation):
        return {}
    return parameters("network", annotation)


# What the host's data sets expect of a value; of other keys their code alone knows.
_HOST_KINDS = {
    "dataroot_gt": "str",
    "dataroot_lq": "str",
    "io_backend": "map",
    "gt_size": "int",
    "use_hflip": "bool",
    "use_rot": "bool",
}


def dataset_keys(target: type, training: bool) -> dict[str, Key]:
    """Returns the keys of a data set's section: its `KEYS`, else what it reads.

    A class of ours says what it knows in `KEYS`. The host's classes take one dict of
    options: what they read of it, and what they fail without, is found in their source.
    """
    keys: dict[str, Key] = {}
    for base in reversed(target.__mro__):
        keys |= vars(base).get("KEYS", {})
    if not keys:
        names = {name for level, name in _read_keys(target) if level in ("opt", "")}
        # The samples of training alone are cropped and turned.
        demanded = _demanded(target if training else target.__init__)
        for name in sorted(names):
            needed = name in demanded and not name.startswith("meta_info")
            keys[name] = Key(
                _HOST_KINDS.get(name, "any"),
                REQUIRED if needed else None,
                "",
                low=1 if name == "gt_size" else None,
                example=f"{target.__name__} reads it",
            )
    return keys


def _demanded(code: Any) -> set[str]:
    """Keys that a data set reads as `opt['key']` and never asks for beforehand."""
    read, asked = set(), set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(code)))):
        names = {name for level, name in _entries(node) if level == "opt"}
        (read if isinstance(node, ast.Subscript) else asked).update(names)
    return read - asked


def model_keys(target: type) -> set[tuple[str, str]]:
    """Returns what a host's model class reads: (section or `opt`, key)."""
    return _read_keys(target)


@functools.cache
def _read_keys(target: type) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for base in target.__mro__:
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):
            continue  # built in, as `object` is
        found |= {
            entry for node in ast.walk(ast.parse(source)) for entry in _entries(node)
        }
        # The host documents some keys that its code no longer reads.
        documented = re.findall(
            r"^\s*(\w+) \((?:str|int|float|bool|list|dict|tuple)",
            base.__doc__ or "",
            re.M,
        )
        found |= {("opt", name) for name in documented}
    return found


def _entries(node: ast.AST) -> list[tuple[str, str]]:
    """Keys that one expression reads: `opt['a']`, `opt.get('a')`, `'a' in opt`."""
    if isinstance(node, ast.Subscript):
        owner, key = node.value, node.slice
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("get", "pop")
        and node.args
    ):
        owner, key = node.func.value, node.args[0]
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
        owner, key = node.comparators[0], node.left
    else:
        return []
    level = _level(owner)
    if level is None or not isinstance(key, ast.Constant):
        return []
    return [(level, key.value)] if isinstance(key.value, str) else []


def _level(owner: ast.expr) -> str | None:
    """`opt`, `self.opt` -> opt; `train_opt`, `self.opt['train']` -> train."""
    if isinstance(owner, ast.Subscript) and isinstance(owner.slice, ast.Constant):
        inner = _level(owner.value)
        return str(owner.slice.value) if inner == "opt" else None
    name = getattr(owner, "attr", None) or getattr(owner, "id", None)
    if name is None or not name.endswith("opt"):
        return None
    return name.removesuffix("_opt") if name != "opt" else "opt"


def literal_kind(parameter: inspect.Parameter) -> str | None:
    """Returns what a plain value of this argument must be, where that is clear."""
    default = parameter.default
    annotation = str(parameter.annotation)
    if isinstance(default, tuple) or parameter.name == "milestones":
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
