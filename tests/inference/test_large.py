"""Results that memory may not hold: written row by row, or refused before any work."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
import torch
from common import pattern
from PIL import Image

from paragon_archs.cli.upscale import main
from paragon_archs.inference import (
    Picture,
    Upscaler,
    WriteOptions,
    large,
    memory,
    read_picture,
    write_picture,
)
from paragon_archs.inference.jobs import plan
from paragon_archs.inference.jobs import run as run_jobs
from paragon_archs.inference.overlap import prefetch
from paragon_archs.media import png
from paragon_archs.media.alpha import fill_clear
from paragon_archs.media.jpeg import jpeg_quality
from paragon_archs.media.opening import look, read_size
from paragon_archs.weights import available

MODELS = ("paragonsr2_realtime_x2", "paragonsr2_stream_x2")
LAYOUTS = {"gray": 1, "gray alpha": 2, "rgb": 3, "rgba": 4}


@pytest.fixture(scope="module", params=MODELS)
def upscaler(request):
    return Upscaler(available()[request.param], "cpu", memory="1M")


def source(layout, dtype, file):
    """Writes a picture with metadata, 60 rows high so that it takes several strips."""
    values = pattern(60, 37, LAYOUTS[layout], dtype)
    colors = 3 if values.shape[2] >= 3 else 1
    alpha = values[..., colors] if values.shape[2] > colors else None
    picture = Picture(values[..., :colors], alpha, dpi=(300, 300))
    write_picture(picture, file)
    return picture


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_rows_are_the_whole_picture(
    layout, dtype, suffix, upscaler, tmp_path, monkeypatch
):
    if suffix == ".ppm" and "a" in layout.split("gray")[-1]:
        pytest.skip("holds no alpha")
    before = tmp_path / "in.png"
    source(layout, dtype, before)
    outputs = [tmp_path / f"{name}{suffix}" for name in ("whole", "rows")]
    for output in outputs:
        assert not run_jobs(upscaler, plan([before], output), WriteOptions())
        monkeypatch.setattr(large, "_WHOLE", 1)
        monkeypatch.setattr(Upscaler, "picture", None)  # what holds the result
    whole, rows = (read_picture(output) for output in outputs)
    np.testing.assert_array_equal(whole.pixels, rows.pixels)
    assert whole.pixels.dtype == dtype
    assert (whole.alpha is None) == (rows.alpha is None)
    if whole.alpha is not None:
        np.testing.assert_array_equal(whole.alpha, rows.alpha)
    assert whole.metadata == rows.metadata
    if (layout, dtype, suffix) != ("gray alpha", np.uint16, ".tif"):
        with Image.open(outputs[1]) as opened:  # another reader, which lacks that
            assert opened.size == (74, 120)


@pytest.mark.parametrize("level", [None, 0, 9])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
def test_png_of_rows_is_read_by_others(level, channels, dtype, tmp_path):
    array = pattern(30, 11, channels, dtype)
    bands = iter([array[:1], array[1:17], array[17:]])
    file = tmp_path / "out.png"
    about = Picture(array[..., :1]).metadata
    file.write_bytes(b"".join(png.encoded(bands, (11, 30), about, level)))
    read = read_picture(file)
    layers = [read.pixels] + ([] if read.alpha is None else [read.alpha[..., None]])
    np.testing.assert_array_equal(np.concatenate(layers, axis=2), array)


def test_half_precision_that_spoils_late_rows_is_done_again(
    upscaler, tmp_path, monkeypatch
):
    monkeypatch.setattr(large, "_WHOLE", 1)
    source("rgb", np.uint8, tmp_path / "in.png")
    rows, spoiled = Upscaler.rows, []

    def once(self, *arguments):
        for index, band in enumerate(rows(self, *arguments)):
            if index and not spoiled:
                spoiled.append(index)
                raise large.SpoiledError
            yield band

    monkeypatch.setattr(Upscaler, "rows", once)
    jobs = plan([tmp_path / "in.png"], tmp_path / "out.png")
    assert not run_jobs(upscaler, jobs, WriteOptions()) and spoiled
    wanted = upscaler.picture(read_picture(tmp_path / "in.png"))
    np.testing.assert_array_equal(
        read_picture(tmp_path / "out.png").pixels, wanted.pixels
    )


@pytest.mark.parametrize("large", [False, True])
def test_large_pictures_are_not_read_far_ahead(large):
    """Four of 600 MB stood in memory where one was computed."""
    made: list[int] = []

    def items():
        for number in range(4):
            made.append(number)
            yield number

    ahead = []
    for number in prefetch(items(), 2, alone=lambda _: large):
        ahead.append(len(made) - number)
    assert max(ahead) <= (2 if large else 4)
    assert len(ahead) == 4


def test_bands_of_a_filled_picture_are_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (700, 20, 3), np.uint8)
    alpha = np.where(rng.random((700, 20)) < 0.002, 255, 0).astype(np.uint8)
    whole = fill_clear(pixels, alpha)
    monkeypatch.setattr("paragon_archs.media.alpha._BAND", 1)
    np.testing.assert_array_equal(fill_clear(pixels, alpha), whole)


def claims(side, file):
    """Writes a file of `side` x `side` gray pixels, which are zeros, row by row."""
    if file.suffix == ".tif":
        tifffile.imwrite(file, shape=(side, side), dtype=np.uint8)
    elif file.suffix == ".pgm":
        with file.open("wb") as out:
            out.write(f"P5 {side} {side} 255\n".encode())
            out.truncate(out.tell() + side * side)
    elif file.suffix == ".jpg":
        Image.new("L", (side, side)).save(file)
    else:
        packer = zlib.compressobj(1)
        rows = bytes(side + 1) * 100
        packed = [packer.compress(rows) for _ in range(side // 100)]
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        parts = [(b"IHDR", header), (b"IDAT", b"".join([*packed, packer.flush()]))]
        chunks = [png.chunk(*part) for part in [*parts, (b"IEND", b"")]]
        file.write_bytes(png.SIGNATURE + b"".join(chunks))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm", ".jpg"])
def test_200_megapixels_are_no_bomb(suffix, tmp_path, recwarn):
    file = tmp_path / f"in{suffix}"
    claims(14_200, file)
    assert read_size(file) == (14_200, 14_200)
    seen = look(file)
    assert seen is not None and (seen.channels, seen.alpha) == (1, False)
    if suffix == ".jpg":
        assert jpeg_quality(file) == 75
    assert not [w for w in recwarn if "Decompression" in type(w.message).__name__]


REFUSED = {
    "jpg": ([], "Choose PNG, TIFF or PPM"),
    "png --tta": (["--tta"], "Leave out --tta"),
    "png --downscale": (["--downscale", "2"], "Leave out --tta"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_results_that_do_not_fit_are_refused_before_any_work(
    case, tmp_path, monkeypatch, capsys
):
    flags, advice = REFUSED[case]
    claims(14_000, tmp_path / "a.pgm")
    Image.fromarray(pattern(6, 5, 3)).save(tmp_path / "b.png")
    monkeypatch.setattr(memory, "free_memory", lambda: 0.9 * 2**30)
    command = [str(tmp_path / "*.p*"), "-o", str(tmp_path / "out"), *flags]
    command += ["--format", case[:3], "--model", "paragonsr2_realtime_x2"]
    command += ["--device", "cpu"]
    assert main(command) == 1
    printed = capsys.readouterr().err
    assert re.search(r"a\.pgm.* of 0\.7 GB", printed) and advice in printed
    assert [p.stem for p in (tmp_path / "out").iterdir()] == ["b"]


def test_a_network_whose_features_do_not_fit_is_named(tmp_path, monkeypatch, capsys):
    claims(14_000, tmp_path / "a.pgm")
    monkeypatch.setattr(memory, "free_memory", lambda: 8 * 2**30)
    command = [str(tmp_path / "a.pgm"), "-o", str(tmp_path / "out.png")]
    assert main([*command, "--model", "paragonsr_nano_x4", "--device", "cpu"]) == 1
    assert "Choose a network that keeps none" in capsys.readouterr().err
    for name in ("paragonsr2_realtime_x2", "paragonsr2_realtime_x4"):
        upscaler = Upscaler(available()[name], torch.device("cpu"))
        assert upscaler.runner.least((14_000, 14_000)) < 2**29


# A process's peak begins at its parent's: one without torch stands between.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other units, other C libraries")
def test_a_memory_limit_is_what_the_process_takes(tmp_path):
    """The stream tier's strips have wide margins, and maps of many sizes."""
    source = tmp_path / "hd.png"
    Image.fromarray(pattern(720, 1280, 3)).save(source)
    command = [sys.executable, "-m", "paragon_archs", "upscale", source, "--device"]
    command += ["cpu", "--model", "paragonsr2_stream_x2", "--backend", "torch"]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *command, "--memory", "1300M"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) * 1024 <= 1300 * 2**20
