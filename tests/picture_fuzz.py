"""Pictures that are damaged at random, by a seed.

`python tests/picture_fuzz.py FOLDER COUNT [SEED]` writes more than the suite tries.
"""

from __future__ import annotations

import io
import random
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
# Numbers that parsers trip over, in place of lengths, counts and offsets.
TRAPS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x10000, 0xFFFF)


def seeds() -> dict[str, list[bytes]]:
    """Returns whole files by their suffix, with metadata of every kind."""
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (12, 16, 4)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769).update({0xA002: 16, 0x927C: b"note" * 9})
    exif.get_ifd(0x8825)[1] = "N"
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "me")
    info.add_text("parameters", "a tree" * 9, zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    info.add(b"gAMA", struct.pack(">I", 45455))
    more = {"exif": exif, "xmp": XMP}
    rgb = Image.fromarray(colors[..., :3])
    palette = rgb.quantize(16)
    found: dict[str, list[bytes]] = {}

    def add(suffix: str, image: Image.Image, name: str, **extra: object) -> None:
        buffer = io.BytesIO()
        image.save(buffer, name, **extra)
        found.setdefault(suffix, []).append(buffer.getvalue())

    rgba = Image.fromarray(colors)
    add("png", rgba, "PNG", pnginfo=info, exif=exif, dpi=(72, 72))
    add("png", palette, "PNG", transparency=3)
    add("jpg", rgb, "JPEG", comment=b"said", dpi=(300, 300), **more)
    add("jpg", rgb, "JPEG", progressive=True, icc_profile=bytes(200))
    add("jpg", rgb.convert("CMYK"), "JPEG")
    add("webp", rgba, "WEBP", lossless=True, **more)
    add("gif", palette, "GIF", save_all=True, append_images=[palette], comment=b"x")
    add("avif", rgb, "AVIF", speed=9, xmp=XMP)
    for suffix, name in (("bmp", "BMP"), ("ppm", "PPM"), ("tga", "TGA")):
        add(suffix, rgb, name)
    add("ico", rgb, "ICO", sizes=[(16, 12)])
    for suffix, name in (("pcx", "PCX"), ("jp2", "JPEG2000")):
        add(suffix, rgb, name)
    add("tif", rgb, "TIFF", exif=exif.tobytes())
    add("tif", rgb.convert("CMYK"), "TIFF")
    deep = colors.astype(np.uint16) * 257
    for extra in (
        {"compression": "deflate", "predictor": True, "photometric": "rgb"},
        {"photometric": "rgb", "extrasamples": ["ASSOCALPHA"], "bigtiff": True},
        {"photometric": "rgb", "tile": (16, 16), "compression": "packbits"},
    ):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, deep, **extra)  # type: ignore[arg-type]
        found["tif"].append(buffer.getvalue())
    found["ppm"].append(b"P6 16 12 1023\n" + (deep[..., :3] >> 6).byteswap().tobytes())
    ten = (deep[..., :3] >> 6).copy()
    how = {"pixelformat": "444", "bitspersample": 10, "numthreads": 1}
    found["avif"].append(imagecodecs.avif_encode(ten, 90, **how))
    found["jp2"].append(imagecodecs.jpeg2k_encode(ten, bitspersample=10))
    return found


def damaged(data: bytes, random_: random.Random) -> bytes:
    """Returns a file with one or two faults."""
    out = bytearray(data)
    for _ in range(random_.randint(1, 2)):
        if len(out) < 12:
            break
        at = random_.randrange(len(out) - 4)
        # Headers hold the lengths and offsets that break parsers.
        at = at if random_.random() < 0.4 else at % min(len(out) - 4, 200)
        kind = random_.randrange(7)
        if kind == 0:
            out[at] ^= 1 << random_.randrange(8)
        elif kind == 1:
            order = random_.choice("<>")
            out[at : at + 4] = struct.pack(f"{order}I", random_.choice(TRAPS))
        elif kind == 2:
            order = random_.choice("<>")
            out[at : at + 2] = struct.pack(f"{order}H", random_.choice(TRAPS) & 0xFFFF)
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            out[at:at] = out[at : at + random_.randrange(1, 64)]
        elif kind == 5:
            del out[at : at + random_.randrange(1, 64)]
        else:
            out[at : at + 8] = random_.randbytes(8)
    if out[:4] == b"\x89PNG" and random_.random() < 0.7:
        return with_checksums(bytes(out))
    return bytes(out)


def with_checksums(data: bytes) -> bytes:
    """Returns a PNG file whose chunks' sums are right, so that parsers go deeper."""
    out, at = [data[:8]], 8
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + size]
        if at + 12 + size > len(data):
            break
        out += [data[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + size
    return b"".join([*out, data[at:]])


def files(count: int, seed: int = 16) -> Iterator[tuple[str, bytes]]:
    """Yields names and contents of damaged files."""
    random_ = random.Random(seed)
    whole = [(s, data) for s, held in seeds().items() for data in held]
    for number in range(count):
        suffix, data = whole[number % len(whole)]
        yield f"bad{number:05}.{suffix}", damaged(data, random_)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files(int(sys.argv[2]), *map(int, sys.argv[3:])):
        (folder / name).write_bytes(content)
