"""Broken and hostile weight files: made from a seed, opened in a child process.

`python tests/fuzz_weights.py 2000 FOLDER [SEED]` makes and opens so many and counts.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_common
import safetensors.torch
import torch

State = dict[str, torch.Tensor]


# Making ----------------------------------------------------------------------------


def write_files(folder: Path, states: list[State], count: int, seed: int) -> None:
    """Writes `count` files, each wrong in a way of its own; some may still be right."""
    warnings.simplefilter("ignore")  # of layouts and types that torch gives up
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    makers: list[Callable[[random.Random, State, Path], None]] = [
        damaged_bytes,
        wrong_tensors,
        wrong_tensors,
        wrong_header,
        wrong_archive,
        wrong_pickle,
        wrong_pickle,
        stranger,
    ]
    for number in range(count):
        maker = makers[number % len(makers)]
        maker(rng, dict(rng.choice(states)), folder / f"{number:04}-{maker.__name__}")


def save(state: dict[str, Any], file: Path, kind: int) -> Path:
    """Writes a state dict in one of torch's two formats; returns the file."""
    file = file.with_suffix((".pth", ".pt")[kind])
    torch.save(state, file, _use_new_zipfile_serialization=kind == 0)
    return file


def damaged_bytes(rng: random.Random, state: State, file: Path) -> None:
    kind = rng.randrange(3)
    if kind == 2:
        file = file.with_suffix(".safetensors")
        safetensors.torch.save_file(state, file)
    else:
        file = save(state, file, kind)
    data = bytearray(file.read_bytes())
    # The heads are where it hurts: of a safetensors file, of pickles, of archives.
    head = min(len(data), 4000)
    for _ in range(rng.choice((1, 4, 40))):
        place = rng.randrange(head) if rng.random() < 0.7 else rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place] = rng.choice((0, 0x80, 0xFF, ord("."), ord("}")))
            case 2:
                del data[place : place + rng.randrange(1, 100)]
            case 3:
                data[place:place] = data[: rng.randrange(100)]
        head, data = min(head, len(data) or 1), data or bytearray(1)
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]
    file.write_bytes(data)


HUGE = (1, 7, 4096, 10**5, 10**9)
STRANGE: list[Callable[[torch.Tensor, int], Any]] = [
    lambda v, n: v.to((torch.int32, torch.int64, torch.uint8, torch.bool)[n % 4]),
    lambda v, n: v.to(torch.complex64),
    lambda v, n: v.to(torch.float8_e4m3fn),
    lambda v, n: v.to(torch.uint16),
    lambda v, n: torch.full_like(v.float(), (1e30, float("nan"))[n % 2]),
    lambda v, n: torch.zeros(0, n, *v.shape[2:]),
    lambda v, n: torch.zeros(n, 0, *v.shape[2:]),
    lambda v, n: torch.zeros(1).expand(n, *v.shape[1:]),
    lambda v, n: torch.zeros(1).as_strided((n, n), (0, 0)),
    lambda v, n: v.reshape(-1),
    lambda v, n: v.reshape(*v.shape, 1),
    lambda v, n: torch.tensor(1.0),
    lambda v, n: torch.zeros(0),
    lambda v, n: torch.eye(3).to_sparse(),
    lambda v, n: torch.eye(3).to_sparse_csr(),
    lambda v, n: torch.empty(n, 10**6, device="meta"),
    lambda v, n: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
    lambda v, n: (None, 3, "text", [1], {"weight": torch.zeros(1)})[n % 5],
]


def wrong_tensors(rng: random.Random, state: State, file: Path) -> None:
    """Names, shapes and types that no network has."""
    result: dict[str, Any] = dict(state)
    for name in rng.sample(sorted(state), min(len(state), rng.randint(1, 3))):
        index = rng.choice((2, 63, 20_000, 10**9, 10**30))
        renamed = name.replace(".0.", f".{index}.")
        match rng.randrange(5):
            case 0:
                del result[name]
            case 1:
                result[renamed] = result.pop(name)
            case 2:
                added = (renamed, name + ".x", "\u00b2.\u0663", "")
                result[rng.choice(added)] = state[name]
            case _:
                strange = rng.choice(STRANGE)(state[name], rng.choice(HUGE))
                result[name] = strange
    if rng.random() < 0.2:
        result = {rng.choice(("params", "state_dict", "model", "x")): result}
    save(result, file, 0)


def wrong_header(rng: random.Random, state: State, file: Path) -> None:
    """A safetensors header that does not fit its file."""
    data = safetensors.torch.save(state)
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    for _ in range(rng.randint(1, 2)):
        entry = rng.choice([held for held in header.values() if isinstance(held, dict)])
        huge = rng.choice((-1, 0, 1.5, 10**6, 2**40, 2**63, 2**64, 10**30))
        match rng.randrange(5):
            case 0:
                entry["shape"] = [huge, *entry.get("shape", [])[1:]]
            case 1:
                entry["shape"], entry["data_offsets"] = [0, huge], [0, 0]
            case 2:
                entry["data_offsets"] = [0, huge]
            case 3:
                kinds = ("I64", "BOOL", "C64", "F8_E4M3", "F4", "F16", "X", None)
                entry["dtype"] = rng.choice(kinds)
            case 4:
                header[rng.choice(("__metadata__", "a", ""))] = rng.choice(
                    ({"a": 1}, {"a": "b"}, [], None, {"dtype": "F32"})
                )
    text = json.dumps(header).encode()
    if rng.random() < 0.1:
        text = b"[" * rng.choice((200, 10**6))
    claimed = rng.choice((len(text),) * 6 + (0, 2**31, 2**63, len(text) - 3))
    file.with_suffix(".safetensors").write_bytes(
        struct.pack("<Q", claimed) + text + body[: rng.choice((None, None, 0, 100))]
    )


def wrong_archive(rng: random.Random, state: State, file: Path) -> None:
    """A zip file that torch would not have written."""
    whole = save(state, file, 0)
    with zipfile.ZipFile(whole) as archive:
        records = {i.filename: archive.read(i) for i in archive.infolist()}
    pickled = next(n for n in records if n.endswith("data.pkl"))
    packing = zipfile.ZIP_STORED
    match rng.randrange(6):
        case 0:
            del records[rng.choice(list(records))]
        case 1:
            name = rng.choice(list(records))
            records[name] = records[name][: rng.randrange(len(records[name]) + 1)]
        case 2:
            packing = zipfile.ZIP_DEFLATED
            records[pickled.replace("data.pkl", "data/bomb")] = bytes(10**7)
        case 3:
            records[pickled.replace("data.pkl", "constants.pkl")] = b""
        case 4:
            records[pickled] = records[pickled] + bytes(rng.randrange(10))
        case 5:
            records = {rng.choice(("a", "../a", "/a", "a/b/data.pkl")): b"text"}
    with zipfile.ZipFile(whole, "w", packing) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    data = bytearray(whole.read_bytes())
    place = data.rfind(b"PK\x01\x02")  # the last entry of the directory
    if rng.random() < 0.5 and place >= 0:
        field = place + rng.choice((10, 20, 24, 28, 42))
        data[field : field + 4] = struct.pack(
            "<I", rng.choice((0, 8, 2**31, 2**32 - 2))
        )
    whole.write_bytes(data)


OPCODES = [bytes([code]) for code in range(256)]
TRICKS: list[bytes] = [
    b"\x80\x02.",  # an empty stack
    b"\x80\x020.",
    b"\x80\x02h\x05.",  # a memo that is empty
    b"\x80\x02}r\xff\xff\xff\x7f.",  # the place 2^31 of a memo
    b"\x80\x02" + b"]" * 200_000 + b".",
    b"\x80\x02]" + b"(" * 100_000 + b".",
    b"\x80\x02)" + b"\x85" * 100_000 + b".",  # a tuple in a tuple in ...
    b"\x80\x02}N" + b"2\x86" * 60 + b"N\x86s.",
    # A key whose hash takes 2^60 steps.
    b"\x80\x02})" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"Ns.",
    b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x02\x85R.",
    b"\x80\x02ctorch\nTensor\n\x8a\x05\x00\x00\x00\x00\x02\x85R.",
    b"\x80\x02ctorch.storage\nUntypedStorage\n\x8a\x05\x00\x00\x00\x00\x02\x85R.",
    b"\x80\x02ctorch\nSize\n(NNNtR.",
    b"\x80\x02U\x03abcQ.",
    b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
    b"\x80\x02\x8b\xff\xff\xff\x7f.",
    b"\x80\x02X\xff\xff\xff\x7fabc.",
    b"\x80\x02ccollections\nCounter\n)R}b.",
    b"\x80\x02cos\nsystem\nU\x04true\x85R.",
]


def wrong_pickle(rng: random.Random, state: State, file: Path) -> None:
    """Instructions that no pickler writes, in a pickle of either format."""
    if rng.random() < 0.5:
        program = rng.choice(TRICKS)
    else:
        program = b"\x80\x02" + b"".join(rng.choices(OPCODES, k=rng.randrange(60)))
        program += b"."
    kind = rng.randrange(3)
    if kind == 0:
        with zipfile.ZipFile(file.with_suffix(".pth"), "w") as archive:
            archive.writestr("a/data.pkl", program)
            archive.writestr("a/version", "3")
        return
    rest = b""
    if kind == 1:  # the older row of pickles
        magic, version = 0x1950A86A20F9469CFC6C, 1001
        system = {"protocol_version": version, "little_endian": True}
        rest = b"".join(pickle.dumps(p, 2) for p in (magic, version, system))
    file.with_suffix(".pth").write_bytes(rest + program + pickle.dumps([], 2))


STRANGERS = [
    b"",
    b"\n",
    b"\xef\xbb\xbf <!DOCTYPE html><html><body>Sign in</body></html>",
    b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    b'{"error": "not found"}',
    b"\x89PNG\r\n\x1a\n",
    b"\x1f\x8b\x08\x00",
    b"Rar!\x1a\x07",
    bytes(10_000),
    b"\xff" * 10_000,
]


def stranger(rng: random.Random, state: State, file: Path) -> None:
    """What is no weight file at all."""
    file = file.with_suffix(rng.choice((".pth", ".safetensors", ".ckpt", ".onnx", "")))
    match rng.randrange(8):
        case 0:
            os.mkfifo(file)
        case 1:
            file.symlink_to(rng.choice(("/dev/zero", "/dev/null", "nowhere", file)))
        case 2:
            file.mkdir()
        case _:
            data = rng.choice((*STRANGERS, rng.randbytes(rng.randrange(3000))))
            file.write_bytes(data)


# Opening ---------------------------------------------------------------------------


def open_all(folder: Path) -> None:
    from paragon_archs.cli.__main__ import main

    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["info", "paragonsr_nano_x4"]) == 0  # everything is imported
    fuzz_common.run_each(
        sorted(folder.iterdir()), lambda file: main(["info", str(file)])
    )


def opened(folder: Path) -> list[fuzz_common.Result]:
    """Returns what `paragon info` makes of every file, in a child process."""
    return fuzz_common.in_child(__file__, folder)


def fuzz(
    folder: Path, states: list[State], count: int, seed: int
) -> list[fuzz_common.Result]:
    """Makes files and opens them; returns what came of each."""
    write_files(folder, states, count, seed)
    return opened(folder)


if __name__ == "__main__":
    if sys.argv[1] == "open":
        open_all(Path(sys.argv[2]))
    else:
        from common import SMALL, small_model

        seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
        kinds = [small_model(name).state_dict() for name in SMALL]
        results = fuzz(Path(sys.argv[2]), kinds, int(sys.argv[1]), seed)
        fuzz_common.report(results, int(sys.argv[1]))
