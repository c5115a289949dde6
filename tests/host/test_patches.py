"""Every row of the host's table of patches is needed, and fixes what it names."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paragon_archs.host import patches
from paragon_archs.host.table import MODULES, PATCHES
from paragon_archs.utils.registry import load_host

ROWS = [(patch, target) for patch in PATCHES for target in patch.targets]
INSTALLED = [row for row in ROWS if importlib.util.find_spec(row[0].package)]

needs_host = pytest.mark.skipif(not load_host(), reason="BasicSR is not installed")


@needs_host
@pytest.mark.parametrize(
    ("patch", "target"), INSTALLED, ids=[t.partition(":")[2] for _, t in INSTALLED]
)
def test_a_row_is_needed_and_repairs(
    patch: patches.Patch, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe sees the fault in the host's own, and none in what replaces it."""
    patches.install()
    needed = patches.is_needed(patch, target)
    if not needed and torch.cuda.is_available():
        pytest.skip("it fixes what needs a GPU")
    assert needed, "the host needs this row no more"
    owner, name = patches._owner(target)
    monkeypatch.setattr(
        patches, "original_of", lambda _: getattr(owner, name, patches._ABSENT)
    )
    assert not patches.is_needed(patch, target)


GONE = """
import importlib, sys
gone = {target!r}
if gone.startswith("scipy"):
    import scipy.ndimage
top = gone.split(".")[0] if gone.startswith("distutils") else gone
for name in [n for n in sys.modules if n == top or n.startswith(top + ".")]:
    del sys.modules[name]
class Gone:
    @staticmethod
    def find_spec(name, *_):
        if name == top:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Gone)
import torch
if top == "distutils":
    sys.modules.pop("distutils", None); sys.modules.pop("distutils.version", None)
from paragon_archs.host import patches
row = next(p for p in patches.MODULES if p.targets[0] == gone)
assert patches.is_needed(row, gone)
patches.install_modules()
{use}
"""
USES = {
    "torchvision.transforms.functional_tensor": (
        "from torchvision.transforms.functional_tensor import rgb_to_grayscale\n"
        "assert rgb_to_grayscale(torch.ones(3, 2, 2)).shape == (1, 2, 2)"
    ),
    "distutils.version": (
        "from distutils.version import LooseVersion as v\n"
        "assert v('0.9.1') < v('0.13.0') <= v('0.29.2+cpu')"
    ),
    "scipy.ndimage.filters": (
        "from scipy.ndimage.filters import convolve\n"
        "from scipy.ndimage import convolve as own\n"
        "assert convolve is own"
    ),
}


@needs_host
@pytest.mark.parametrize("target", [t for p in MODULES for t in p.targets])
def test_a_module_that_is_gone_has_a_stand_in(target: str, root: Path) -> None:
    code = GONE.format(target=target, use=USES[target])
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=root,
    )
    assert done.returncode == 0, done.stderr


def test_rows_are_sentences_and_name_what_exists() -> None:
    targets = [t for patch in (*MODULES, *PATCHES) for t in patch.targets]
    assert len(set(targets)) == len(targets)
    for patch in (*MODULES, *PATCHES):
        assert re.fullmatch(r"[\w`].*\.", patch.reason)


def test_only_the_table_changes_the_host(root: Path) -> None:
    """Nothing in the pack assigns to an attribute of BasicSR but its one function."""
    names = r"(basicsr|BaseModel|SRModel|degradations|realesr\w+|nn|util)"
    for file in (root / "paragon_archs").rglob("*.py"):
        text = file.read_text()
        if "basicsr" in text:
            assert not re.search(rf"^\s*{names}(\.\w+)+ = ", text, re.M), file
            assert "setattr(" not in text or file.name.endswith(
                ("patches.py", "_gan_model.py")
            ), file
