"""Without BasicSR, or with a broken one, everything but training works."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest

from paragon_archs.utils import registry

HIDE = """
    import importlib.util, sys
    find = importlib.util.find_spec
    hidden = lambda n, p=None: None if n == "basicsr" else find(n, p)
    importlib.util.find_spec = hidden
    sys.modules["basicsr"] = None
"""
USE = """
    import paragon_archs
    from paragon_archs.checkpoint import load_model
    from paragon_archs.utils.registry import ARCH_REGISTRY, HAS_BASICSR
    model = paragon_archs.create("ParagonSR_nano", 2, num_groups=1, num_blocks=1)
    assert load_model(model.state_dict()).scale == 2
    assert "paragonsr_s" in ARCH_REGISTRY and "ParagonSR" in ARCH_REGISTRY
    print("basicsr", HAS_BASICSR)
"""


def run(code, root, *path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(root)])}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_without_basicsr(root):
    done = run(HIDE + USE, root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "basicsr False"
    assert done.stderr == ""


def test_with_a_broken_basicsr(root, tmp_path):
    (tmp_path / "basicsr").mkdir()
    (tmp_path / "basicsr" / "__init__.py").write_text("import a_module_not_there")
    done = run(USE, root, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "basicsr False"
    warnings = [line for line in done.stderr.splitlines() if "BasicSR" in line]
    assert len(warnings) == 1
    assert "a_module_not_there" in warnings[0]


@pytest.fixture
def no_basicsr_yet(monkeypatch):
    """As if BasicSR had not been imported; what was comes back afterwards."""
    for name in [n for n in sys.modules if n.split(".")[0] == "basicsr"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("import a_module_not_there", "a_module_not_there"),
        ("raise AttributeError('np.float went away')", "np.float went away"),
        ("raise OSError('libGL.so.1: cannot open')", "libGL.so.1"),
    ],
)
def test_one_warning_says_what_is_broken(
    fault, named, no_basicsr_yet, tmp_path, monkeypatch, caplog
):
    (tmp_path / "basicsr").mkdir()
    (tmp_path / "basicsr" / "__init__.py").write_text(fault)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert registry.load_host.__wrapped__() is False
    assert len(caplog.records) == 1
    assert named in caplog.records[0].getMessage()


@pytest.mark.skipif(
    importlib.util.find_spec("basicsr") is None,
    reason="BasicSR is not installed (on Python 3.13 it cannot be built)",
)
def test_basicsr_is_usable_and_holds_our_networks():
    assert registry.load_host()
    build = importlib.import_module("basicsr.archs").build_network
    assert build({"type": "paragonsr_nano", "scale": 2}).scale == 2
    assert build({"type": "ParagonSR", "num_feat": 24, "num_groups": 1}).scale == 4


def test_training_without_basicsr_says_so(root):
    code = """
    from paragon_archs.cli import basicsr, train
    sys.exit(basicsr.main(["train", "-opt", "x"]) + train.main(["-opt", "x"]))
"""
    done = run(HIDE + code, root)
    assert done.returncode == 2
    assert done.stderr.count("error: Expected BasicSR to be installed") == 2
    assert "Traceback" not in done.stderr
