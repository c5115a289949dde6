"""A1111, Forge and InvokeAI in stand-ins: how they import add-ons and open models."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from common import error_of, image

from paragon_archs.archs import create
from paragon_archs.checkpoint import save_model
from paragon_archs.cli.__main__ import main
from paragon_archs.weights import available

# Their loader of models, with the extra architectures that it adds.
SPANDREL = """
def load_spandrel_model(path):
    import spandrel, spandrel_extra_arches

    spandrel.MAIN_REGISTRY.add(*spandrel_extra_arches.EXTRA_REGISTRY)
    return spandrel.ModelLoader(device="cpu").load_from_file(str(path))
"""

WEBUI = """
import importlib.util, json, os, sys, types
import numpy as np
import torch
from PIL import Image

root, host = sys.argv[1:]
if host == "a1111":  # its torch does not have this
    del torch.compiler.is_compiling
modules = types.ModuleType("modules")
state = types.SimpleNamespace(interrupted=False)


class Upscaler:
    def __init__(self, create_dirs=False):
        self.model_path = os.path.join(root, "models", self.name)

    def find_models(self, ext_filter=None):
        found = [os.path.join(self.model_path, f) for f in os.listdir(self.model_path)]
        return [f for f in found if os.path.splitext(f)[1] in ext_filter]


class UpscalerData:
    def __init__(self, name, path, upscaler=None, scale=4, model=None):
        self.name, self.data_path, self.scaler = name, path, upscaler


def stand_in(name, **values):
    module = sys.modules[f"modules.{name}"] = types.ModuleType(f"modules.{name}")
    vars(module).update(values)
    setattr(modules, name, module)


sys.modules["modules"] = modules
stand_in("shared", state=state)
stand_in("devices", get_device_for=lambda task: torch.device("cpu"))
stand_in("upscaler", Upscaler=Upscaler, UpscalerData=UpscalerData)
friendly = lambda file: os.path.splitext(os.path.basename(file))[0]
stand_in("modelloader", friendly_name=friendly)

# As scripts.load_scripts does it: the extension's folder comes first meanwhile.
extension = f"{root}/extensions/paragon_archs"
before = sys.path
for file in sorted(os.listdir(f"{extension}/scripts")):
    sys.path = [extension, *before]
    path = f"{extension}/scripts/{file}"
    spec = importlib.util.spec_from_file_location(file, path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
sys.path = before

descriptor = load_spandrel_model(f"{root}/models/ESRGAN/small.safetensors")
(kind,) = Upscaler.__subclasses__()
(data,) = kind(None).scalers
torch.manual_seed(0)
pixels = (torch.rand(40, 32, 3) * 255).byte().numpy()
picture = Image.fromarray(pixels)
upscaled = np.asarray(data.scaler.do_upscale(picture, data.data_path)).astype(int)
x = torch.from_numpy(pixels / 255).float().permute(2, 0, 1)[None]
want = descriptor(x)[0].permute(1, 2, 0).mul(255).round().numpy().astype(int)
inside = np.s_[24:-24, 24:-24]  # the upscaler continues the picture over its border
error = int(abs(upscaled[inside] - want[inside]).max())
state.interrupted = True
stopped = data.scaler.do_upscale(picture, data.data_path) is picture
state.interrupted = False
open(f"{root}/models/Paragon/broken.pth", "w").write("no")
broken = data.scaler.do_upscale(picture, f"{root}/models/Paragon/broken.pth")
print(json.dumps([descriptor.architecture.id, data.name, upscaled.shape, error,
                  stopped, broken is picture]))
"""

INVOKEAI = """
import json, sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
import torch

root = Path(sys.argv[1])
# As load_custom_nodes does it: the folder's name is the module's.
for folder in (root / "nodes").iterdir():
    spec = spec_from_file_location(folder.stem, (folder / "__init__.py").absolute())
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)

# As SpandrelImageToImageModel does it, for the model manager's probe as well.
from spandrel import ImageModelDescriptor, ModelLoader

model = ModelLoader().load_from_file(root / "models/ESRGAN/small.safetensors")
assert isinstance(model, ImageModelDescriptor)
assert next(model.model.parameters()).dtype == model.dtype == torch.float32
y = model(torch.rand(1, 3, 24, 20))
print(json.dumps([model.architecture.id, list(y.shape), model.scale]))
"""


def run(script, root, *arguments):
    file = root / "host.py"
    file.write_text(script)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", file, root, *arguments],
        env={**clean, "OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def root(tmp_path):
    """A host's folder with a small model where stock upscalers look for them."""
    model = create("paragonsr2_realtime", 2)
    model(image(1, 3, 4, 4))
    for name in ("ESRGAN", "Paragon"):
        (tmp_path / "models" / name).mkdir(parents=True)
        save_model(model, tmp_path / "models" / name / "small.safetensors")
    return tmp_path


@pytest.mark.parametrize("name", ["a1111", "forge"])
def test_a_web_ui_opens_our_files_and_has_an_upscaler_of_ours(name, root):
    (root / "extensions").mkdir()
    assert main(["integrate", name, str(root)]) == 0
    known, title, shape, error, stopped, kept = run(SPANDREL + WEBUI, root, name)
    assert (known, title) == ("ParagonSR2", "small")
    assert shape == [80, 64, 3]
    assert error <= 1
    assert stopped
    assert kept


def test_invokeai_opens_our_files(root):
    (root / "nodes").mkdir()
    assert main(["integrate", "invokeai", str(root)]) == 0
    assert run(INVOKEAI, root) == ["ParagonSR2", [1, 3, 48, 40], 2]


@pytest.mark.parametrize("name", ["a1111", "forge"])
def test_shipped_models_go_where_the_upscaler_looks(name, tmp_path):
    (tmp_path / "extensions").mkdir()
    assert main(["integrate", name, str(tmp_path), "--weights"]) == 0
    found = {file.name for file in (tmp_path / "models/Paragon").iterdir()}
    assert found == {file.name for file in available().values()}
    assert main(["integrate", name, str(tmp_path), "--weights", "--remove"]) == 0
    assert not any((tmp_path / "extensions").iterdir())


def test_invokeai_has_no_folder_of_models(tmp_path, capsys):
    (tmp_path / "nodes").mkdir()
    sentence = error_of(capsys, ["integrate", "invokeai", tmp_path, "--weights"])
    assert "paragon models --copy" in sentence
