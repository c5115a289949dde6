"""`paragon upscale` on images: every kind that comes in, and every way to go wrong."""

from __future__ import annotations

import struct
import sys
import threading
import zlib

import cv2
import numpy as np
import pytest
import tifffile
import torch
from common import pattern
from PIL import Image
from safetensors.torch import save

from paragon_archs.cli.upscale import main
from paragon_archs.inference import Upscaler, WriteOptions, read_picture, write_picture
from paragon_archs.inference.jobs import plan
from paragon_archs.inference.jobs import run as run_jobs
from paragon_archs.media import png


def draw(kind, file):
    """Writes an image of a kind and returns its pixels as they should be read."""
    gray, rgb, rgba = (pattern(9, 13, n) for n in (1, 3, 4))
    deep = pattern(9, 13, 4, np.uint16)
    if kind == "gray":
        Image.fromarray(gray[..., 0]).save(file)
        read = np.asarray(Image.open(file))  # WebP and AVIF hold it as RGB
        return read[..., None] if read.ndim == 2 else read
    if kind == "gray alpha":
        both = np.concatenate([gray, rgba[..., 3:]], axis=2)
        Image.fromarray(both).save(file)
        return both
    if kind == "gray alpha 16":
        both = deep[..., [0, 3]]
        rows = both.astype(">u2").reshape(9, -1).view(np.uint8)
        parts = [(b"IHDR", struct.pack(">IIBBBBB", 13, 9, 16, 4, 0, 0, 0))]
        parts += [(b"IDAT", zlib.compress(b"".join(b"\0" + r.tobytes() for r in rows)))]
        data = b"\x89PNG\r\n\x1a\n"
        for name, body in [*parts, (b"IEND", b"")]:
            crc = zlib.crc32(name + body)
            data += struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)
        file.write_bytes(data)
        return both
    if kind == "palette":
        image = Image.fromarray(rgb).quantize(16)
        image.save(file)
        return np.asarray(Image.open(file).convert("RGB"))
    if kind == "clear palette":
        image = Image.fromarray(rgb).quantize(16)
        image.save(file, transparency=3)
        return np.asarray(Image.open(file).convert("RGBA"))
    if kind == "bits":
        image = Image.fromarray(rgb).convert("1")
        image.save(file)
        return np.asarray(image)[..., None] * np.uint8(255)
    if kind == "cmyk":
        image = Image.fromarray(rgb).convert("CMYK")
        image.save(file, quality=100, subsampling=0)
        return np.asarray(Image.open(file).convert("RGB"))
    if kind == "gray 16":
        Image.fromarray(deep[..., 0]).save(file)
        return deep[..., :1]
    if kind in ("rgb 16", "rgba 16"):
        kept = deep[..., : 3 if kind == "rgb 16" else 4]
        if file.suffix == ".tif":
            tifffile.imwrite(file, kept, photometric="rgb")
        else:
            order = cv2.COLOR_RGB2BGR if kind == "rgb 16" else cv2.COLOR_RGBA2BGRA
            cv2.imwrite(str(file), cv2.cvtColor(kept, order))
        return kept
    if kind == "dark 16":  # no value above 255: only the file shows its depth
        dark = (deep[..., :3] >> 8).astype(np.uint16)
        cv2.imwrite(str(file), dark[..., ::-1])
        return dark
    source = rgba if kind == "rgba" else rgb
    if file.suffix == ".webp":
        Image.fromarray(source).save(file, lossless=True)
    else:
        Image.fromarray(source).save(file)
    return np.asarray(Image.open(file))


KINDS = [
    ("gray", ".png"),
    ("gray", ".jpg"),
    ("gray", ".webp"),
    ("gray", ".tif"),
    ("gray", ".avif"),
    ("gray alpha", ".png"),
    ("gray alpha", ".tif"),
    ("gray alpha 16", ".png"),
    ("palette", ".tif"),
    ("rgb", ".tif"),
    ("rgba", ".avif"),
    ("palette", ".png"),
    ("palette", ".gif"),
    ("clear palette", ".png"),
    ("bits", ".png"),
    ("cmyk", ".jpg"),
    ("cmyk", ".tif"),
    ("gray 16", ".png"),
    ("gray 16", ".tif"),
    ("rgb 16", ".png"),
    ("rgba 16", ".png"),
    ("dark 16", ".png"),
    ("rgb 16", ".tif"),
    ("rgba 16", ".tif"),
    ("rgb", ".png"),
    ("rgba", ".png"),
    ("rgba", ".webp"),
    ("rgba", ".tif"),
    ("rgb", ".jpg"),
    ("rgb", ".webp"),
    ("rgb", ".bmp"),
    ("rgb", ".ppm"),
    ("rgb", ".tga"),
    ("rgb", ".avif"),
]


@pytest.mark.parametrize(("kind", "suffix"), KINDS, ids=lambda v: v.replace(" ", "_"))
def test_every_kind_of_image(kind, suffix, tmp_path, plain, upscaler):
    source = tmp_path / f"in{suffix}"
    pixels = draw(kind, source)
    out = tmp_path / "out.png"
    assert main([str(source), "-o", str(out), "--model", str(plain)]) == 0
    read = read_picture(source)
    layers = [read.pixels] + ([] if read.alpha is None else [read.alpha[..., None]])
    np.testing.assert_array_equal(np.concatenate(layers, axis=2), pixels)
    written = read_picture(out)
    assert written.size == (26, 18)
    assert written.pixels.dtype == pixels.dtype
    assert written.pixels.shape[2] == read.pixels.shape[2]
    assert (written.alpha is None) == (read.alpha is None)
    wanted = upscaler.picture(read)
    np.testing.assert_array_equal(written.pixels, wanted.pixels)


@pytest.mark.parametrize(
    ("shape", "planar"),
    [((3, 7, 3), False), ((2, 9, 13, 3), False), ((3, 9, 13), True)],
    ids=["three_rows", "two_pages", "planes"],
)
def test_layouts_of_deep_tiff(shape, planar, tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    file = tmp_path / "in.tif"
    layout = "separate" if planar else "contig"
    tifffile.imwrite(file, values, photometric="rgb", planarconfig=layout)
    wanted = np.moveaxis(values, 0, 2) if planar else values.reshape(-1, *shape[-3:])[0]
    np.testing.assert_array_equal(read_picture(file).pixels, wanted)


def test_values_of_32_bits_are_refused(tmp_path):
    file = tmp_path / "in.tif"
    Image.fromarray(np.full((3, 4), 70_000, np.int32)).save(file)
    with pytest.raises(ValueError, match="holds 32"):
        read_picture(file)


def test_a_picture_that_is_too_large_does_not_stop_the_others(tmp_path, plain, capsys):
    (tmp_path / "in").mkdir()
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", bytes(10**6)), (b"IEND", b"")]
    (tmp_path / "in" / "a.png").write_bytes(
        png.SIGNATURE + b"".join(png.chunk(*part) for part in parts)
    )
    Image.fromarray(pattern(6, 5, 3)).save(tmp_path / "in" / "b.png")
    out = tmp_path / "out"
    command = (tmp_path / "in", "-o", out, "--model", plain, "--memory", "2G")
    assert run(*command) == 1
    assert [p.name for p in out.iterdir()] == ["b.png"]
    assert "take 6.7 GB" in capsys.readouterr().err


def test_formats_and_depths_by_flags(tmp_path, plain):
    source = tmp_path / "in.png"
    draw("rgb", source)
    for suffix, depth, dtype in [
        (".png", None, np.uint8),
        (".png", 16, np.uint16),
        (".tif", 16, np.uint16),
        (".webp", None, np.uint8),
        (".avif", 8, np.uint8),
        (".jpg", None, np.uint8),
    ]:
        out = tmp_path / f"out_{depth}{suffix}"
        flags = [] if depth is None else ["--depth", str(depth)]
        assert main([str(source), "-o", str(out), "--model", str(plain), *flags]) == 0
        assert read_picture(out).pixels.dtype == dtype


def test_folder_keeps_its_structure_and_goes_on_after_a_failure(
    tmp_path, plain, capsys, caplog
):
    source = tmp_path / "in"
    (source / "a" / "b").mkdir(parents=True)
    for name in ("one.png", "a/two.jpg", "a/b/three.webp"):
        draw("rgb", source / name)
    for name in ("notes.txt", "more.txt", "._two.jpg"):
        (source / "a" / name).write_text("no image")
    (source / ".trash").mkdir()
    draw("rgb", source / ".trash" / "gone.png")
    (source / "broken.png").write_bytes((source / "one.png").read_bytes()[:60])
    (source / "text.jpg").write_text("no image either")
    out = tmp_path / "out"
    assert main([str(source), "-o", str(out), "--model", str(plain)]) == 1
    written = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*"))
    assert written == ["a/b/three.png", "a/two.png", "one.png"]
    errors = capsys.readouterr().err
    assert "broken.png" in errors
    assert "text.jpg" in errors
    assert "2 of 5" in errors
    (skipped,) = [m for m in caplog.messages if m.startswith("skipped")]
    assert skipped.startswith("skipped 4 ")
    assert "2 hidden (.trash/gone.png, a/._two.jpg)" in skipped
    assert "2 neither images nor videos (a/more.txt, a/notes.txt)" in skipped


@pytest.mark.parametrize("memory", ["auto", "1M"])
def test_pictures_side_by_side_are_those_one_by_one(memory, tmp_path, plain):
    """Several threads, each with a picture; with little memory, one after another."""
    (tmp_path / "in").mkdir()
    for index in range(6):
        picture = Image.fromarray(pattern(9 + index, 13, 3))
        picture.save(tmp_path / "in" / f"{index}.png")
    (tmp_path / "in" / "2.png").write_bytes(b"no image")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        upscaler = Upscaler(plain, "cpu", memory=memory)
        assert upscaler.fits((13, 9), upscaler.lanes) == (memory == "auto")
        jobs = plan([tmp_path / "in"], tmp_path / "out")
        failed = run_jobs(upscaler, jobs, WriteOptions())
        assert torch.get_num_threads() == 3
        threads = []
        other = threading.Thread(target=lambda: threads.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert threads == [3]
    finally:
        torch.set_num_threads(before)
    assert [job.source.name for job, _ in failed] == ["2.png"]
    assert len(list((tmp_path / "out").iterdir())) == 5
    for job in jobs:
        if job.source.name != "2.png":
            wanted = Upscaler(plain, "cpu").picture(read_picture(job.source))
            got = read_picture(job.output).pixels.astype(int)
            assert np.abs(got - wanted.pixels).max() <= 1


def run(*arguments):
    return main([str(a) for a in arguments])


def test_wrong_use_is_one_sentence(tmp_path, plain, capsys):
    source = tmp_path / "in.png"
    draw("rgb", source)
    (tmp_path / "done.png").write_bytes(source.read_bytes())
    (tmp_path / "x").mkdir()
    draw("rgb", tmp_path / "x" / "in.png")
    draw("rgb", tmp_path / "x" / "in.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "random.safetensors").write_bytes(
        save({"x": torch.zeros(3, 4)}),
    )
    (tmp_path / "text.safetensors").write_text("no weights")
    out = tmp_path / "out"
    cases = [
        ((source, "-o", out, "--model", "paragonsr2_realtme_x2"), "Did you mean"),
        ((tmp_path / "no_folder", "-o", out, "--model", plain), "there is no"),
        ((source, "-o", out, "--model", tmp_path / "text.safetensors"), "cut off"),
        ((source, "-o", out, "--model", tmp_path / "random.safetensors"), "none"),
        ((source, "-o", source / "sub", "--model", plain), "results can go to"),
        ((source, "-o", out, "--model", tmp_path / "none.safetensors"), "none.safe"),
        ((tmp_path / "no.png", "-o", out, "--model", plain), "there is no"),
        ((tmp_path / "im.png", "-o", out, "--model", plain), "Did you mean in.png?"),
        ((source, "-o", tmp_path / "done.png", "--model", plain), "--overwrite"),
        ((source, "-o", source, "--model", plain, "--overwrite"), "its source"),
        ((tmp_path / "x", "-o", out, "--model", plain), "different names"),
        ((tmp_path / "empty", "-o", out, "--model", plain), "at least one"),
        ((tmp_path / "x", "-o", tmp_path / "f.png", "--model", plain), "a folder"),
        ((source, "-o", out, "--model", plain, "--format", "xyz"), ".xyz"),
        ((source, "-o", out, "--model", plain, "--device", "warp"), "warp"),
        ((source, "-o", out, "--model", plain, "--quality", "0"), "quality"),
        ((source, "-o", out, "--model", plain, "--scale-to", "9by9"), "9by9"),
        ((source, "-o", out, "--model", plain, "--downscale", "0.5"), "0.5"),
        ((source, "-o", out, "--model", plain, "--shard", "3/2"), "3/2"),
        ((source, "-o", out, "--model", plain, "--dtype", "fp8"), "fp8"),
        ((source, "-o", out, "--model", plain, "--memory", "lots"), "lots"),
        ((source, "-o", out, "--model", plain, "--codec", "mpeg9"), "mpeg9"),
        ((source, "-o", tmp_path / "o.mp4", "--model", plain), ".mp4"),
    ]
    for arguments, part in cases:
        assert run(*arguments) == 2, arguments
        message = capsys.readouterr().err
        assert part in message
        assert not out.exists(), arguments
        assert message.count("\n") == 1
        assert "Traceback" not in message
    assert not list(out.glob("*"))


def test_missing_pillow_is_one_sentence(tmp_path, plain, capsys, monkeypatch):
    source = tmp_path / "in.png"
    draw("rgb", source)
    for name in [n for n in sys.modules if n == "PIL" or n.startswith("PIL.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert run(source, "-o", tmp_path / "o.png", "--model", plain) == 2
    assert "pip install 'paragon-archs[upscale]'" in capsys.readouterr().err


def test_a_failed_write_leaves_the_old_file(tmp_path, upscaler):
    source = tmp_path / "in.png"
    draw("rgba", source)
    out = tmp_path / "out.jpg"
    out.write_bytes(b"old")
    with pytest.raises(ValueError, match="transparency"):
        write_picture(upscaler.picture(read_picture(source)), out)
    assert out.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir() if "tmp" in p.name] == []


def test_resume_skips_and_shards_divide(tmp_path, plain, capsys):
    source = tmp_path / "in"
    source.mkdir()
    for index in range(5):
        draw("rgb", source / f"{index}.png")
    out = tmp_path / "out"
    common = (source, "-o", out, "--model", plain)
    assert run(*common, "--shard", "2/2") == 0
    assert sorted(p.name for p in out.iterdir()) == ["1.png", "3.png"]
    stamp = (out / "1.png").stat().st_mtime_ns
    assert run(*common, "--resume") == 0
    assert len(list(out.iterdir())) == 5
    assert (out / "1.png").stat().st_mtime_ns == stamp
    assert run(*common, "--resume") == 0
    assert "nothing left" in capsys.readouterr().out


def test_patterns_and_results_of_other_sizes(tmp_path, plain):
    draw("rgba", tmp_path / "a.png")
    draw("rgb 16", tmp_path / "b.png")
    pattern_ = tmp_path / "[ab].png"
    assert (
        run(pattern_, "-o", tmp_path / "x", "--model", plain, "--scale-to", "20x11")
        == 0
    )
    assert (
        run(pattern_, "-o", tmp_path / "y", "--model", plain, "--downscale", "2") == 0
    )
    for name, dtype in (("a", np.uint8), ("b", np.uint16)):
        wanted = read_picture(tmp_path / f"{name}.png")
        assert read_picture(tmp_path / "x" / f"{name}.png").size == (20, 11)
        halved = read_picture(tmp_path / "y" / f"{name}.png")
        assert halved.size == wanted.size
        assert halved.pixels.dtype == dtype


def test_jpeg_cannot_hold_transparency(tmp_path, plain, capsys):
    draw("rgba", tmp_path / "a.png")
    draw("rgb", tmp_path / "b.png")
    out = tmp_path / "out"
    arguments = (tmp_path / "a.png", tmp_path / "b.png", "-o", out, "--format", "jpg")
    assert run(*arguments, "--model", plain) == 1
    assert [p.name for p in out.iterdir()] == ["b.jpg"]
    assert "transparency" in capsys.readouterr().err
