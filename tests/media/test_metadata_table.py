"""Every cell of `docs/metadata.md`: input format x kind x output format."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from common import pattern
from PIL import Image, ImageCms, PngImagePlugin

import paragon_archs
from paragon_archs.media import png
from paragon_archs.media.color import profile_of
from paragon_archs.media.images import (
    Picture,
    WriteOptions,
    read_picture,
    write_picture,
)

DOCS = Path(paragon_archs.__file__).parents[1] / "docs"
if not (DOCS / "metadata.md").is_file():
    pytest.skip("needs the checkout", allow_module_level=True)

IPTC = b"\x1c\x02\x78\x00\x05Hello\x1c\x02\x50\x00\x02me"  # caption and author
P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
WIDE = profile_of({b"cHRM": P3, b"gAMA": struct.pack(">I", 45455)}, 3)
GRAY = profile_of({b"gAMA": struct.pack(">I", 100_000)}, 1)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r dc:title="Sea"/></x:xmpmeta>'
SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif"}


def tables():
    """Returns what is read and what is written, as {(row, column): cell}."""
    found = []
    text = (DOCS / "metadata.md").read_text()
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        lines = block.split("\n")
        rows = [[c.strip() for c in line.strip("|\n").split("|")] for line in lines]
        head, _, *body = rows
        found.append(
            {
                (r[0], h): c
                for r in body
                if len(r) > 1
                for h, c in zip(head[1:], r[1:], strict=True)
            }
        )
    return found


READ, WRITTEN = tables()


def suffix(name):
    return SUFFIXES.get(name, f".{name.lower()}")


def colorful():
    """Saturated colors, which another profile changes by more than coding does."""
    array = pattern(9, 13, 3)
    array[..., 1] = 255 - array[..., 0]
    array[..., 2] //= 4
    return array


def exif():
    block = Image.Exif()
    block[0x010F] = "Maker"
    block.get_ifd(0x8769)[0xA002] = 13
    return block


def write_png(file, kind, array):
    info = PngImagePlugin.PngInfo()
    extra = {"pnginfo": info}
    if kind == "text":
        info.add_text("Author", "me")
        info.add_text("parameters", "a tree, seed 1")
    elif kind == "comment":
        info.add_text("Comment", "gr\u00fc\u00df")
    elif kind == "XMP":
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    elif kind == "color":
        info.add(b"cHRM", P3)
        info.add(b"gAMA", struct.pack(">I", 45455))
    elif kind == "IPTC":
        rows = IPTC.hex()
        value = f"\niptc\n{len(IPTC):8}\n{rows}\n"
        info.add_text("Raw profile type iptc", value, zip=True)
    extra |= common(kind)
    Image.fromarray(array).save(file, **extra)


def common(kind):
    return {
        "EXIF": {"exif": exif()},
        "profile": {"icc_profile": WIDE},
        "gray profile": {"icc_profile": GRAY},
        "resolution": {"dpi": (300, 240)},
    }.get(kind, {})


def write_input(name, kind, file):
    """Writes a file of a format that holds a kind of metadata."""
    array = pattern(9, 13, 1)[..., 0] if "gray" in kind else colorful()
    image = Image.fromarray(array)
    if name == "PNG":
        write_png(file, kind, array)
    elif name == "TIFF":
        tags = {"XMP": (700, 1, XMP), "IPTC": (33723, 7, IPTC)}
        extra = (
            {"extratags": [(t, k, len(v), v, True) for t, k, v in [tags[kind]]]}
            if kind in tags
            else {}
        )
        if kind == "EXIF":
            image.save(file, exif=exif().tobytes())
            return
        if kind == "resolution":
            extra = {"resolution": (300, 240), "resolutionunit": "INCH"}
        if "profile" in kind:
            extra = {"iccprofile": common(kind)["icc_profile"]}
        color = "minisblack" if array.ndim == 2 else "rgb"
        tifffile.imwrite(
            file, array, photometric=color, metadata=None, software=False, **extra
        )
    else:
        extra = common(kind)
        if kind == "XMP":
            extra = {"xmp": XMP}
        elif kind == "comment":
            extra = {"comment": "gr\u00fc\u00df".encode()}
        elif kind == "resolution" and name in ("WEBP", "AVIF"):
            block = Image.Exif()
            block[282], block[283], block[296] = 300.0, 240.0, 2
            extra = {"exif": block.tobytes()}
        elif kind == "IPTC":
            odd = b"\0" * (len(IPTC) % 2)
            body = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + odd
            body = b"Photoshop 3.0\0" + body
            extra = {"extra": b"\xff\xed" + struct.pack(">H", len(body) + 2) + body}
        image.save(file, **extra)


def segments(data):
    at = 2
    while data[at + 1] != 0xDA:
        (size,) = struct.unpack_from(">H", data, at + 2)
        yield data[at + 1], data[at + 4 : at + 2 + size]
        at += 2 + size


def found_in(file, kind):
    """Returns what a file holds of a kind, read without this pack's reader."""
    data = file.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        info = image.info
        tags = image.getexif()
        details = tags.get_ifd(0x8769)
        if kind == "EXIF":
            return tags.get(0x010F), details.get(0xA002)
        if "profile" in kind:
            return info.get("icc_profile")
        if kind == "resolution":
            return (
                tuple(round(float(d)) for d in info["dpi"]) if "dpi" in info else None
            )
        if kind == "resolution in EXIF":
            return (
                tuple(round(float(tags[t])) for t in (282, 283))
                if 282 in tags
                else None
            )
        if kind == "XMP":
            xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or tags.get(700)
            return xmp.encode() if isinstance(xmp, str) else xmp
        if kind == "text":
            return info.get("Author"), info.get("parameters")
        if kind == "text in EXIF":
            return tags.get(0x013B), details.get(0x9286)
        if kind == "comment":
            value = info.get("comment") or info.get("Comment")
            return value if value is None or isinstance(value, str) else value.decode()
        if kind == "comment in EXIF":
            return details.get(0x9286)
        if kind == "color":
            chunks = dict(png.chunks(data)) if data.startswith(png.SIGNATURE) else {}
            return chunks.get(b"cHRM"), chunks.get(b"gAMA")
        if kind == "IPTC":
            if data.startswith(png.SIGNATURE):
                text = info.get("Raw profile type iptc")
                return text and bytes.fromhex("".join(text.split("\n")[3:]))
            if data.startswith(b"\xff\xd8"):
                parts = [c for k, c in segments(data) if k == 0xED]
                return parts[0][26 : 26 + len(IPTC)] if parts else None
            value = tags.get(33723)
            return value
    raise AssertionError(kind)


def comment_of(value):
    return value and (value[8:].decode("utf-16-be"))


KINDS = [row for row, column in WRITTEN if column == "PNG"]
OUTPUTS = [column for row, column in WRITTEN if row == "EXIF"]
INPUTS = [row for row, column in READ if column == "EXIF"]


def holds(name, kind):
    column = {"gray profile": "profile", "comment": "text"}.get(kind, kind)
    cell = READ[name, column]
    if kind == "text":
        return cell == "yes"
    if kind == "comment":
        return cell in ("yes", "comment")
    if kind == "gray profile" and name in ("WebP", "AVIF"):  # they store no gray
        return False
    return cell == "yes" or (kind == "resolution" and cell == "in EXIF")


CELLS = [(i, k, o) for i in INPUTS for k in KINDS for o in OUTPUTS if holds(i, k)]


@pytest.mark.parametrize(
    ("name", "kind", "output"), CELLS, ids=lambda v: v.replace(" ", "_")
)
def test_a_cell(name, kind, output, tmp_path, caplog):
    source = tmp_path / f"in{suffix(name)}"
    write_input(name.upper(), kind, source)
    picture = read_picture(source)
    twice = picture.with_pixels(picture.pixels.repeat(2, 0).repeat(2, 1), None)
    out = tmp_path / f"out{suffix(output)}"
    caplog.clear()
    write_picture(twice, out)
    cell = WRITTEN[kind, output]
    if cell == "-":
        assert kind == "resolution" or "left out" in caplog.text
        assert not any(v for v in np.atleast_1d(found_in(out, kind)))
        return
    assert not caplog.text
    if cell == "kept":
        wanted = {
            "EXIF": ("Maker", 26),
            "profile": WIDE,
            "gray profile": GRAY,
            "resolution": (300, 240),
            "XMP": XMP,
            "IPTC": IPTC,
            "text": ("me", "a tree, seed 1"),
            "comment": "gr\u00fc\u00df",
            "color": (P3, struct.pack(">I", 45455)),
        }[kind]
        assert found_in(out, kind) == wanted
    elif cell == "EXIF":
        found = found_in(out, f"{kind} in EXIF")
        if kind == "resolution":
            assert found == (300, 240)
        elif kind == "text":
            assert (found[0], comment_of(found[1])) == ("me", "a tree, seed 1")
        else:
            assert comment_of(found) == "gr\u00fc\u00df"
    elif cell == "profile":
        assert found_in(out, "profile") == WIDE
    else:
        assert cell == "sRGB"
        check_srgb(picture, kind, out)


def check_srgb(picture, kind, out):
    """Compares with littlecms, as exactly as the format keeps."""
    profile = GRAY if kind == "gray profile" else WIDE
    plain = Image.fromarray(picture.pixels.squeeze())
    srgb = ImageCms.createProfile("sRGB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    wanted = ImageCms.profileToProfile(plain, source, srgb, outputMode="RGB")
    written = np.asarray(Image.open(out).convert("RGB"))[::2, ::2].astype(int)
    off = np.abs(written - np.asarray(wanted))
    # Lossy coding and 256 colors; unconverted pixels are off by far more.
    assert off.mean() <= 3 and np.abs(written - picture.pixels).max() > 12
    held = Image.open(out).info.get("icc_profile")
    if out.suffix in (".webp", ".avif"):
        assert "sRGB" in ImageCms.getProfileDescription(
            ImageCms.ImageCmsProfile(io.BytesIO(held))
        )
    else:
        assert held is None


def test_the_tables_are_whole():
    assert len(CELLS) > 250
    assert set(WRITTEN.values()) == {"kept", "EXIF", "profile", "sRGB", "-"}


def test_a_profile_made_of_chunks_says_the_same():
    """Against littlecms' own sRGB, built from the same primaries and curve."""
    made = profile_of({b"cICP": bytes([1, 8, 0, 1])}, 3)
    image = Image.fromarray(pattern(9, 13, 3))
    srgb = ImageCms.createProfile("sRGB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(made))
    got = np.asarray(ImageCms.profileToProfile(image, source, srgb)).astype(float)
    linear = np.asarray(image) / 255
    wanted = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    assert np.abs(got / 255 - wanted).max() < 0.01


@pytest.mark.parametrize("size", [70_000, 1_500_000])
@pytest.mark.parametrize("kind", ["exif", "xmp", "text", "icc"])
@pytest.mark.parametrize("output", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_what_is_large_costs_no_picture(size, kind, output, tmp_path, caplog):
    block = Image.Exif()
    block[0x010F], block[0x010E] = "Maker", "x" * size
    extra = {
        "exif": {"exif": block.tobytes()},
        "xmp": {"xmp": XMP + b" " * size},
        "text": {"text": (("workflow", "y" * size),)},
        "icc": {"icc": WIDE + bytes(size)},
    }[kind]
    picture = read_picture(save_plain(tmp_path))
    for name, value in extra.items():
        setattr(picture, name, value)
    write_picture(picture, tmp_path / "large.png")
    again = read_picture(tmp_path / "large.png")
    assert getattr(again, kind) == getattr(picture, kind) or kind == "exif"
    out = tmp_path / f"out{output}"
    write_picture(again, out)
    assert read_picture(out).size == (13, 9)
    if output == ".jpg" and kind in ("exif", "xmp"):
        assert "64 KB" in caplog.text
        if kind == "exif":
            assert found_in(out, "EXIF")[0] == "Maker"


def save_plain(tmp_path):
    file = tmp_path / "plain.png"
    Image.fromarray(pattern(9, 13, 3)).save(file)
    return file


@pytest.mark.parametrize("factor", [2, 3])
def test_sizes_in_xmp_are_scaled_and_stale_parts_dropped(factor, tmp_path, caplog):
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description '
        b'GPano:FullPanoWidthPixels="13" GPano:CroppedAreaTopPixels="4" '
        b'tiff:ImageLength="9" GCamera:MicroVideo="1" GCamera:MicroVideoOffset="77" '
        b'xmpNote:HasExtendedXMP="ABC"><GPano:CroppedAreaImageWidthPixels>13'
        b"</GPano:CroppedAreaImageWidthPixels><GContainer:Directory><rdf:Seq>"
        b"<rdf:li/></rdf:Seq></GContainer:Directory></rdf:Description></x:xmpmeta>"
    )
    buffer = io.BytesIO()
    Image.fromarray(pattern(9, 13, 3)).save(buffer, "JPEG", xmp=xmp)
    file = tmp_path / "in.jpg"
    file.write_bytes(buffer.getvalue() + b"\0\0\0\x18ftypmp42" + b"v" * 500)
    picture = read_picture(file)
    assert "motion photo's video" in caplog.text
    large = picture.pixels.repeat(factor, 0).repeat(factor, 1)
    write_picture(picture.with_pixels(large, None), tmp_path / "out.jpg")
    got = found_in(tmp_path / "out.jpg", "XMP").decode()
    assert f'FullPanoWidthPixels="{13 * factor}"' in got
    assert f'CroppedAreaTopPixels="{4 * factor}"' in got
    assert f'ImageLength="{9 * factor}"' in got
    assert f"ImageWidthPixels>{13 * factor}<" in got
    for gone in ("MicroVideo", "HasExtendedXMP", "Directory", "ftyp"):
        assert gone not in got


def test_text_of_exif_keeps_its_bytes(tmp_path):
    picture = read_picture(Path(__file__).parent / "cases" / "F14.jpg")
    for output in (".png", ".jpg", ".webp", ".tif", ".avif"):
        write_picture(picture, tmp_path / f"out{output}")
        again = read_picture(tmp_path / f"out{output}")
        for text in ("\u65e5\u672c\u8a9e", "Jos\u00e9", "\u00a9 2024"):
            assert text.encode() in again.exif


def test_a_makers_note_stays_where_it_stood(tmp_path):
    """Its own offsets count from the block's start."""
    note = b"own\0" + bytes(range(96))
    block = exif()
    block.get_ifd(0x8769)[0x927C] = note
    block.get_ifd(0x8825)[1] = "N"
    block[0x0112] = 6
    Image.fromarray(pattern(9, 13, 3)).save(tmp_path / "in.jpg", exif=block.tobytes())
    stored = (tmp_path / "in.jpg").read_bytes()
    for output in (".png", ".jpg", ".webp", ".avif"):
        out = tmp_path / f"out{output}"
        write_picture(read_picture(tmp_path / "in.jpg"), out)
        again = read_picture(out)
        at = block_of(again.exif).index(note)
        assert at == block_of(stored[stored.index(b"Exif\0\0") :]).index(note)
        tags = Image.Exif()
        tags.load(again.exif)
        assert tags.get_ifd(0x8825)[1] == "N"


def block_of(data):
    return data.removeprefix(b"Exif\0\0")


def test_a_compressed_chunk_that_grows_without_end_is_left_out(tmp_path, caplog):
    bomb = b"Author\0\0" + zlib.compress(bytes(2**27), 9)
    data = save_plain(tmp_path).read_bytes()
    (tmp_path / "in.png").write_bytes(data[:33] + png.chunk(b"zTXt", bomb) + data[33:])
    assert read_picture(tmp_path / "in.png").size == (13, 9)
    assert "more than 64 MB" in caplog.text


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossless_avif_keeps_every_value(channels, tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (19, 33, channels)).astype(np.uint8)
    colors = 3 if channels > 2 else 1
    alpha = None if channels == colors else values[..., colors]
    out = tmp_path / "out.avif"
    write_picture(
        Picture(values[..., :colors], alpha), out, WriteOptions(lossless=True)
    )
    again = read_picture(out)
    wide = values[..., :colors].repeat(3 // colors, axis=2)
    np.testing.assert_array_equal(again.pixels, wide)
    if alpha is not None:
        np.testing.assert_array_equal(again.alpha, alpha)
