"""What travels with pixels: EXIF, profile, resolution, XMP, through every format."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import tifffile
from common import pattern
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

import paragon_archs
from paragon_archs.checkpoint import load_model
from paragon_archs.inference import (
    Picture,
    Upscaler,
    WriteOptions,
    read_picture,
    write_picture,
)
from paragon_archs.media.color import profile_of

GRAY = profile_of({b"gAMA": struct.pack(">I", 55_000)}, 1)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def upscaler():
    model = paragon_archs.create("paragonsr_nano", 2, num_groups=1, num_blocks=1)
    return Upscaler(load_model(model.state_dict()), "cpu")


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description dc:title="Sea" '
    b'tiff:Orientation="%d"/></x:xmpmeta>'
)


@pytest.mark.parametrize(
    ("kind", "orientation"),
    [(".jpg", n) for n in range(1, 9)]
    + [(kind, n) for kind in (".png", ".webp", ".tif", ".avif") for n in (1, 6)],
)
def test_orientation_is_applied_and_tags_are_kept(
    kind, orientation, tmp_path, upscaler
):
    stored = pattern(8, 14, 3)
    source = tmp_path / f"in{kind}"
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    exif.get_ifd(0x8769)[0xA002] = 14
    extra = {"exif": exif, "icc_profile": SRGB, "dpi": (300, 300), "quality": 100}
    packet = XMP % orientation
    if kind == ".png":
        extra["pnginfo"] = PngImagePlugin.PngInfo()
        extra["pnginfo"].add_itxt("XML:com.adobe.xmp", packet.decode())
    elif kind == ".tif":
        exif[700] = packet
        del extra["quality"]
        extra["exif"] = exif.tobytes()  # Pillow drops the parts of the object itself
    else:
        extra |= {"xmp": packet, "subsampling": "4:4:4"}
    Image.fromarray(stored).save(source, **extra)
    with Image.open(source) as image:
        image.load()
        wanted = np.asarray(ImageOps.exif_transpose(image))
    picture = read_picture(source)
    np.testing.assert_array_equal(picture.pixels, wanted)
    assert picture.size == ((14, 8) if orientation < 5 else (8, 14))
    for suffix in (".png", ".jpg", ".webp", ".tif", ".avif"):
        out = tmp_path / f"out{suffix}"
        write_picture(upscaler.picture(picture), out)
        with Image.open(out) as image:
            tags = image.getexif()
            assert tags.get(0x0112, 1) == 1
            assert tags[0x010F] == "Maker"
            assert tags.get_ifd(0x8769)[0xA002] == image.width
            assert image.info["icc_profile"] == SRGB
            xmp = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
            xmp = xmp.encode() if isinstance(xmp, str) else xmp
            # Upright, in words or, where Pillow turns TIFF, by leaving the tag out.
            assert xmp in (XMP % 1, (XMP % 1).replace(b'tiff:Orientation="1"', b""))
            # These formats have no field for it.
            if not {kind, suffix} & {".webp", ".avif"}:
                assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_png_chunks_are_valid(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    picture = read_png(tmp_path, exif)
    out = tmp_path / "out.png"
    write_picture(picture, out, WriteOptions(compression=9))
    data = out.read_bytes()[8:]
    kinds = []
    while data:
        size, kind = struct.unpack(">I4s", data[:8])
        (crc,) = struct.unpack(">I", data[8 + size : 12 + size])
        assert crc == zlib.crc32(data[4 : 8 + size])
        kinds.append(kind)
        data = data[12 + size :]
    assert kinds[0] == b"IHDR"
    assert {b"iCCP", b"pHYs", b"eXIf"} < set(kinds)


def read_png(tmp_path, exif):
    source = tmp_path / "in.png"
    info = PngImagePlugin.PngInfo()
    image = Image.fromarray(pattern(5, 6, 3))
    image.save(source, exif=exif, icc_profile=SRGB, dpi=(72, 144), pnginfo=info)
    return read_picture(source)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_tiff_of_16_bits_keeps_everything(channels, endian, tmp_path):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F], exif[0x0110], exif[0x4746] = "Maker", "Model 5", 4
    exif[256], exif[257] = 640, 480  # some cameras record sizes twice
    exif.get_ifd(0x8769).update(
        {0x829A: IFDRational(1, 4), 0xA002: 640, 0x927C: b"made\0\1\2"}
    )
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.5)})
    values = pattern(9, 13, channels, np.uint16)
    colors = 3 if channels > 2 else 1
    picture = Picture(
        values[..., :colors],
        None if channels == colors else values[..., colors],
        exif.tobytes(),
        SRGB if colors == 3 else GRAY,
        (300.0, 240.0),
        XMP % 1,
    )
    out = tmp_path / "out.tif"
    write_picture(picture, out)
    np.testing.assert_array_equal(tifffile.imread(out), values.squeeze())
    with tifffile.TiffFile(out) as pages:
        (page,) = pages.pages
        tags = page.tags
        codes = [tag.code for tag in tags]
        assert codes == sorted(set(codes))
        assert page.shape[:2] == (9, 13)
        assert tags[0x010F].value == "Maker" and tags[0x0110].value == "Model 5"
        assert tags[0x4746].value == 4
        assert tags[0x8769].value["ExposureTime"] == (1, 4)
        assert tags[0x8769].value["PixelXDimension"] == 13
        assert tags[0x8825].value["GPSLatitudeRef"] == "N"
        assert tags[34675].value == (SRGB if colors == 3 else GRAY)
        assert bytes(tags[700].value) == XMP % 1
        assert tags[282].value == (300, 1)
    read = read_picture(out).exif
    assert read is not None
    again = Image.Exif()
    again.load(read)
    assert again.get_ifd(0x8825)[2] == (48.0, 12.0, 30.5)
    assert again.get_ifd(0x8769)[0x927C] == b"made\0\1\2"


@pytest.mark.parametrize("suffix", [".tif", ".jpg", ".png", ".webp", ".avif"])
def test_exif_without_a_table_of_details(suffix, tmp_path):
    """libtiff refused the empty table that Pillow made when it was asked for one."""
    exif = Image.Exif()
    exif[0x010F], exif[256] = "Maker", 640
    Image.fromarray(pattern(9, 13, 3)).save(tmp_path / "in.jpg", exif=exif)
    out = tmp_path / f"out{suffix}"
    write_picture(read_picture(tmp_path / "in.jpg"), out)
    with Image.open(out) as image:
        assert image.getexif()[0x010F] == "Maker"
        assert image.getexif().get(256, 13) == 13
        assert 0x8769 not in image.getexif()


def test_a_broken_profile_of_cmyk_is_dropped(tmp_path, caplog):
    image = Image.fromarray(pattern(9, 13, 3)).convert("CMYK")
    image.save(tmp_path / "in.jpg", icc_profile=b"no profile")
    picture = read_picture(tmp_path / "in.jpg")
    assert picture.icc is None
    assert picture.pixels.shape == (9, 13, 3)
    assert "broken color profile" in caplog.text
