"""Graphs that other programs make of what this pack returns: right at every size."""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import warnings

import numpy as np
import pytest
import torch
from common import SMALL, image, small_model
from torch import nn

from paragon_archs.checkpoint import load_model
from paragon_archs.cli import info as cli_info
from paragon_archs.deploy import deploy_model
from paragon_archs.fuse import fuse_model
from paragon_archs.inference import Upscaler

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

EXAMPLE = (40, 56)
SIZES = ((16, 16), (40, 64), (75, 97), (90, 80))
BOUND = 2e-5  # of the output's spread; 1.3e-5 on CPUs without AVX-512
RUNNER = """
import sys, numpy, onnxruntime
assert onnxruntime.__version__ == '1.17.1', onnxruntime.__version__
for line in sys.stdin:
    graph, *files = line.split()
    session = onnxruntime.InferenceSession(graph, providers=['CPUExecutionProvider'])
    for file in files:
        y, = session.run(None, {'input': numpy.load(file)})
        numpy.save(file[:-4] + '.out.npy', y)
    print('done', flush=True)
"""


class Host(nn.Module):
    """What hosts wrap around a descriptor, which is no module."""

    def __init__(self, descriptor):
        super().__init__()
        self.descriptor = descriptor

    def forward(self, x):
        return self.descriptor(x)


@functools.lru_cache(maxsize=1)
def loaded(name, scale=2, fused=False):
    """A small network with its pictures inside [0, 1]: clamping hides no error."""
    model = small_model(name, scale)
    last = [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
    with torch.no_grad():
        x = image(1, 3, *EXAMPLE)
        factor = 0.1 / float(model(x).std())
        last.weight *= factor
        last.bias *= factor
        last.bias += 0.5 - float(model(x).mean())
    return load_model((fuse_model(model) if fused else model).state_dict())


def target(name, what, scale=2, fused=False):
    descriptor = loaded(name, scale, fused)
    return {
        "descriptor": descriptor,
        "model": descriptor.model,
        "deploy": deploy_model(descriptor),
    }[what]


def check(run, wanted, sizes=SIZES):
    for size in sizes:
        x = image(1, 3, *size)
        with torch.inference_mode():
            want = wanted(x).numpy()
        assert 0.01 < want.std() < 1
        got = run(x)
        assert got.shape == want.shape
        assert np.abs(got - want).max() < BOUND * want.std(), size


def export(asked, path, dynamo):
    """Writes a graph as the hosts do: dynamic batch, height and width."""
    names = {"input_names": ["input"], "output_names": ["output"]}
    if dynamo:
        free = torch.export.Dim.DYNAMIC
        names |= {"dynamic_shapes": ({0: free, 2: free, 3: free},), "verbose": False}
    else:
        axes = {0: "batch_size", 2: "height", 3: "width"}
        names["dynamic_axes"] = {"input": axes, "output": axes}
    module = asked if isinstance(asked, nn.Module) else Host(asked)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of its own exporters
        torch.onnx.export(
            module,
            (image(1, 3, *EXAMPLE),),
            path,
            dynamo=dynamo,
            opset_version=18 if dynamo else 17,
            **names,
        )


@pytest.fixture(scope="module")
def old_runtime():
    """Runs (graph, arrays' files) in the runtime that chaiNNer pins, if it is there."""
    python = os.environ.get("PARAGON_ORT117_PYTHON")
    if not python:
        yield None
        return
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([python, "-c", RUNNER], **pipes) as process:

        def run(*files):
            process.stdin.write(" ".join(map(str, files)) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n", "the runtime failed"

        yield run
        process.stdin.close()


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
@pytest.mark.parametrize("what", ["descriptor", "model"])
@pytest.mark.parametrize("name", SMALL)
def test_onnx_graph_of_others(name, what, dynamo, tmp_path, old_runtime):
    asked = target(name, what)
    export(asked, tmp_path / "g.onnx", dynamo)
    session = onnxruntime.InferenceSession(
        str(tmp_path / "g.onnx"), providers=["CPUExecutionProvider"]
    )
    check(lambda x: session.run(None, {"input": x.numpy()})[0], asked)
    if old_runtime is None:
        return
    # torch's exporter states IR version 10, though it writes nothing that 9 lacks.
    proto = onnx.load(tmp_path / "g.onnx")
    proto.ir_version = min(proto.ir_version, 9)
    onnx.save(proto, tmp_path / "old.onnx")

    def run(x):
        np.save(tmp_path / "x.npy", x.numpy())
        old_runtime(tmp_path / "old.onnx", tmp_path / "x.npy")
        return np.load(tmp_path / "x.out.npy")

    check(run, asked)


@pytest.mark.parametrize(
    ("example", "scale", "fused"),
    [
        (EXAMPLE, 2, False),
        ((3, 3), 3, True),  # chaiNNer traces at three pixels
        ((8, 17), 4, False),
        ((9, 8), 1, False),
    ],
    ids=["40x56-x2", "3x3-x3-fused", "8x17-x4", "9x8-x1"],
)
@pytest.mark.parametrize("what", ["descriptor", "model", "deploy"])
@pytest.mark.parametrize("name", SMALL)
def test_trace(name, what, example, scale, fused):
    asked = target(name, what, scale, fused)
    graph = torch.jit.trace(asked, image(1, 3, *example), check_trace=False)
    check(lambda x: graph(x).detach().numpy(), asked)
    if what == "model":  # spandrel opens such a file by its names
        assert graph.state_dict().keys() == asked.state_dict().keys()


@pytest.mark.parametrize("name", ["paragonsr", "fusionsr"])
def test_compile_without_a_break(name):
    torch.compiler.reset()
    asked = loaded(name)
    graph = torch.compile(
        Host(asked), backend="aot_eager", fullgraph=True, dynamic=True
    )
    check(lambda x: graph(x).numpy(), asked)


@pytest.mark.parametrize("name", ["paragonsr", "pro", "fusionsr"])
def test_export(name):
    free = torch.export.Dim.DYNAMIC
    asked = loaded(name)
    program = torch.export.export(
        Host(asked),
        (image(2, 3, *EXAMPLE),),
        dynamic_shapes=({0: free, 2: free, 3: free},),
    ).module()
    check(lambda x: program(x).numpy(), asked)


@pytest.mark.parametrize("name", ["paragonsr", "photo", "fusionsr"])
def test_script_is_refused_in_one_sentence_that_helps(name):
    with pytest.raises(TypeError, match=r"torch\.jit\.trace\(network"):
        torch.jit.script(loaded(name).model)


@pytest.mark.parametrize("name", ["realtime", "resshuffle"])
def test_script_of_a_descriptor_is_refused_likewise(name):
    with pytest.raises(TypeError, match=r"torch\.jit\.trace\(descriptor"):
        torch.jit.script(loaded(name))


@pytest.mark.parametrize(
    "open_", [load_model, Upscaler, cli_info.describe], ids=["load", "upscale", "info"]
)
def test_a_program_is_no_weight_file(open_, tmp_path):
    """One sentence names the kind of file and how to get weights."""
    graph = torch.jit.trace(loaded("realtime").model, image(1, 3, 9, 9))
    graph.save(tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"TorchScript program.*state_dict\(\)"):
        open_(str(tmp_path / "a.pt"))


@pytest.mark.parametrize("name", ["resshuffle", "facesr"])
def test_script(name):
    asked = loaded(name).model
    graph = torch.jit.script(asked)
    check(lambda x: graph(x).detach().numpy(), asked)
