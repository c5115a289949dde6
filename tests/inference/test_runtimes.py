"""Other runtimes on torch's memory and stream; real on a CPU, stand-ins of a GPU."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from common import image
from fake import Watch, fake_gpu

from paragon_archs.inference import backends, tensorrt_model
from paragon_archs.inference.backends import PROVIDERS, OnnxModel
from paragon_archs.inference.tensorrt_model import TensorRTModel
from paragon_archs.utils.oom import is_out_of_memory

CPU = torch.device("cpu")


def write(file, nodes, inputs, outputs, **constants):
    """Writes a graph of (B, C, H, W) maps with so many channels each."""

    def infos(names):
        shapes = {n: ["b", c, f"h_{n}", f"w_{n}"] for n, c in names.items()}
        return [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in shapes.items()]

    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, *names, **more) for kind, names, more in nodes],
        "graph",
        infos(inputs),
        infos(outputs),
        [onnx.numpy_helper.from_array(np.array(v), n) for n, v in constants.items()],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), file)
    return OnnxModel(file, CPU)


@pytest.mark.parametrize("video", [False, True])
def test_a_graph_runs_on_torchs_memory(tmp_path, video, monkeypatch):
    twice = np.array([1, 1, 2, 2], np.float32)
    nodes = [("Resize", (["input", "", "twice"], ["output"]), {})]
    if video:
        nodes += [
            ("Conv", (["input", "kernel"], ["features"]), {}),
            ("Add", (["features", "prev_feat"], ["feature_map"]), {}),
        ]
    model = write(
        tmp_path / "graph.onnx",
        nodes,
        {"input": 3, **({"prev_feat": 8} if video else {})},
        {"output": 3, **({"feature_map": 8} if video else {})},
        twice=twice,
        kernel=image(8, 3, 1, 1).numpy(),
    )
    x = image(2, 3, 12, 17)
    before = image(2, 8, 12, 17, seed=1) if video else None
    outputs, model._outputs = model._outputs, None
    wanted = model(x, video, before)
    model._outputs = outputs
    monkeypatch.setattr(model, "_through_the_host", None)
    for got, right in zip(model(x, video, before), wanted, strict=True):
        assert torch.equal(got, right)
    model(x.mT, video, None if before is None else before.mT)  # not contiguous


def test_results_of_another_shape_go_through_the_host(tmp_path):
    """A border where 16 is no divisor: what a square of 16 became says too little."""
    nodes = [
        ("Shape", (["input"], ["size"]), {"start": 2}),
        ("Mod", (["size", "sixteen"], ["rest"]), {}),
        ("Concat", (["none", "rest"], ["pads"]), {"axis": 0}),
        ("Pad", (["input", "pads"], ["output"]), {}),
    ]
    model = write(
        tmp_path / "odd.onnx",
        nodes,
        {"input": 3},
        {"output": 3},
        sixteen=[16],
        none=[0] * 6,
    )
    assert model(image(1, 3, 16, 16)).shape == (1, 3, 16, 16)
    assert model(image(1, 3, 17, 16)).shape == (1, 3, 18, 16)


class Gpu:
    """CUDA's streams and current device, and what happens on them in order."""

    def __init__(self, monkeypatch):
        self.log = []
        self.device = 0
        outer = SimpleNamespace(
            cuda_stream=0, wait_stream=lambda s: self.log.append("torch waits")
        )
        own = SimpleNamespace(
            cuda_stream=77, wait_stream=lambda s: self.log.append("runtime waits")
        )
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: own)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: outer)
        monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "device", self.on)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 2**30))

    @contextlib.contextmanager
    def on(self, device):
        self.device, before = torch.device(device).index or 0, self.device
        yield
        self.device = before


@pytest.fixture
def gpu(monkeypatch):
    return Gpu(monkeypatch)


def onnxruntime_of(gpu, started):
    """onnxruntime with CUDA's provider, as far as it is called; runs nothing."""

    class Session:
        def __init__(self, file, settings, providers, provider_options):
            started["options"] = dict(zip(providers, provider_options, strict=True))

        def get_providers(self):
            return list(started["options"])

        def get_inputs(self):
            names = {"input": 3, "prev_feat": 8}
            return [
                SimpleNamespace(
                    name=n, type="tensor(float16)", shape=["b", c, "h", "w"]
                )
                for n, c in names.items()
            ]

        def get_outputs(self):
            kinds = {"output": "tensor(float)", "feature_map": "tensor(float16)"}
            return [SimpleNamespace(name=n, type=t) for n, t in kinds.items()]

        def get_modelmeta(self):
            return SimpleNamespace(custom_metadata_map={})

        def run(self, _, arrays):
            x = arrays["input"]
            gpu.log.append("on the host")
            return [np.kron(x, np.ones((2, 2))), np.repeat(x[:, :1], 8, 1)]

        def io_binding(self):
            def bind(name, *place):
                started.setdefault("bound", {})[name] = place[:4]

            return SimpleNamespace(bind_input=bind, bind_output=bind)

        def run_with_iobinding(self, binding, settings):
            gpu.log.append(f"runs on {gpu.device}")
            if started.get("full"):
                raise RuntimeError("Failed to allocate memory for requested buffer")

    class RunOptions:
        def add_run_config_entry(self, key, value):
            started[key] = value

    return SimpleNamespace(
        InferenceSession=Session,
        RunOptions=RunOptions,
        SessionOptions=SimpleNamespace,
        get_available_providers=lambda: [*PROVIDERS.values()],
        capi=SimpleNamespace(onnxruntime_pybind11_state=SimpleNamespace()),
    )


@pytest.fixture
def onnx_on_gpu(gpu, monkeypatch, tmp_path):
    """Opens a graph for video on cuda:1; returns it, and what was asked for."""

    def open_(provider):
        started = {}
        monkeypatch.setattr(backends, "need", lambda *_: onnxruntime_of(gpu, started))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        (tmp_path / "graph.onnx").write_bytes(b"graph")
        device = torch.device("cuda", 1)
        model = OnnxModel(tmp_path / "graph.onnx", device, [provider])
        gpu.log.clear()
        return model, started

    return open_


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_onnxruntime_on_a_gpu(provider, onnx_on_gpu, gpu):
    """Its device and stream, no copy to the host, no wait of the program."""
    model, started = onnx_on_gpu(provider)
    for options in started["options"].values():
        assert (options["device_id"], options["user_compute_stream"]) == (1, "77")
    cuda = started["options"][PROVIDERS["cuda"]]
    assert cuda["cudnn_conv_algo_search"] == "HEURISTIC"
    assert started["disable_synchronize_execution_providers"] == "1"
    with fake_gpu():
        x = torch.empty(1, 3, 12, 17, device="cuda:1")
        with Watch() as watch:
            y, features = model(x, True, torch.empty(1, 8, 12, 17, device="cuda:1"))
    assert gpu.log == ["runtime waits", "runs on 1", "torch waits"]
    assert not watch.on_host
    assert (y.shape, features.shape) == ((1, 3, 24, 34), (1, 8, 12, 17))
    half, single = np.float16, np.float32
    assert started["bound"] == {
        "input": ("cuda", 1, half, (1, 3, 12, 17)),
        "prev_feat": ("cuda", 1, half, (1, 8, 12, 17)),
        "output": ("cuda", 1, single, (1, 3, 24, 34)),
        "feature_map": ("cuda", 1, half, (1, 8, 12, 17)),
    }


def test_onnxruntimes_full_memory_is_known(onnx_on_gpu):
    model, started = onnx_on_gpu("cuda")
    started["full"] = True
    with fake_gpu(), pytest.raises(RuntimeError) as raised:
        model(torch.empty(1, 3, 12, 17, device="cuda:1"))
    assert is_out_of_memory(raised.value)


def test_other_providers_are_reached_through_the_host(onnx_on_gpu, gpu):
    model, started = onnx_on_gpu("dml")
    assert started["options"][PROVIDERS["dml"]] == {"device_id": 1}
    model(torch.zeros(1, 3, 12, 17))
    assert gpu.log == ["on the host"]


def tensorrt_of(gpu, seen, context=True, runs=True):
    """tensorrt as its bindings document it; an engine from 8x8 to 64x64."""
    shapes = {}

    def execute(stream):
        seen.update(stream=stream, ran_on=gpu.device)
        return runs

    made = SimpleNamespace(
        set_input_shape=lambda name, shape: shapes.update({name: shape}) or True,
        get_tensor_shape=lambda name: (
            shapes["input"][0],
            3,
            *(2 * n for n in shapes["input"][2:]),
        ),
        set_tensor_address=lambda name, address: None,
        execute_async_v3=execute,
    )

    def create():
        seen["context_on"] = gpu.device
        return made if context else None

    def deserialize(data):
        seen["engine_on"] = gpu.device
        return engine

    mode = SimpleNamespace(INPUT=0, OUTPUT=1)
    engine = SimpleNamespace(
        create_execution_context=create,
        device_memory_size_v2=2**30,
        num_io_tensors=2,
        get_tensor_name=lambda index: ("input", "output")[index],
        get_tensor_mode=lambda name: int(name == "output"),
        get_tensor_dtype=lambda name: SimpleNamespace(name="HALF"),
        get_tensor_shape=lambda name: (1, 3, -1, -1),
        get_tensor_profile_shape=lambda name, index: (
            (1, 3, 8, 8),
            (1, 3, 16, 16),
            (1, 3, 64, 64),
        ),
    )
    return SimpleNamespace(
        __version__="10.16.1",
        Logger=type("Logger", (), {"WARNING": 2, "__init__": lambda self, level: None}),
        Runtime=lambda log: SimpleNamespace(deserialize_cuda_engine=deserialize),
        TensorIOMode=mode,
    )


@pytest.fixture
def engine_on_gpu(gpu, monkeypatch, tmp_path):
    def open_(seen, **how):
        monkeypatch.setattr(
            tensorrt_model, "need", lambda *_: tensorrt_of(gpu, seen, **how)
        )
        (tmp_path / "m.trt").write_bytes(b"engine")
        return TensorRTModel(tmp_path / "m.trt", torch.device("cuda", 1))

    return open_


def test_an_engine_on_another_gpu(engine_on_gpu, gpu):
    seen = {}
    model = engine_on_gpu(seen)
    assert (model.scale, model.largest) == (2, (64, 64))
    with fake_gpu():
        x = torch.empty(1, 3, 12, 17, device="cuda:1")
        with Watch() as watch:
            y = model(x)
    assert (y.shape, y.dtype) == ((1, 3, 24, 34), torch.float16)
    assert seen == {"engine_on": 1, "context_on": 1, "ran_on": 1, "stream": 77}
    assert gpu.log == ["runtime waits", "torch waits"]
    assert not watch.on_host
    assert gpu.device == 0


def test_a_full_gpu_is_one_sentence_or_known(engine_on_gpu):
    with pytest.raises(ValueError, match="but it is full"):
        engine_on_gpu({}, context=False)
    model = engine_on_gpu({}, runs=False)
    with fake_gpu(), pytest.raises(RuntimeError, match="its log says why"):
        model(torch.empty(1, 3, 12, 17, device="cuda:1"))
