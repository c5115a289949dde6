"""Engines: as far as a machine without a GPU goes, and the real package where it is."""

from __future__ import annotations

import importlib.util
import re
import shlex
from enum import Enum
from types import SimpleNamespace

import pytest
import torch
from common import small_model

from paragon_archs.checkpoint import save_model
from paragon_archs.cli.export import main
from paragon_archs.export import tensorrt
from paragon_archs.export.tensorrt import profile_shapes, sizes_of, trtexec_line

SHAPES = profile_shapes(((8, 8), (16, 16), (32, 32)))
HERE = importlib.util.find_spec("tensorrt") is not None


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_model(small_model("realtime"), file)
    return file


def test_trtexec_line_is_the_published_one():
    shapes = profile_shapes(sizes_of(None, None, None), features=64)
    assert trtexec_line("model_video.onnx", "model.trt", "--fp16", shapes) == (
        "trtexec --onnx=model_video.onnx --saveEngine=model.trt --fp16 "
        "--minShapes=input:1x3x64x64,prev_feat:1x64x64x64 "
        "--optShapes=input:1x3x720x1280,prev_feat:1x64x720x1280 "
        "--maxShapes=input:1x3x1080x1920,prev_feat:1x64x1080x1920"
    )
    line = trtexec_line("my model.onnx", "m.trt", "--fp16", SHAPES)
    assert shlex.split(line)[1] == "--onnx=my model.onnx"
    with pytest.raises(ValueError, match="ascend"):
        profile_shapes(((64, 64), (32, 64), (64, 64)))


def test_an_engine_is_known_by_gpu_version_and_all_that_it_is_of():
    parts = (b"graph", "NVIDIA RTX 3060 (12 GB)", "10.3.0", "fp16", SHAPES)
    key = tensorrt.cache_key(*parts)
    assert key.startswith("NVIDIA-RTX-3060-12-GB_trt10.3.0_")
    others = (
        b"other",
        "NVIDIA RTX 3070",
        "11.0",
        "bf16",
        profile_shapes(((9, 9),) * 3),
    )
    for index, other in enumerate(others):
        changed = [*parts]
        changed[index] = other
        assert tensorrt.cache_key(*changed) != key


@pytest.mark.skipif(HERE, reason="tensorrt is here")
def test_without_tensorrt_the_command_says_how(tmp_path, checkpoint, capsys):
    file = tmp_path / "m.trt"
    assert main([str(checkpoint), "-o", str(file), "--dtype", "bf16"]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "pip install tensorrt" in printed
    # Two lines to type; the first one runs, and its graph has the second one's inputs.
    found = re.search(
        r"By hand: paragon export (.*); trtexec --onnx=(\S*) (.*)$", printed
    )
    assert found is not None
    assert "--bf16" in found[3]
    assert main(found[1].split()) == 0
    assert (tmp_path / "m.onnx").samefile(found[2])
    assert not file.exists()


@pytest.mark.skipif(not HERE, reason="tensorrt is not installed")
def test_the_real_package_is_as_we_call_it(tmp_path, checkpoint, capsys):
    """Names, arguments, their order; then the command, to where a GPU is needed."""
    trt = tensorrt.load_tensorrt("fp16")
    calls = {
        "Builder.__init__": "logger: ILogger",
        "Builder.create_network": "flags: int",
        "Builder.create_builder_config": "",
        "Builder.create_optimization_profile": "",
        "Builder.build_serialized_network": "network: INetworkDefinition, "
        "config: IBuilderConfig",
        "OnnxParser.__init__": "network: INetworkDefinition, logger: ILogger",
        "OnnxParser.parse": "model: Buffer, path: str",
        "OnnxParser.get_error": "index: int",
        "IBuilderConfig.set_memory_pool_limit": "pool: MemoryPoolType, pool_size: int",
        "IBuilderConfig.set_flag": "flag: BuilderFlag",
        "IBuilderConfig.add_optimization_profile": "profile: IOptimizationProfile",
        "IOptimizationProfile.set_shape": "input: str, min: Dims, opt: Dims, max: Dims",
        "Runtime.__init__": "logger: ILogger",
        "Runtime.deserialize_cuda_engine": "serialized_engine: Buffer",
        "ICudaEngine.create_execution_context": "strategy: "
        "ExecutionContextAllocationStrategy",
        "ICudaEngine.get_tensor_name": "index: int",
        "ICudaEngine.get_tensor_mode": "name: str",
        "ICudaEngine.get_tensor_dtype": "name: str",
        "ICudaEngine.get_tensor_shape": "name: str",
        "ICudaEngine.get_tensor_profile_shape": "name: str, profile_index: int",
        "IExecutionContext.set_input_shape": "name: str, shape: tuple",
        "IExecutionContext.get_tensor_shape": "name: str",
        "IExecutionContext.set_tensor_address": "name: str, memory: int",
        "IExecutionContext.execute_async_v3": "stream_handle: int",
    }
    for path, wanted in calls.items():
        owner, _, name = path.partition(".")
        # pybind11's: `name(self: a.b.Owner, x: typing.SupportsInt = 0) -> ...`
        doc = getattr(getattr(trt, owner), name).__doc__
        first = re.search(rf"{name}\(self: [\w.]+(?:, )?(.*?)\)(?: ->|$)", doc, re.M)
        assert first is not None, doc
        given = [
            re.sub(r" = .*", "", p) for p in re.split(r", (?=\w+:)", first[1]) if p
        ]
        plain = [
            re.sub(r"[\w.]+\.", "", p).replace("SupportsInt", "int") for p in given
        ]
        assert [p.replace("buffer", "Buffer") for p in plain] == [
            p for p in wanted.split(", ") if p
        ], path
    assert isinstance(trt.OnnxParser.num_errors, property)
    assert isinstance(trt.ICudaEngine.num_io_tensors, property)
    assert trt.MemoryPoolType.WORKSPACE
    assert trt.TensorIOMode.OUTPUT
    assert {t.name for t in (trt.DataType.FLOAT, trt.DataType.HALF, trt.DataType.BF16)}
    shape = trt.Dims((1, 3, 64, 48))
    assert (shape[0], 5, *shape[2:]) == (1, 5, 64, 48)
    if torch.cuda.is_available():
        pytest.skip("what comes now needs the absence of a GPU")
    file = tmp_path / "m.trt"
    assert main([str(checkpoint), "-o", str(file), "--dtype", "fp16"]) == 1
    printed = capsys.readouterr()
    assert "graph checked against torch" in printed.out
    assert "Expected a CUDA GPU" in printed.err
    assert printed.err.count("\n") == 1
    assert not file.exists()


class Flags(Enum):
    """As pybind11's enumerations: int() of a member is its value."""

    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1

    def __int__(self):
        return self.value


def stand_in(seen, *, version="10.16.1", parses=True, builds=b"engine", starts=True):
    """tensorrt as its bindings document it; notes what it is asked for in `seen`."""

    class Builder:
        def __init__(self, logger):
            if not starts:
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def create_network(self, flags=0):
            seen["flags"] = flags

        def create_builder_config(self):
            seen["set"] = []
            return SimpleNamespace(
                set_memory_pool_limit=lambda pool, pool_size: None,
                set_flag=seen["set"].append,
                add_optimization_profile=lambda profile: 0,
            )

        def create_optimization_profile(self):
            seen["shapes"] = {}
            return SimpleNamespace(
                set_shape=lambda input, min, opt, max: seen["shapes"].update(
                    {input: (min, opt, max)}
                )
            )

        def build_serialized_network(self, network, config):
            seen["built"] = seen.get("built", 0) + 1
            return builds

    class OnnxParser:
        num_errors = 1

        def __init__(self, network, logger):
            pass

        def parse(self, model, path=None):
            seen["graph"] = model
            return parses

        def get_error(self, index):
            return "no such operator"

    flags = ["BF16"] if version.startswith("10") else []
    return SimpleNamespace(
        __version__=version,
        Builder=Builder,
        OnnxParser=OnnxParser,
        Logger=type("Logger", (), {"WARNING": 2, "__init__": lambda self, level: None}),
        NetworkDefinitionCreationFlag=Flags,
        MemoryPoolType=SimpleNamespace(WORKSPACE=0),
        BuilderFlag=SimpleNamespace(**{name: name for name in flags}),
    )


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("dtype", "flags", "given"),
    [("fp32", 2, []), ("fp16", 2, []), ("bf16", 0, ["BF16"])],
)
def test_precision_is_the_graph_s_or_a_flag_s(gpu, tmp_path, dtype, flags, given):
    seen = {}
    trt = stand_in(seen)
    key = tensorrt.build_engine(trt, b"graph", tmp_path / "a.trt", dtype, SHAPES)
    assert (seen["flags"], seen["set"], seen["shapes"]) == (flags, given, SHAPES)
    assert (tmp_path / "a.trt").read_bytes() == b"engine"
    assert "trt10.16.1" in key
    # The same again comes from the cache, another graph does not.
    tensorrt.build_engine(trt, b"graph", tmp_path / "b.trt", dtype, SHAPES)
    assert (tmp_path / "b.trt").read_bytes() == b"engine"
    assert seen["built"] == 1
    tensorrt.build_engine(trt, b"other", tmp_path / "c.trt", dtype, SHAPES)
    assert seen["built"] == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"parses": False}, "no such operator"),
        ({"builds": None}, "Smaller --max sizes"),
        ({"starts": False}, "to start on this GPU"),
    ],
)
def test_what_tensorrt_refuses_is_one_sentence(gpu, tmp_path, fault, words):
    trt = stand_in({}, **fault)
    with pytest.raises(RuntimeError, match=words):
        tensorrt.build_engine(trt, b"graph", tmp_path / "a.trt", "fp16", SHAPES)
    assert not list(tmp_path.rglob("*.trt"))


def test_versions_that_cannot_are_told_so(monkeypatch):
    monkeypatch.setattr(tensorrt, "need", lambda *_: stand_in({}, version="11.4.0"))
    assert tensorrt.load_tensorrt("fp16").__version__ == "11.4.0"
    with pytest.raises(ValueError, match=r"before 11, but got bf16 and 11\.4\.0"):
        tensorrt.load_tensorrt("bf16")
    old = stand_in({}, version="8.6.1")
    old.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
    monkeypatch.setattr(tensorrt, "need", lambda *_: old)
    with pytest.raises(ValueError, match=r"10 or newer, but got 8\.6\.1"):
        tensorrt.load_tensorrt("fp32")
