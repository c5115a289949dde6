"""Detection is exclusive: ours and spandrel's networks, both ways, built for real."""

from __future__ import annotations

import importlib
import inspect
import warnings
from typing import Any

import pytest
import torch
from common import SMALL_VARIANTS, older_names
from spandrel import MAIN_REGISTRY
from torch import nn

from paragon_archs.archs import create
from paragon_archs.loaders import PARAGON_REGISTRY

EXTRA = pytest.importorskip("spandrel_extra_arches").EXTRA_REGISTRY
OURS = {support.architecture.id for support in PARAGON_REGISTRY}
THEIRS = {
    support.architecture.id: support
    for support in (*MAIN_REGISTRY, *EXTRA)
    if support.architecture.id not in OURS  # another test may have installed them
}

# Where the defaults of a network's constructor do not build it, or build a giant.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "AuraSR": {
        "dim": 8,
        "image_size": 64,
        "input_image_size": 16,
        "style_network": {"dim_in": 8, "depth": 1},
    },
    "DDColor": {"encoder_name": "convnext-t"},
    "IPT": {"n_feats": 16},
    "MMRealSR": {"num_in_ch": 3, "num_out_ch": 3},
    "NAFNet": {"middle_blk_num": 1, "enc_blk_nums": [1], "dec_blk_nums": [1]},
    "SAFMN": {"dim": 36},
    "SAFMNBCIE": {"dim": 36},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3},
    "SRFormer": {"window_size": 8},
    "Swin2SR": {"window_size": 8},
    "SwinIR": {"window_size": 8},
}


def build(network, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):  # no memory, no time; detection reads names
                return network(**arguments)
        except (RuntimeError, NotImplementedError):
            return network(**arguments)  # computes with its own values


def state_dicts(architecture):
    """Yields state dicts of an architecture's networks that it detects as its own."""
    module = importlib.import_module(type(architecture).__module__)
    for network in vars(module).values():
        if (
            inspect.isclass(network)
            and issubclass(network, nn.Module)
            and network.__module__.startswith(module.__name__)
        ):
            try:
                state = dict(
                    build(network, ARGUMENTS.get(architecture.id, {})).state_dict()
                )
            except TypeError:
                continue  # a part of the network, with arguments of its own
            if architecture.detect(state):
                yield state


@pytest.mark.parametrize("theirs", THEIRS)
def test_nothing_of_spandrel_s_is_stolen(theirs):
    count = 0
    for state in state_dicts(THEIRS[theirs].architecture):
        count += 1
        stolen = [s.architecture.id for s in PARAGON_REGISTRY if s.detect(state)]
        assert not stolen
    assert count, "no network of it was built: the check would be empty"


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize(
    "name", [*SMALL_VARIANTS, "older", "export_safe", "mks2021", "fused"]
)
def test_ours_are_detected_as_themselves_and_by_nobody_else(name, scale):
    from paragon_archs.fuse import fuse_model

    variant, overrides = {
        "older": ("paragonsr2_realtime", {}),
        "export_safe": ("paragonsr2_photo", {"export_safe": True}),
        "mks2021": ("paragonsr2_stream", {"base_kernel": "mks2021"}),
        "fused": ("paragonsr_nano", {}),
    }.get(name, (name, SMALL_VARIANTS.get(name, {})))
    model = create(variant, scale, **overrides)
    state = dict((fuse_model(model) if name == "fused" else model).state_dict())
    if name == "older":
        state = older_names(state)
    found = [s.architecture.id for s in PARAGON_REGISTRY if s.detect(state)]
    assert found == [type(model).__name__]
    assert not [i for i, support in THEIRS.items() if support.detect(state)]
