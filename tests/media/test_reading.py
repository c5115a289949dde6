"""Pixels as they are meant, of every layout; damaged metadata costs no picture."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
from common import pattern
from PIL import Image

from paragon_archs.data.reading import UnreadableImageError, read_image
from paragon_archs.media import png
from paragon_archs.media.images import read_picture, read_pixels, write_picture

CASES = Path(__file__).parent / "cases"


def values(picture):
    layers = [picture.pixels]
    if picture.alpha is not None:
        layers.append(picture.alpha[..., None])
    return np.concatenate(layers, axis=2)


# ImageMagick's values.
@pytest.mark.parametrize(
    ("name", "shape", "dtype", "at_0_0", "at_12_10"),
    [
        ("F02_b_big.tif", (24, 32, 3), np.uint8, (0, 0, 128), (82, 133, 72)),
        ("F04_gray.tif", (32, 24, 1), np.uint8, (97,), (97,)),
        ("F04_gray16.tif", (32, 24, 1), np.uint16, (24929,), (24929,)),
        ("F04_rgba.tif", (32, 24, 4), np.uint8, (200, 60, 20, 255), None),
        ("F05.tif", (24, 24, 4), np.uint16, (65535,) * 4, (0, 32768, 0, 32768)),
        ("F06.tif", (24, 24, 1), np.uint16, (65535,), (16383,)),
        ("F08.tif", (24, 32, 3), np.uint16, (0, 0, 32768), None),
        ("F09_la16.tif", (24, 24, 2), np.uint16, (65535, 65535), (0, 65535)),
        ("F10_g16.png", (24, 24, 2), np.uint16, (0, 65535), (49152, 65535)),
        ("F10_g2.png", (24, 24, 2), np.uint8, (0, 255), (170, 255)),
    ],
)
def test_right_values(name, shape, dtype, at_0_0, at_12_10):
    read = values(read_picture(CASES / name))
    assert read.shape == shape and read.dtype == dtype
    assert tuple(read[0, 0]) == at_0_0
    if at_12_10 is not None:
        assert tuple(read[12, 10]) == at_12_10


@pytest.mark.parametrize(
    "name", ["F04_gray.tif", "F04_gray16.tif", "F04_rgba.tif", "F06.tif", "F08.tif"]
)
def test_values_are_imagemagicks(name, tmp_path):
    magick = shutil.which("convert-im6.q16") or shutil.which("magick")
    if magick is None:
        pytest.skip("needs ImageMagick")
    read = values(read_picture(CASES / name))
    kind = {1: "gray", 3: "rgb", 4: "rgba"}[read.shape[2]]
    out = tmp_path / "out.raw"
    how = ["-auto-orient", "-depth", str(read.itemsize * 8), "-endian", "LSB"]
    subprocess.run([magick, CASES / name, *how, f"{kind}:{out}"], check=True)
    theirs = np.fromfile(out, read.dtype).reshape(read.shape)
    np.testing.assert_array_equal(read, theirs)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["gray", "rgb", "rgba", "gray16"])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
def test_tiff_is_turned_once(orientation, kind, compression, tmp_path):
    channels = {"gray": 1, "gray16": 1, "rgb": 3, "rgba": 4}[kind]
    stored = pattern(8, 14, channels, np.uint16 if kind == "gray16" else np.uint8)
    file = tmp_path / "in.tif"
    tifffile.imwrite(
        file,
        stored.squeeze(),
        photometric="rgb" if channels > 1 else "minisblack",
        compression=compression,
        extratags=[(0x0112, 3, 1, orientation, True)],
    )
    turns = {  # where the stored first row and column are to be
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).transpose(1, 0, 2),
        8: np.rot90(stored, 1),
    }
    np.testing.assert_array_equal(values(read_picture(file)), turns[orientation])


@pytest.mark.parametrize("bits", [9, 10, 12, 14])
def test_depths_between_8_and_16_bits_fill_the_range(bits, tmp_path):
    most = 2**bits - 1
    stored = np.arange(24 * 32 * 3).reshape(24, 32, 3).astype(np.uint16) % (most + 1)
    stored[0, 0] = most
    file = tmp_path / "in.tif"
    tifffile.imwrite(file, stored, photometric="rgb", bitspersample=bits)
    picture = read_picture(file)
    wanted = np.rint(stored / most * 65535).astype(np.uint16)
    np.testing.assert_array_equal(picture.pixels, wanted)
    assert picture.pixels.max() == 65535


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("predictor", [False, True])
def test_floating_values_are_0_to_1(dtype, predictor, tmp_path, caplog):
    stored = (pattern(9, 13, 3, np.uint16) / 65535).astype(dtype)
    stored[0, 0] = 2.0, np.nan, -1.0
    file = tmp_path / "in.tif"
    tifffile.imwrite(
        file, stored, photometric="rgb", compression="deflate", predictor=predictor
    )
    read = read_picture(file).pixels
    assert tuple(read[0, 0]) == (65535, 0, 0)
    wanted = np.rint(stored.astype(np.float32)[1:] * 65535)
    np.testing.assert_array_equal(read[1:], wanted.astype(np.uint16))
    assert "clipped" in caplog.text


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
def test_associated_alpha_is_taken_out(dtype, channels, tmp_path):
    most = np.iinfo(dtype).max
    straight = pattern(9, 13, channels, dtype)
    alpha = straight[..., -1:].astype(np.float64)
    alpha[0] = 0
    stored = straight.astype(np.float64)
    stored[..., :-1] = np.rint(stored[..., :-1] * alpha / most)
    stored[..., -1:] = alpha
    tifffile.imwrite(
        tmp_path / "in.tif",
        stored.astype(dtype),
        photometric="rgb" if channels == 4 else "minisblack",
        planarconfig="contig",
        extrasamples=["ASSOCALPHA"],
    )
    read = values(read_picture(tmp_path / "in.tif"))
    assert not read[0].any()
    np.testing.assert_array_equal(read[..., -1:], alpha)
    # What 8 bits lost when they were multiplied is lost.
    off = np.abs(read[1:, :, :-1].astype(float) - straight[1:, :, :-1])
    assert off.max() <= np.ceil(most / alpha[1:].min() / 2)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
def test_white_is_zero_is_inverted(dtype, tmp_path):
    most = 1 if dtype is bool else np.iinfo(dtype).max
    stored = (np.arange(24 * 16).reshape(24, 16) * 7 % (most + 1)).astype(dtype)
    tifffile.imwrite(tmp_path / "in.tif", stored, photometric="miniswhite")
    read = read_picture(tmp_path / "in.tif").pixels[..., 0]
    full = np.iinfo(read.dtype).max
    np.testing.assert_array_equal(
        read, full - stored.astype(read.dtype) * (full // most)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_what_is_written_is_read(dtype, channels, suffix, tmp_path):
    stored = pattern(9, 13, channels, dtype)
    first, second = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    if suffix == ".tif":
        color = "rgb" if channels > 2 else "minisblack"
        extra = {"extrasamples": ["UNASSALPHA"]} if channels in (2, 4) else {}
        if extra:
            extra["planarconfig"] = "contig"
        tifffile.imwrite(first, stored.squeeze(), photometric=color, **extra)
    else:
        colors = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
        rows = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
        first.write_bytes(bare_png(rows, 13, 9, colors, stored.itemsize * 8))
    for file in (first, second):
        np.testing.assert_array_equal(values(read_picture(file)), stored)
        assert read_pixels(file.read_bytes()).shape == stored.shape
        write_picture(read_picture(file), second)


def bare_png(rows, width, height, color, bits):
    import zlib

    step = len(rows) // height
    lines = b"".join(b"\0" + rows[n * step : (n + 1) * step] for n in range(height))
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return png.SIGNATURE + b"".join(png.chunk(*part) for part in parts)


def jpeg_bytes(**extra):
    buffer = io.BytesIO()
    Image.fromarray(pattern(48, 64, 3)).save(buffer, "JPEG", quality=90, **extra)
    return buffer.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_marker_is_read(progressive, tmp_path, caplog):
    whole = jpeg_bytes(progressive=progressive)
    file = tmp_path / "in.jpg"
    file.write_bytes(whole)
    wanted = read_picture(file).pixels
    file.write_bytes(whole[:-2])
    np.testing.assert_array_equal(read_picture(file).pixels, wanted)
    assert "end marker" in caplog.text


@pytest.mark.parametrize("share", [0.6, 0.9, 0.97])
def test_a_jpeg_that_is_cut_short_is_refused(share, tmp_path):
    whole = jpeg_bytes()
    file = tmp_path / "in.jpg"
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"cut off|Truncated"):
        read_picture(file)
    with pytest.raises(UnreadableImageError):
        read_image(file, 3)


def tag(kind, count, value):
    return b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, kind, count) + value


@pytest.mark.parametrize(
    "exif",
    [
        tag(2, 9, b"\xff\xff\xff\xff"),
        tag(5, 1, b"\x1a\0\0\0"),
        tag(3, 4_000_000_000, b"\6\0\0\0"),
        tag(99, 1, b"\6\0\0\0"),
        tag(3, 1, b"\x99\x99\0\0"),
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0nothing of this kind",
        b"Exif\0\0",
    ],
    ids="text far_ratio huge_count unknown_type number offset header empty".split(),
)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif"])
def test_broken_exif_costs_no_picture(exif, suffix, tmp_path):
    file = tmp_path / f"in{suffix}"
    extra = {} if suffix == ".avif" else {"exif": exif}  # its encoder parses it
    Image.fromarray(pattern(16, 24, 3)).save(file, **extra)
    picture = read_picture(file)
    assert picture.size == (24, 16)
    for out in (".jpg", ".png", ".webp", ".tif", ".avif"):
        write_picture(picture, tmp_path / f"out{out}")
        assert read_picture(tmp_path / f"out{out}").size == (24, 16)


def test_exif_of_a_wrong_type_costs_no_picture():
    assert read_picture(CASES / "F01_c_bad.jpg").size == (8, 8)


def test_a_picture_is_what_its_bytes_are_and_never_a_program(tmp_path):
    file = tmp_path / "in.png"
    file.write_bytes(jpeg_bytes())
    assert read_picture(file).format == "JPEG"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(ValueError, match="no known format"):
        read_picture(file)


@pytest.mark.parametrize("count", range(20))
@pytest.mark.parametrize("start", [b"", b"x", b"GIF89a", b"P6", b"BM", b"RIFF"])
def test_a_few_bytes_get_no_words_of_a_parser(start, count, tmp_path):
    file = tmp_path / "in.jpg"
    file.write_bytes(start + bytes(count))
    with pytest.raises(ValueError, match="to be a whole image") as caught:
        read_picture(file)
    assert "unpack" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".heic", ".heif", ".jxl"])
def test_formats_that_are_not_installed_are_named(suffix, tmp_path):
    package = {"jxl": "pillow_jxl"}.get(suffix[1:], "pillow_heif")
    file = tmp_path / f"in{suffix}"
    file.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    try:
        __import__(package)
    except ImportError:
        with pytest.raises(ImportError, match="pip install pillow"):
            read_picture(file)


@pytest.mark.parametrize("name", ["in.psd", "in.svg", "in.cr2"])
def test_formats_that_are_no_pixels_are_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"8BPS")
    with pytest.raises(ValueError, match="Convert it to"):
        read_picture(tmp_path / name)
