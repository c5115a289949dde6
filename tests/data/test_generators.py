"""Reading and probing leave the devices' random number generators alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from paragon_archs.data.stream import SeededDataset
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
