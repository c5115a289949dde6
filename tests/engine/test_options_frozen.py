"""Options are frozen once they are checked, and a run leaves them as they were."""

from __future__ import annotations

import ast
import copy
import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine_common as common
import pytest
import torch
from basicsr.models.base_model import BaseModel

from paragon_archs.cli.session import arguments_of, prepare
from paragon_archs.config.frozen import Frozen, freeze
from paragon_archs.engine.context import RunContext, run_context
from paragon_archs.engine.pipeline import Run
from paragon_archs.host import patches

WRITES: dict[str, Callable[[Any], Any]] = {
    "item": lambda d: d.__setitem__("a", 1),
    "deletion": lambda d: d.__delitem__("a"),
    "pop": lambda d: d.pop("a"),
    "popitem": lambda d: d.popitem(),
    "clear": lambda d: d.clear(),
    "update": lambda d: d.update(a=1),
    "setdefault": lambda d: d.setdefault("b", 1),
    "merge in place": lambda d: d.__ior__({"a": 1}),
}


@pytest.mark.parametrize("write", list(WRITES))
@pytest.mark.parametrize("place", ["top", "section", "list"])
def test_nothing_can_be_written(write: str, place: str) -> None:
    options = freeze({"a": 0, "section": {"a": 0}, "list": [{"a": 0}]})
    target = {"top": options, "section": options["section"], "list": options["list"][0]}
    with pytest.raises(TypeError, match="options to stay as they were checked"):
        WRITES[write](target[place])
    assert options == {"a": 0, "section": {"a": 0}, "list": [{"a": 0}]}


def test_a_copy_can_be_written_and_workers_get_frozen_ones() -> None:
    options = freeze({"section": {"a": [1]}})
    own = copy.deepcopy(options)
    own["section"]["a"].append(2)
    assert type(own) is type(own["section"]) is dict
    assert options == {"section": {"a": [1]}}
    assert isinstance(pickle.loads(pickle.dumps(options))["section"], Frozen)


def context_of(here: Path, changes: dict[str, Any]) -> Any:
    common.write_options(here / "o.yml", changes)
    arguments = arguments_of("train", ["-opt", "o.yml"])
    patches.install()
    return run_context(arguments, prepare(arguments, True, here))


HOST = {"model_type": "SRModel", "train:losses": ...}
HOST |= {"train:pixel_opt": {"type": "L1Loss"}, "train:total_iter": 2}
STAGED = {
    "model_type": "ParagonStagedModel",
    "train:total_iter": ...,
    "stages": [
        {"name": "one", "iterations": 1, "lr": 1e-3},
        {"name": "two", "iterations": 1, "lr": 1e-4},
    ],
}
GAN = {
    "model_type": "ParagonGANModel",
    "network_d": {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4},
    "train:optim_d": {"type": "Adam", "lr": 1e-4},
    "train:gan_opt": {"type": "GANLoss", "gan_type": "vanilla"},
    "train:total_iter": 2,
}


@pytest.mark.parametrize(
    "changes",
    [{"train:total_iter": 2}, GAN, STAGED, HOST],
    ids=["ours", "gan", "staged", "host"],
)
def test_a_run_leaves_its_options_as_they_were(
    changes: dict[str, Any], here: Path
) -> None:
    with context_of(here, changes) as context:
        assert isinstance(context, RunContext)
        before = copy.deepcopy(context.options.values)
        run = Run(context)
        own = copy.deepcopy(run.opt)
        assert run.train() == 0
        run.close()
        assert context.options.values == before
        assert run.opt == own
        ours = run.opt is run.model.opt
        assert isinstance(run.opt, Frozen) and ours is (changes is not HOST)
        assert isinstance(run.model, BaseModel)
        assert run.total_iter == 2 == run.opt["train"]["total_iter"]


def test_a_context_is_what_the_machine_and_the_file_say(here: Path) -> None:
    with context_of(here, {"manual_seed": 5}) as context:
        assert (context.rank, context.world_size, context.distributed) == (0, 1, False)
        assert (context.first, context.seed) == (True, 5)
        assert context.device == torch.device("cpu")
        assert context.folders.states == here / "experiments/run/training_states"
        opt = context.host_options(path={"param_key_g": "params"}, more=1)
        assert opt["path"]["models"] == str(context.folders.models)
        assert opt["path"]["param_key_g"] == "params" and opt["more"] == 1
        with pytest.raises(dataclasses.FrozenInstanceError):
            context.rank = 1  # type: ignore[misc]
    assert not (here / "experiments").exists()


WRITERS = ("pop", "popitem", "setdefault", "update", "clear")


def writes(tree: ast.AST) -> list[int]:
    """Returns the lines that write into something called opt, `train_opt`, ..."""
    lines = []
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        elif isinstance(node, ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in WRITERS:
                targets = [
                    ast.Subscript(node.func.value, ast.Constant(""), ast.Store())
                ]
        for target in targets:
            if isinstance(target, ast.Subscript) and is_options(target.value):
                lines.append(getattr(node, "lineno", 0))
    return lines


def is_options(node: ast.expr) -> bool:
    while isinstance(node, ast.Subscript):
        node = node.value
    name = getattr(node, "attr", None) or getattr(node, "id", "")
    return name == "opt" or name.endswith("_opt")


@pytest.mark.parametrize(
    "room", ["engine", "models", "host", "data", "losses", "optim"]
)
def test_no_code_writes_into_options(room: str, root: Path) -> None:
    found = {
        file.name: lines
        for file in (root / "paragon_archs" / room).rglob("*.py")
        if (lines := writes(ast.parse(file.read_text())))
    }
    assert not found
    assert writes(ast.parse("self.opt['a']['b'] = 1\ntrain_opt.pop('x')")) == [1, 2]
