"""Weight files that are broken, hostile or something else: one sentence, bounded."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_common
import fuzz_weights
import pytest
import torch
from common import image, small_model

from paragon_archs.checkpoint import load_model, read_metadata, read_state_dict
from paragon_archs.cli.__main__ import main
from paragon_archs.inference import Upscaler
from paragon_archs.utils.budget import BudgetError, CreationBudget
from paragon_archs.weights import available

KINDS = ("paragonsr", "realtime", "photo", "fusionsr", "resshuffle", "facesr")


@pytest.fixture(scope="module")
def states() -> list[dict[str, torch.Tensor]]:
    return [small_model(name).state_dict() for name in KINDS]


def bomb(file: Path) -> None:
    """2.4 MB that inflate to 2.4 GB, by their directory."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(24 * 10**5))
    data = bytearray(file.read_bytes())
    for start, field in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.rfind(start) + field
        data[place : place + 4] = struct.pack("<I", 24 * 10**8)
    file.write_bytes(data)


def entry(name: str, value: Any) -> Callable[[Path], None]:
    """Writes a whole network with one entry replaced or added."""

    def write(file: Path) -> None:
        torch.save({**small_model("resshuffle").state_dict(), name: value}, file)

    return write


def foreign(name: str, value: torch.Tensor) -> Callable[[Path], None]:
    """Writes a network that spandrel knows with one entry replaced or added."""

    def write(file: Path) -> None:
        from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

        state = SRVGGNetCompact(num_feat=8, num_conv=2).state_dict()
        torch.save({**state, name: value}, file)

    return write


def raw(data: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(data) and None


def many(file: Path) -> None:
    torch.save({f"body.{i}.x": torch.zeros(0) for i in range(20_500)}, file)


# Name -> how to write it, and what its sentence must hold.
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "page.pth": (raw(fuzz_weights.STRANGERS[2]), "a web page"),
    "page.safetensors": (raw(fuzz_weights.STRANGERS[2]), "a web page"),
    "error.pth": (raw(fuzz_weights.STRANGERS[3]), "a web page"),
    "pointer.safetensors": (raw(fuzz_weights.STRANGERS[4]), "git lfs pull"),
    "archive.pth": (raw(b"Rar!\x1a\x07"), "Unpack it"),
    "pipe.pth": (os.mkfifo, "a pipe or a device"),
    "device.pth": (lambda file: file.symlink_to("/dev/zero"), "a pipe or a device"),
    "folder.pth": (Path.mkdir, "a folder"),
    "bomb.pth": (bomb, "unpacks to 2400000004 bytes"),
    "many.pth": (many, "at most 20,000 tensors"),
    "long_header.safetensors": (raw(struct.pack("<Q", 2**62) + b"{}"), "a header of"),
    "far_block.pth": (entry("residual_blocks.20000.x", torch.zeros(1)), "without gaps"),
    "farther_block.pth": (
        entry("residual_blocks.1000000000.x", torch.zeros(1)),
        "without gaps",
    ),
    "far_layer.pth": (foreign("body.1000000000.weight", torch.zeros(1)), "gaps"),
    "wide.pth": (
        entry("conv_input.weight", torch.zeros(0, 10**9, 3, 3)),
        "Check that the file is whole",
    ),
    "wider.pth": (
        entry("conv_input.weight", torch.zeros(10**6, 0, 3, 3)),
        "Check that the file is whole",
    ),
    "wide_foreign.pth": (
        foreign("body.0.weight", torch.zeros(10**5, 3, 3, 0)),
        "Check that the file is whole",
    ),
    "spread.pth": (
        entry("conv_mid.weight", torch.zeros(1).expand(10**5, 10**5)),
        "claim to be",
    ),
    "whole.pth": (
        entry("conv_mid.weight", torch.zeros(8, 8, 3, 3).int()),
        "floating-point, but 'conv_mid.weight' is int32",
    ),
    "bool.pth": (entry("conv_mid.bias", torch.zeros(8) > 0), "is bool"),
    "complex.pth": (entry("conv_mid.bias", torch.zeros(8) * 1j), "is complex64"),
    "float8.pth": (
        entry("conv_mid.bias", torch.zeros(8).to(torch.float8_e4m3fn)),
        "is float8_e4m3fn. Convert the file to float16",
    ),
    "sparse.pth": (entry("conv_mid.bias", torch.eye(3).to_sparse()), "is sparse_coo"),
    "nowhere.pth": (entry("conv_mid.bias", torch.empty(9, device="meta")), "strided"),
    **{
        f"trick{number:02}.pth": (raw(program + b"\x80\x02]."), "Expected")
        for number, program in enumerate(fuzz_weights.TRICKS)
    },
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("broken")
    for name, (write, _) in BROKEN.items():
        write(folder / name)
    return {result["file"]: result for result in fuzz_weights.opened(folder)}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_sentence_in_bounds(name: str, results: dict[str, Any]):
    result = results[name]
    assert result["code"] == 2, result
    assert fuzz_common.right(result), result
    assert BROKEN[name][1] in result["err"]


def test_mutated_files_are_one_sentence_in_bounds(
    tmp_path: Path, states: list[dict[str, torch.Tensor]]
):
    results = fuzz_weights.fuzz(tmp_path / "files", states, count=300, seed=16)
    assert len(results) == 300
    assert [r for r in results if not fuzz_common.right(r)] == []
    assert sum(r["code"] == 2 for r in results) > 250


def test_a_network_of_its_own_size_is_within_the_budget():
    with CreationBudget(10, 2):
        torch.nn.Linear(3, 2)
    for numbers, tensors in ((5, 2), (10, 1)):
        with pytest.raises(BudgetError), CreationBudget(numbers, tensors):
            torch.nn.Linear(3, 2)
    with pytest.raises(BudgetError), CreationBudget(10**6, 9):
        torch.arange(10**4)[:, None] + torch.arange(10**4)


# The name of a shipped model stands wherever a weight file does, and so does `~`.
SHIPPED = "paragonsr_nano_x4"


def test_shipped_names_and_home_are_taken(tmp_path, monkeypatch, capsys):
    x = image(1, 3, 4, 5)[0].permute(1, 2, 0).numpy()
    file = available()[SHIPPED]
    (tmp_path / "mine.safetensors").write_bytes(file.read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    want = Upscaler(file, "cpu").image(x)
    for name in (SHIPPED, "~/mine.safetensors"):
        assert (Upscaler(name, "cpu").image(x) == want).all()
        assert load_model(name).scale == 4
        assert read_state_dict(name).keys() == read_state_dict(file).keys()
        assert read_metadata(name) == read_metadata(file)
        assert main(["info", name]) == 0
        assert "ParagonSR" in capsys.readouterr().out


@pytest.mark.parametrize("taker", [load_model, read_state_dict, Upscaler])
def test_a_name_close_to_a_shipped_one_is_named(taker):
    with pytest.raises(FileNotFoundError, match="Did you mean paragonsr_nano_x4"):
        taker("paragonsr_nanox4")


def test_info_of_a_graph(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    graph = str(tmp_path / "x.onnx")
    assert main(["export", SHIPPED, "-o", graph]) == 0
    capsys.readouterr()
    assert main(["info", graph]) == 0
    out = capsys.readouterr().out
    assert "scale" in out and "4\n" in out and "ParagonSR" in out
    (tmp_path / "page.onnx").write_bytes(fuzz_weights.STRANGERS[2])
    assert main(["info", str(tmp_path / "page.onnx")]) == 2
    assert "a web page" in capsys.readouterr().err
