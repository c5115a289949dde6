"""The pack registers in BasicSR in either import order, and loads nothing before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paragon_archs.utils.registry import load_host

if not load_host():
    pytest.skip("needs BasicSR", allow_module_level=True)

REGISTERED = """
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY, DATASET_REGISTRY
from basicsr.utils.registry import LOSS_REGISTRY, METRIC_REGISTRY
assert "paragonsr_s" in ARCH_REGISTRY and "SwinIR" in ARCH_REGISTRY
assert "ParagonGANModel" in MODEL_REGISTRY and "HRImageDataset" in DATASET_REGISTRY
assert "MSSSIMLoss" in LOSS_REGISTRY and "calculate_iqa" in METRIC_REGISTRY
from paragon_archs.utils import registry
assert "SwinIR" in registry.ARCH_REGISTRY and "SRModel" in registry.MODEL_REGISTRY
"""
# As it once was in torchvision: BasicSR can then be imported by itself.
OLD_TORCHVISION = """
import sys, types
import torchvision.transforms.functional as functional
sys.modules["torchvision.transforms.functional_tensor"] = functional
"""
ORDERS = {
    "pack first, a part of BasicSR": (
        "import paragon_archs\nfrom basicsr.archs import build_network\n"
        "assert build_network({'type': 'paragonsr_nano', 'scale': 2}).scale == 2"
    ),
    "BasicSR first": f"{OLD_TORCHVISION}\nimport basicsr\nimport paragon_archs",
    "networks in between": (
        "import paragon_archs\nnet = paragon_archs.create('ParagonSR_nano', 2)\n"
        "import sys; assert 'basicsr' not in sys.modules\nimport basicsr\n"
        "from basicsr.archs import build_network\n"
        "other = build_network({'type': 'paragonsr_nano', 'scale': 2})\n"
        "assert type(other) is type(net)"
    ),
    "our command": (
        "from paragon_archs.cli import basicsr as command\n"
        "assert command.main(['train', '-opt', 'no.yml']) == 2"
    ),
}


def run(code: str, root: Path, here: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("order", list(ORDERS))
def test_everything_is_registered(order: str, root: Path, tmp_path: Path) -> None:
    done = run(f"{ORDERS[order]}\n{REGISTERED}", root, tmp_path)
    assert done.returncode == 0, done.stderr


# A module of each kind: it imports BasicSR itself, and the models import it.
ROOMS = ("engine.criteria", "host.repairs.model", "optim.schedulers")


@pytest.mark.parametrize("module", ROOMS)
def test_any_room_may_come_first(module: str, root: Path, tmp_path: Path) -> None:
    done = run(f"import paragon_archs.{module}\n{REGISTERED}", root, tmp_path)
    assert done.returncode == 0, done.stderr


LIGHT = {
    "import paragon_archs": ("torch", "basicsr", "numpy", "yaml", "spandrel"),
    "import paragon_archs; paragon_archs.create('paragonsr_nano')": ("basicsr", "cv2"),
    "import paragon_archs.checkpoint": ("basicsr", "cv2", "scipy"),
}


@pytest.mark.parametrize("code", list(LIGHT))
def test_start_up_loads_only_what_it_needs(
    code: str, root: Path, tmp_path: Path
) -> None:
    done = run(f"{code}\nimport sys\nprint(*sys.modules)", root, tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & set(LIGHT[code])


def test_the_lazy_names_are_the_public_ones() -> None:
    import paragon_archs

    assert set(paragon_archs.__all__) <= set(dir(paragon_archs))
    assert "paragonsr_s" in paragon_archs.variants()
    with pytest.raises(AttributeError, match="no_such_name"):
        paragon_archs.no_such_name  # noqa: B018
