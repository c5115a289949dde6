"""The table of the host's keys is what the host's source reads, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from option_scan import demanded, own_keys, read_keys

from paragon_archs.config.host_keys import MODELS, SETS
from paragon_archs.config.signatures import dataset_keys, known_types, model_keys
from paragon_archs.utils.registry import load_host

if not load_host():
    pytest.skip("needs BasicSR", allow_module_level=True)


def of_the_host(what: str) -> dict[str, Any]:
    return {
        base.__name__: base
        for target in known_types(what).values()
        for base in getattr(target, "__mro__", ())
        if base.__module__.startswith("basicsr.")
    }


@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_reads(name: str) -> None:
    found = own_keys(of_the_host("model")[name])
    words = {key if level == "opt" else f"{level}:{key}" for level, key in found}
    assert set(MODELS[name].split()) == words


@pytest.mark.parametrize("name", SETS)
def test_what_a_data_set_reads(name: str) -> None:
    target = of_the_host("data set")[name]
    given = {"opt", "phase", "scale"}  # by the trainer; the first is a parameter's name
    names = {key for level, key in read_keys(target) if level == "opt"} - given
    needed = demanded(target.__init__) & names
    cropped = (demanded(target) & names) - needed
    keys = SETS[name]
    assert set(keys.needed.split()) == needed
    assert set(keys.cropped.split()) == cropped
    assert set(keys.optional.split()) == names - needed - cropped


def test_every_class_of_the_host_stands_in_the_tables() -> None:
    assert set(of_the_host("model")) == set(MODELS)
    assert set(of_the_host("data set")) == set(SETS)


def test_a_class_of_the_user_may_read_anything() -> None:
    own = type("Own", (known_types("model")["SRModel"],), {})
    assert {("opt", "*"), ("train", "*")} < model_keys(own)
    assert ("val", "metrics") in model_keys(own)
    assert "*" in dataset_keys(type("OwnSet", (), {}), True)
