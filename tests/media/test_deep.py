"""Images of 9 to 16 bits a value keep them, whatever the format."""

from __future__ import annotations

import shutil
import subprocess

import imagecodecs
import numpy as np
import pytest

from paragon_archs.media import png
from paragon_archs.media.images import (
    Picture,
    read_picture,
    read_pixels,
    write_picture,
)

KINDS = [
    (suffix, bits, channels)
    for suffix, depths, counts in (
        (".ppm", (9, 10, 12, 16), (1, 3)),
        (".txt.ppm", (10, 16), (1, 3)),
        (".avif", (10, 12), (1, 3, 4)),
        (".heic", (10, 12), (3, 4)),
        (".jp2", (10, 12, 16), (1, 3)),
    )
    for bits in depths
    for channels in counts
]


def values(bits, channels):
    """Returns (17, 23, C) of all levels, the ends among them."""
    y, x = np.mgrid[:17, :23]
    ramps = (x / 22, y / 16, (x + y) / 38, 1 - (x + 2 * y) / 54)[:channels]
    return np.rint(np.stack(ramps, -1) * (2**bits - 1)).astype(np.uint16)


def write(array, suffix, bits, file):
    height, width, channels = array.shape
    if suffix.endswith(".ppm"):
        text = suffix == ".txt.ppm"
        kind = {(1, False): 5, (3, False): 6, (1, True): 2, (3, True): 3}
        head = f"P{kind[channels, text]}\n# from a scanner\n{width} {height}\n"
        body = array.astype(">u2").tobytes()
        if text:
            body = " ".join(map(str, array.ravel())).encode()
        file.write_bytes(f"{head}{2**bits - 1}\n".encode() + body)
    elif suffix == ".avif":
        how = {"pixelformat": "400"}
        if channels > 1:
            how = {"pixelformat": "444", "matrix": 0}
        data = imagecodecs.avif_encode(
            array.squeeze(), 100, bitspersample=bits, numthreads=1, **how
        )
        file.write_bytes(data)
    elif suffix == ".jp2":
        data = imagecodecs.jpeg2k_encode(
            array.squeeze(), level=0, bitspersample=bits, codecformat="jp2"
        )
        file.write_bytes(data)
    else:
        heif = pytest.importorskip("pillow_heif")
        mode = "RGB;16" if channels == 3 else "RGBA;16"
        wide = (array << (16 - bits)).astype("<u2").tobytes()
        image = heif.from_bytes(mode, (width, height), wide)
        before = heif.options.SAVE_HDR_TO_12_BIT
        heif.options.SAVE_HDR_TO_12_BIT = bits == 12
        try:
            image.save(file, quality=-1, chroma=444, matrix_coefficients=0)
        finally:
            heif.options.SAVE_HDR_TO_12_BIT = before


@pytest.mark.parametrize(("suffix", "bits", "channels"), KINDS)
def test_values_are_read_at_their_full_depth(suffix, bits, channels, tmp_path):
    array = values(bits, channels)
    file = tmp_path / f"in.{suffix.split('.')[-1]}"
    write(array, suffix, bits, file)
    wanted = np.rint(array * (65535 / (2**bits - 1))).astype(np.uint16)
    read = read_pixels(file)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, wanted)
    assert read_picture(file).bits == 16
    magick = shutil.which("convert-im6.q16") or shutil.which("magick")
    if magick and suffix in (".ppm", ".jp2"):  # it takes AVIF and HEIC through 4:2:0
        layout = "gray" if channels == 1 else "rgb"
        how = ["-depth", "16", "-endian", "LSB", f"{layout}:-"]
        theirs = subprocess.run([magick, file, *how], capture_output=True, check=True)
        got = np.frombuffer(theirs.stdout, "<u2").reshape(read.shape)
        assert np.abs(got.astype(int) - read).max() <= 1


@pytest.mark.parametrize(
    "head", [b"P6 30 20 1023\n", b"P5 30 20 65535\n", b"P3 9 9 999\n"]
)
def test_a_deep_ppm_that_is_cut_off_is_refused(head, tmp_path):
    file = tmp_path / "in.ppm"
    file.write_bytes(head + b"1 2 3 " * 9)
    with pytest.raises(ValueError, match="cut off"):
        read_picture(file)


@pytest.mark.parametrize(("primaries", "transfer"), [(9, 16), (12, 13)])
def test_what_avif_says_of_its_color_goes_on(primaries, transfer, tmp_path):
    """PQ of BT.2020 and Display P3, which have no profile in the file."""
    array = values(10, 3)
    how = {"primaries": primaries, "transfer": transfer, "matrix": 0}
    file = tmp_path / "in.avif"
    file.write_bytes(
        imagecodecs.avif_encode(
            array, 100, pixelformat="444", bitspersample=10, numthreads=1, **how
        )
    )
    picture = read_picture(file)
    assert picture.color == {b"cICP": bytes([primaries, transfer, 0, 1])}
    write_picture(picture, tmp_path / "out.png")
    assert read_picture(tmp_path / "out.png").color == picture.color


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
def test_png_files_are_small_and_whole(channels, dtype, tmp_path, monkeypatch):
    ramp = np.arange(40 * 30 * channels, dtype=np.uint32).reshape(40, 30, channels)
    pixels = (ramp * 7 % np.iinfo(dtype).max).astype(dtype)
    colors = 3 if channels >= 3 else 1
    alpha = pixels[..., colors] if channels > colors else None
    picture = Picture(pixels[..., :colors], alpha)
    monkeypatch.setattr(png, "_LONGEST", 64)
    write_picture(picture, tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    packed = [content for kind, content in png.chunks(data) if kind == b"IDAT"]
    assert len(packed) > 1
    assert max(map(len, packed)) <= 64
    assert sum(map(len, packed)) < pixels.nbytes / 2
    back = read_picture(tmp_path / "x.png")
    np.testing.assert_array_equal(back.pixels, picture.pixels)
    if alpha is not None:
        np.testing.assert_array_equal(back.alpha, alpha)
