"""Reading and probing leave the devices' random number generators alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine_common
import pytest
import torch

from paragon_archs.data.stream import SeededDataset, preserved_rng
from paragon_archs.engine import pipeline
from paragon_archs.engine.convolutions import Way, error, kind_of


class Noise:
    """One image, drawn anew at each reading."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.rand(3)


def read_a_validation_image() -> None:
    images = SeededDataset(Noise(), purpose="validation")
    assert torch.equal(images[0, 1], images[0, 1])
    assert not torch.equal(images[0, 1], images[0, 2])


KIND = kind_of(torch.nn.Conv2d(3, 3, 3))


def probe_a_convolution() -> None:
    way = Way(torch.float32, torch.channels_last)
    error(KIND, way, way, torch.device("cpu"))


WORK = (read_a_validation_image, probe_a_convolution)
SEEDERS = ("cuda.manual_seed_all", "mps.manual_seed", "xpu.manual_seed_all")


@pytest.mark.parametrize("work", WORK, ids=[w.__name__ for w in WORK])
def test_no_device_is_seeded(
    work: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded: list[Any] = []
    for name in SEEDERS:
        module, function = name.split(".")
        monkeypatch.setattr(getattr(torch, module), function, seeded.append)
    state = torch.get_rng_state()
    work()
    assert not seeded
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1"])
def test_a_gpu_s_generator_comes_back_too(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device(name)
    states = {torch.device("cuda"): "a", torch.device("cuda:1"): "b"}
    given = dict(states)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda gpu: states[gpu])
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, gpu: states.update({gpu: state})
    )
    cpu = torch.get_rng_state()
    with preserved_rng(device):
        torch.rand(1)
        if device.type == "cuda":
            states[device] = "drawn from"
    assert states == given
    assert torch.equal(torch.get_rng_state(), cpu)


def test_a_validation_hands_its_device_over(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = []
    monkeypatch.setattr(
        pipeline, "preserved_rng", lambda gpu: devices.append(gpu) or preserved_rng(gpu)
    )
    assert engine_common.train(here) == 0
    assert devices == [torch.device("cpu")]
