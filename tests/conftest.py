"""What the tests share: variants, small networks, randomised weights, small images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import engine_common
import numpy as np
import pytest
import torch

from paragon_archs.utils.registry import HAS_BASICSR

# What trains needs the host, which cannot be built on Python 3.13.
collect_ignore_glob = (
    []
    if HAS_BASICSR
    else ["engine/*", "data/*", "host/test_[hr]*", "config/test_recipes*"]
)

THREADS = 1  # small tensors; and `-n` runs several of us side by side
torch.set_num_threads(THREADS)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gpu", action="store_true", help="run on this machine's GPU too")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--gpu"):  # here and in what tests start
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        devices = ["cpu"]
        if metafunc.config.getoption("--gpu"):
            devices += ["cuda"] * torch.cuda.is_available()
            devices += ["mps"] * torch.backends.mps.is_available()
        metafunc.parametrize("device", devices, scope="session")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Takes back what a command set for its process: sums depend on it."""
    yield
    torch.set_num_threads(THREADS)


@pytest.fixture(autouse=True)
def _pinned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps Apple's GPU out of a run without `--gpu`; a variable hides NVIDIA's."""
    if not request.config.getoption("--gpu"):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout's top folder."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with three small pairs of images in `data`."""
    monkeypatch.chdir(tmp_path)
    engine_common.write_images(tmp_path / "data")
    return tmp_path


@pytest.fixture(scope="session")
def vgg19_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random VGG19 features in torchvision's layout, in a file."""
    from torchvision.models import vgg

    torch.manual_seed(0)
    state = vgg.make_layers(vgg.cfgs["E"]).half().state_dict()
    file = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save({f"features.{k}": v for k, v in state.items()}, file)
    return file


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
