"""ComfyUI in a stand-in: both schemas of a node, its bar, its Cancel, its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from common import error_of, image

import paragon_archs
from paragon_archs.archs import create
from paragon_archs.checkpoint import save_model
from paragon_archs.cli.__main__ import main
from paragon_archs.weights import available

COMFY = """
import asyncio, gc, importlib.util, inspect, json, os, sys, types, weakref
import torch

folder, models, api, rooms = sys.argv[1:]
free, found = [], {}
paths = types.ModuleType("folder_paths")
paths.get_filename_list = lambda kind: ["small.safetensors"]
paths.get_full_path_or_raise = lambda kind, name: f"{models}/{name}"
management = types.ModuleType("comfy.model_management")
management.get_torch_device = lambda: torch.device("cpu")
management.free_memory = lambda needed, device: free.append(needed)
if rooms == "loads":

    def load_models_gpu(patchers, memory_required=0):
        free.append(memory_required)
        assert all(p.model.to(p.load_device) is p.model for p in patchers)

    management.load_models_gpu = load_models_gpu
limit = [None]


class Cancelled(BaseException):
    pass


def stop():
    if limit[0] is not None and len(steps) >= limit[0]:
        raise Cancelled


management.throw_exception_if_processing_interrupted = stop
utils = types.ModuleType("comfy.utils")
patcher = types.ModuleType("comfy.model_patcher")
steps = []


class ProgressBar:
    def __init__(self, total, node_id=None):
        self.total = total

    def update_absolute(self, value, total=None, preview=None):
        steps.append(value / self.total)


class ModelPatcher:
    def __init__(self, model, load_device, offload_device):
        self.model, self.load_device = model, load_device


utils.ProgressBar, patcher.ModelPatcher = ProgressBar, ModelPatcher
comfy = types.ModuleType("comfy")
comfy.model_management, comfy.utils = management, utils
for module in (paths, comfy, management, utils, patcher):
    sys.modules[module.__name__] = module
if api == "v3":
    io, latest = types.SimpleNamespace(), types.ModuleType("comfy_api.latest")
    entry = lambda name=None, **kinds: types.SimpleNamespace(name=name, **kinds)
    io.Schema, io.ComfyNode = types.SimpleNamespace, type("ComfyNode", (), {})
    io.Combo = types.SimpleNamespace(Input=entry)
    io.Image = types.SimpleNamespace(Input=entry, Output=entry)
    io.NodeOutput = lambda *results: results
    latest.io, latest.ComfyExtension = io, type("ComfyExtension", (), {})
    sys.modules["comfy_api"] = types.ModuleType("comfy_api")
    sys.modules["comfy_api.latest"] = latest

# The pack beside the node, not the one that is installed here.
sys.path[:] = [p for p in sys.path if not os.path.exists(f"{p}/paragon_archs/fuse.py")]
# As nodes.load_custom_node does it: the path is the module's name.
name = folder.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, f"{folder}/__init__.py")
node = importlib.util.module_from_spec(spec)
sys.modules[name] = node
spec.loader.exec_module(node)

import safetensors.torch, spandrel

state = safetensors.torch.load_file(f"{models}/small.safetensors")
descriptor = spandrel.ModelLoader().load_from_state_dict(state)
assert isinstance(descriptor, spandrel.ImageModelDescriptor)
cls = node.NODE_CLASS_MAPPINGS["ParagonUpscale"]
if api == "v3":
    assert node.comfy_entrypoint is not None
    assert asyncio.run(asyncio.run(node.comfy_entrypoint()).get_node_list()) == [cls]
    schema = cls.define_schema()
    assert schema.node_id == "ParagonUpscale" and schema.description
    assert schema.inputs[0].options == ["small.safetensors"]
    inputs, call = [i.name for i in schema.inputs], cls.execute
else:
    inputs = list(cls.INPUT_TYPES()["required"])
    assert cls.INPUT_TYPES()["required"]["model_name"][0] == ["small.safetensors"]
    assert cls.DESCRIPTION and not hasattr(node, "comfy_entrypoint")
    call = getattr(cls(), cls.FUNCTION)
assert inputs == list(inspect.signature(call).parameters)

opened = []
read = node.load_model
node.load_model = lambda *given: opened.append(given) or read(*given)
x = torch.rand(2, 9, 7, 3)
written = os.stat(f"{models}/small.safetensors").st_mtime_ns
key = (f"{models}/small.safetensors", written, torch.device("cpu"), "fp32")
upscaler = node.opened(*key)[0]
# The network alone, as the descriptor is: untrained, it would get a border.
upscaler.border = sys.modules[type(upscaler).__module__].Border(0)
with torch.inference_mode():  # as execution.py calls a node
    (upscaled,) = call("small.safetensors", x, "fp32")
    want = descriptor(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    found["error"] = float((upscaled - want).abs().max())
    found["shape"], found["steps"] = list(upscaled.shape), list(steps)
    found["freed"] = [needed > 4 * want.nelement() / 2 for needed in free]
    clear = torch.cat([x, torch.linspace(0, 1, 7).expand(2, 9, 7)[..., None]], -1)
    (kept,) = call("small.safetensors", clear, "fp32")
    full = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    (opaque,) = call("small.safetensors", full, "fp32")
    found["alpha"] = [list(kept.shape), kept[..., 3].unique().numel() > 2]
    gone = opaque - torch.cat([want, torch.ones_like(want[..., :1])], -1)
    found["opaque"] = float(gone.abs().max())
    # Strips of one picture: each moves the bar, and ends the work when cancelled.
    upscaler.runner.limit = 1
    steps.clear()
    big = torch.rand(1, 700, 40, 3)
    call("small.safetensors", big, "fp32")
    found["strips"] = list(steps)
    steps.clear()
    limit[0] = 1
    try:
        call("small.safetensors", big, "fp32")
    except Cancelled:
        found["cancelled"] = list(steps)
found["read"] = len(opened)
# Another model: nothing of the one before is left, or ComfyUI reports a leak.
before = weakref.ref(upscaler.runner.network)
del upscaler
gc.disable()
node.opened(*key[:-1], "auto")
found["left"] = before() is not None
print(json.dumps(found))
"""


@pytest.mark.parametrize(("api", "rooms"), [("v1", "frees"), ("v3", "loads")])
def test_comfyui_loads_the_node_and_both_ways_upscale(api, rooms, tmp_path):
    (tmp_path / "ComfyUI/custom_nodes").mkdir(parents=True)
    assert main(["integrate", "comfyui", str(tmp_path / "ComfyUI")]) == 0
    model = create("paragonsr2_realtime", 2)
    model(image(1, 3, 4, 4))
    save_model(model, tmp_path / "small.safetensors")
    node = tmp_path / "ComfyUI/custom_nodes/paragon_archs"
    script = tmp_path / "comfy.py"
    script.write_text(COMFY)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, node, tmp_path, api, rooms],
        env={**clean, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["shape"] == [2, 18, 14, 3]
    assert found["error"] < 1e-5
    assert found["steps"] == [0.5, 1.0]
    assert found["freed"] == [True]
    assert found["alpha"] == [[2, 18, 14, 4], True]
    assert found["opaque"] < 1e-5
    assert len(found["strips"]) > 2
    assert found["strips"] == sorted(found["strips"])
    assert found["cancelled"] == found["strips"][:1]
    assert found["read"] == 1
    assert not found["left"]


def test_comfyui_gets_what_its_registry_and_its_users_read(tmp_path, root):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11")
    (tmp_path / "custom_nodes").mkdir()
    assert main(["integrate", "comfyui", str(tmp_path), "--weights"]) == 0
    node = tmp_path / "custom_nodes/paragon_archs"
    project = tomllib.loads((node / "pyproject.toml").read_text())
    assert project["tool"]["comfy"]["DisplayName"]
    assert project["project"]["version"] == paragon_archs.__version__
    listed = (node / "requirements.txt").read_text().splitlines()
    wanted = [line for line in listed if not line.startswith("#")]
    assert project["project"]["dependencies"] == wanted
    pack = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    # A host's torch and numpy are its own.
    free = {d for d in pack["dependencies"] if not d.startswith(("torch", "numpy"))}
    assert set(wanted) == free
    assert "models/upscale_models" in (node / "README.md").read_text()
    shipped = {path.name: path for path in available().values()}
    folder = tmp_path / "models/upscale_models"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        name: path.read_bytes() for name, path in shipped.items()
    }
    remove = ["integrate", "comfyui", str(tmp_path / "custom_nodes"), "--remove"]
    assert main(remove) == 0
    assert {p.name for p in folder.iterdir()} == set(shipped)
    assert main([*remove, "--weights"]) == 0
    assert not folder.exists()


def test_weights_are_copied_for_comfyui_alone(tmp_path, capsys):
    (tmp_path / "neosr/archs").mkdir(parents=True)
    sentence = error_of(capsys, ["integrate", "neosr", tmp_path, "--weights"])
    assert "paragon models --copy" in sentence
