"""One arch file copied into another host works there, as it is.

The stand-in host holds the contracts of the real ones: every `archs/*_arch.py` is
imported with the package, names are lower-cased, builders are called with `scale`
and the option file's keys, checkpoints are bare state dicts and loading is strict.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from common import SMALL_VARIANTS, image, randomise
from safetensors.torch import load_file, save_file

import paragon_archs
from paragon_archs.archs import create
from paragon_archs.checkpoint import load_model, save_model

ARCH_FILES = sorted(
    (Path(paragon_archs.__file__).parent / "archs").glob("*_arch.py"),
)
REGISTRY = """
class Registry:
    def __init__(self):
        self.found = {}

    def register(self, obj=None):
        if obj is None:
            return self.register
        name = obj.__name__.lower()
        assert name not in self.found, f"'{name}' was already registered"
        self.found[name] = obj
        return obj

ARCH_REGISTRY = Registry()
"""
SCAN = """
import importlib, pathlib
from ..utils.registry import ARCH_REGISTRY

for file in sorted(pathlib.Path(__file__).parent.glob("*_arch.py")):
    importlib.import_module(f"{__package__}.{file.stem}")

def build_network(scale, type, **options):
    return ARCH_REGISTRY.found[type.lower()](scale=scale, **options)
"""


def host_with(files, folder, name):
    root = folder / name
    for room in ("utils", "archs"):
        (root / room).mkdir(parents=True)
        (root / room / "__init__.py").touch()
    (root / "__init__.py").touch()
    (root / "utils" / "registry.py").write_text(textwrap.dedent(REGISTRY))
    (root / "archs" / "__init__.py").write_text(textwrap.dedent(SCAN))
    for file in files:
        shutil.copy(file, root / "archs")
    return importlib.import_module(f"{name}.archs")


@pytest.fixture
def host(tmp_path, monkeypatch, request):
    name = f"stand_in_{abs(hash(request.node.nodeid))}"
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda files: host_with(files, tmp_path, name)
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[module]


@pytest.mark.parametrize("file", ARCH_FILES, ids=lambda f: f.stem)
def test_each_file_alone(file, host):
    archs = host([file])
    assert archs.ARCH_REGISTRY.found
    assert all(
        "paragon_archs" not in getattr(obj, "__module__", "")
        for obj in archs.ARCH_REGISTRY.found.values()
    )


def test_all_files_together_and_checkpoints_both_ways(host, tmp_path):
    archs = host(ARCH_FILES)
    for name, options in SMALL_VARIANTS.items():
        ours = randomise(create(name, 2, **options))
        theirs = archs.build_network(2, type=name.title(), **options)
        assert type(theirs) is not type(ours)
        save_model(ours, tmp_path / "ours.safetensors")
        theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"), strict=True)
        x = image(1, 3, 5, 6)
        with torch.no_grad():
            torch.testing.assert_close(theirs(x), ours(x), rtol=0, atol=0)
            save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
            back = load_model(tmp_path / "theirs.safetensors").model
            torch.testing.assert_close(back(x), ours(x), rtol=0, atol=0)


def test_every_variant_is_found_by_its_lower_case_name(host):
    archs = host(ARCH_FILES)
    assert set(paragon_archs.variants()) <= set(archs.ARCH_REGISTRY.found)
    with torch.device("meta"):
        assert archs.build_network(3, type="paragonsr2_photo").scale == 3
    with pytest.raises(TypeError):
        archs.build_network(2, type="facesr", num_feet=1)
