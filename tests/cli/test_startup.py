"""What a command loads, in fresh interpreters: start-up is counted in modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from paragon_archs.cli.__main__ import COMMANDS

HEAVY = ("torch", "spandrel", "numpy", "basicsr", "torchvision", "scipy", "cv2")
SCRIPT = """
import json, sys
from paragon_archs.cli.__main__ import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print(json.dumps([code, sorted(sys.modules)]))
"""


def loaded(*arguments, script=SCRIPT):
    """Runs a command in an interpreter of its own; returns what it has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PARAGON_DEBUG": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code in (0, None), done.stderr
    return set(modules)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["models"]] + [[c, "--help"] for c in COMMANDS],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments):
    assert not loaded(*arguments) & set(HEAVY)


def test_upscaling_loads_torch_and_spandrel_and_no_more(tmp_path):
    Image.new("RGB", (16, 12), "gray").save(tmp_path / "a.png")
    modules = loaded("upscale", str(tmp_path / "a.png"), "--device", "cpu", "-q")
    assert (tmp_path / "a_x4.png").is_file()
    assert {"torch", "spandrel"} <= modules
    extra = {"basicsr", "torchvision", "scipy", "pyiqa", "matplotlib", "torch._dynamo"}
    assert not modules & extra


def test_what_spandrel_takes_of_torchvision_comes_when_it_is_called():
    pytest.importorskip("torchvision")
    script = """
import json, sys
import torch
from paragon_archs.cli.startup import load_spandrel
load_spandrel()
assert "torchvision" not in sys.modules
from spandrel.architectures.LaMa.__arch import LaMa
from spandrel.architectures.RestoreFormer import tv_normalize
x = torch.rand(1, 3, 8, 8)
turned = LaMa.rotate(x, 90.0, LaMa.InterpolationMode.BILINEAR, fill=0)
normalized = tv_normalize(x, [0.5] * 3, [0.5] * 3)
from torchvision.transforms import functional
assert torch.equal(turned, functional.rotate(x, 90.0, fill=0))
assert torch.equal(normalized, (x - 0.5) / 0.5)
import torchvision
print(json.dumps([0, sorted(sys.modules)]))
"""
    assert "torchvision.ops" in loaded(script=script)


@pytest.mark.parametrize("missing", ["torchvision.ops", "used at once"])
def test_another_spandrel_gets_the_real_torchvision(missing, tmp_path):
    pytest.importorskip("torchvision")
    wanted = {
        "torchvision.ops": "from torchvision.ops import nms",
        "used at once": "from torchvision.transforms.functional import rotate\n"
        "rotate.__doc__\nrotate.__wrapped__ if False else rotate.__class__\n"
        "rotate(__import__('torch').zeros(1, 3, 4, 4), 90.0)",
    }[missing]
    (tmp_path / "spandrel").mkdir()
    (tmp_path / "spandrel" / "__init__.py").write_text(wanted)
    script = f"""
import json, sys
sys.path.insert(0, {str(tmp_path)!r})
from paragon_archs.cli.startup import load_spandrel
load_spandrel()
assert sys.modules["spandrel"].__file__.startswith({str(tmp_path)!r})
print(json.dumps([0, sorted(sys.modules)]))
"""
    assert "torchvision.ops" in loaded(script=script)
