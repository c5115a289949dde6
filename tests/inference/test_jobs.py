"""Jobs over folders: one file's fault is its own, results are never sources."""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from common import pattern
from PIL import Image

from paragon_archs.cli.upscale import main
from paragon_archs.inference import Upscaler, read_picture

CASES = Path(__file__).parents[1] / "media" / "cases"
VIDEOS = Path(__file__).parents[1] / "data" / "video"
MPO_GARBAGE = b"\xff\xe2\x00\x20MPF\0II*\0" + b"\xff" * 22


@pytest.fixture
def folder(tmp_path):
    """A folder of five good pictures."""
    place = tmp_path / "in"
    place.mkdir()
    for name in "acegi":
        Image.fromarray(pattern(9, 13, 3)).save(place / f"{name}.png")
    return place


def run(plain, *arguments):
    return main([str(a) for a in (*arguments, "--model", plain)])


def jpeg(**extra):
    buffer = io.BytesIO()
    Image.fromarray(pattern(9, 13, 3)).save(buffer, "JPEG", **extra)
    return buffer.getvalue()


BAD = {
    "cut.png": lambda: (CASES / "F20.png").read_bytes()[:200],
    "cut.tif": lambda: (CASES / "F02_b_big.tif").read_bytes()[:60],
    "cut.jpg": lambda: jpeg()[:300],
    "cut.gif": lambda: b"GIF89a\xff\xff\xff\xff\xf7\0\0",
    "big.tif": lambda: b"II+\0\x08\0\0\0" + b"\xff" * 8,
    "empty.webp": lambda: b"",
    "text.bmp": lambda: b"BM but no bitmap",
    "far.tif": lambda: b"II*\0\xff\xff\xff\xff",
    "garbage.avif": lambda: b"\0\0\0\x20ftypavif" + b"\xff" * 40,
    "b.mp4": lambda: b"\0\0\0\x20ftypisom" + b"\xff" * 40,
    "page.jpg": lambda: b"<html>not found</html>",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_costs_no_other(name, folder, plain, tmp_path, capsys):
    (folder / name).write_bytes(BAD[name]())
    out = tmp_path / "out"
    assert run(plain, folder, "-o", out) == 1
    assert sorted(p.name for p in out.iterdir()) == [f"{n}.png" for n in "acegi"]
    lines = [x for x in capsys.readouterr().err.splitlines() if "error:" in x]
    assert len(lines) == 2 and name in lines[0] and "1 of 6" in lines[1]


@pytest.mark.parametrize("verbose", [False, True])
def test_tracebacks_are_for_those_who_ask(verbose, folder, plain, tmp_path, caplog):
    (folder / "bad.tif").write_bytes(BAD["far.tif"]())
    caplog.set_level(logging.INFO if verbose else logging.WARNING)
    assert run(plain, folder, "-o", tmp_path / "out") == 1
    assert any(record.exc_info for record in caplog.records) == verbose


def test_damaged_metadata_costs_no_picture(folder, plain, tmp_path):
    whole = jpeg(exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    (folder / "b.jpg").write_bytes(whole[:2] + MPO_GARBAGE + whole[2:])
    shutil.copy(CASES / "F01_c_bad.jpg", folder)
    assert run(plain, folder, "-o", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").iterdir())) == 7


@pytest.mark.parametrize(
    ("format_", "side"),
    [("webp", 8192), ("gif", 32768), ("tga", 32768), ("jpg", 32751)],
)
def test_a_result_that_its_format_cannot_hold(format_, side, folder, plain, tmp_path):
    Image.new("RGB", (side, 1)).save(folder / "b.png")
    out = tmp_path / "out"
    assert run(plain, folder, "-o", out, "--format", format_) == 1
    assert sorted(p.stem for p in out.iterdir()) == list("acegi")


def test_keep_meets_a_format_that_is_not_written(folder, plain, tmp_path, capsys):
    Image.fromarray(pattern(9, 13, 3)).save(folder / "b.pcx")
    shutil.copy(CASES / "F28_b.jfif", folder / "d.jfif")
    out = tmp_path / "out"
    assert run(plain, folder, "-o", out, "--format", "keep") == 1
    names = ["a.png", "c.png", "d.jfif", "e.png", "g.png", "i.png"]
    assert sorted(p.name for p in out.iterdir()) == names
    assert "b.pcx: Expected the output's extension" in capsys.readouterr().err


def test_what_is_skipped_is_named_in_one_line(folder, plain, tmp_path, caplog):
    (folder / "notes.txt").touch()
    (folder / ".hidden.png").touch()
    (tmp_path / "other").mkdir()
    (folder / "linked").symlink_to(tmp_path / "other")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert run(plain, folder, "-o", tmp_path / "out") == 0
    (line,) = [m for m in caplog.messages if "skipped" in m]
    assert line.startswith("skipped 4 ")
    for part in ("1 hidden (.hidden.png)", "1 linked folders (linked)", "notes.txt"):
        assert part in line
    assert "1 broken links (gone.png)" in line


@pytest.mark.parametrize("inside", ["out", "../in", "."])
def test_three_runs_do_not_upscale_results(inside, folder, plain):
    out = (folder / inside).resolve()
    for _ in range(3):
        code = run(plain, folder, "-o", out, "--resume", "--suffix", "_x2")
        assert code == 0
    written = sorted(p.name for p in out.rglob("*_x2.png"))
    assert written == [f"{n}_x2.png" for n in "acegi"]
    assert {read_picture(p).size for p in out.rglob("*_x2.png")} == {(26, 18)}


@pytest.mark.parametrize("name", ["out.jxl", "out.xyz", "out.heic", "out.psd"])
def test_an_unknown_ending_is_an_error_and_no_folder(name, folder, plain, tmp_path):
    assert run(plain, folder / "a.png", "-o", tmp_path / name) == 2
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["results.v2/", "v1.5", "plain"])
def test_a_folder_may_have_a_dot(name, folder, plain, tmp_path):
    assert run(plain, folder / "a.png", "-o", f"{tmp_path}/{name}") == 0
    assert (tmp_path / name / "a.png").is_file()


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_names_that_no_console_prints(folder, plain, tmp_path):
    for name in (b"\xff\xfe.png", "\u6f22\u5b57.png".encode(), b"bad\xff.png"):
        shutil.copy(folder / "a.png", os.fsencode(folder) + b"/" + name)
    (folder / "empty.png").touch()
    (Path(os.fsdecode(os.fsencode(folder) + b"/no\xff.png"))).touch()
    call = [sys.executable, "-m", "paragon_archs.cli", "upscale", folder, "-o"]
    call += [tmp_path / "out", "--model", plain, "--verbose"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}
    environment |= {"PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(call, env=environment, capture_output=True, check=False)
    assert done.returncode == 1, done.stderr
    assert len(os.listdir(tmp_path / "out")) == 8
    assert b"2 of 10" in done.stderr
    assert b"UnicodeEncodeError" not in done.stderr


def test_the_same_input_twice_is_done_once(folder, plain, tmp_path, caplog):
    inputs = (folder, folder / "a.png", f"{folder}/../in/c.png")
    assert run(plain, *inputs, "-o", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").iterdir())) == 5
    assert "named twice" in caplog.text


@pytest.mark.parametrize(
    ("second", "advice"),
    [
        ("in/a.webp", "--format keep"),
        ("in/A.png", "case"),
        ("more/a.png", "one by one"),
    ],
)
def test_clashes_get_advice(second, advice, folder, plain, tmp_path, capsys):
    (tmp_path / second).parent.mkdir(exist_ok=True)
    Image.fromarray(pattern(9, 13, 3)).save(tmp_path / second)
    inputs = [folder / "a.png", tmp_path / second]
    assert run(plain, *inputs, "-o", tmp_path / "out") == 2
    assert advice in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_sixteen_bits_are_the_networks_own(plain, folder, tmp_path):
    out = tmp_path / "deep.png"
    assert run(plain, folder / "a.png", "-o", out, "--depth", "16") == 0
    source = np.asarray(Image.open(folder / "a.png"))
    wanted = Upscaler(plain, "cpu").image((source / 255).astype(np.float32))
    got = read_picture(out).pixels
    assert np.abs(got - wanted * 65535.0).max() <= 0.51
    assert (got % 257).any()


def test_sizes_start_from_unrounded_results(plain, folder, tmp_path):
    for flags, size in (
        (["--scale-to", "20x11"], (20, 11)),
        (["--downscale", 2], (13, 9)),
    ):
        out = tmp_path / f"{flags[0]}.tif"
        assert run(plain, folder / "a.png", "-o", out, "--depth", 16, *flags) == 0
        picture = read_picture(out)
        assert picture.size == size
        assert (picture.pixels % 257).any()


def test_opaque_alpha_is_left_out_where_none_is_held(folder, plain, tmp_path):
    shutil.copy(CASES / "F27.png", folder / "b.png")
    out = tmp_path / "out"
    assert run(plain, folder, "-o", out, "--format", "jpg") == 0
    assert len(list(out.iterdir())) == 6


PLANNED = {
    "wide.png": (lambda: Image.new("L", (8200, 1)), "webp", "16383 pixels a side"),
    "clear.png": (lambda: Image.new("RGBA", (9, 9)), "jpg", "holds transparency"),
    "clear.webp": (lambda: Image.new("RGBA", (9, 9)), "bmp", "holds transparency"),
    "clear.gif": (lambda: Image.new("RGBA", (9, 9)), "jpg", "holds transparency"),
    "clear.tif": (lambda: Image.new("RGBA", (9, 9)), "ppm", "holds transparency"),
    "ending.pcx": (lambda: Image.new("L", (9, 9)), "keep", "output's extension"),
    "none.png": (lambda: b"<html>", "png", "no known format"),
    "none.psd.tif": (lambda: b"8BPS" * 40, "png", "no known format"),
    "deep.png": (lambda: Image.new("L", (9, 9)), "webp --depth 16", "holds 16 bits"),
}


@pytest.mark.parametrize("name", PLANNED)
def test_what_cannot_be_written_is_named_before_the_network_runs(
    name, plain, tmp_path, monkeypatch, capsys
):
    make, format_, reason = PLANNED[name]
    source, place = make(), tmp_path / "in"
    place.mkdir()
    if isinstance(source, bytes):
        (place / name).write_bytes(source)
    else:
        source.save(place / name)
    flags = ["-o", tmp_path / "out", "--format", *format_.split()]
    said = []

    def computed(self, picture, dtype=None):
        said.append(capsys.readouterr().err)
        raise ValueError("stopped")

    monkeypatch.setattr(Upscaler, "picture", computed)
    assert run(plain, place, *flags) == 1
    (line, summary) = capsys.readouterr().err.splitlines()
    assert name in line and reason in line and "1 of 1" in summary
    assert not said and not (tmp_path / "out").exists()
    if "--depth" not in format_:  # others go on
        Image.fromarray(pattern(9, 13, 3)).save(place / "a.png")
        assert run(plain, place, *flags) == 1
        assert name in said[0] and reason in said[0]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_opaque_alpha_is_no_reason(suffix, plain, tmp_path):
    source = tmp_path / f"in{suffix}"
    Image.new("RGBA", (9, 9), (1, 2, 3, 255)).save(source)
    assert run(plain, source, "-o", tmp_path / "out.jpg") == 0


PLANNED_VIDEOS = {
    "cut.mp4": (
        lambda file: file.write_bytes(b"\0\0\0\x20ftypisom" * 4),
        ".mkv",
        "whole",
    ),
    "sound.mkv": (
        lambda file: shutil.copy(VIDEOS / "truehd.mkv", file),
        ".webm",
        "truehd",
    ),
    "page.mov": (lambda file: file.write_bytes(b"<html>"), ".mp4", "whole video"),
}


@pytest.mark.parametrize("name", PLANNED_VIDEOS)
def test_videos_that_cannot_be_written_are_named_first(
    name, folder, plain, tmp_path, monkeypatch, capsys
):
    make, suffix, reason = PLANNED_VIDEOS[name]
    make(folder / name)
    shutil.copy(VIDEOS / "rot_hflip.mp4", folder / "z.mkv")
    said = []

    def computed(*_):
        said.append(capsys.readouterr().err)
        raise ValueError("stopped")

    monkeypatch.setattr(Upscaler, "picture", computed)
    assert run(plain, folder / name, "-o", tmp_path / f"out{suffix}") == 1
    line, _ = capsys.readouterr().err.splitlines()
    assert name in line and reason in line
    assert run(plain, folder, "-o", tmp_path / "out") == 1
    if suffix != ".webm":  # videos of a folder become .mkv or what they are
        assert name in said[0] and reason in said[0]


@pytest.mark.parametrize("what", ["folder", "names alone", "file"])
def test_what_may_not_be_read_costs_no_other(what, folder, plain, tmp_path, capsys):
    closed = folder / "closed"
    closed.mkdir()
    shutil.copy(folder / "a.png", closed / "in.png")
    place = closed / "in.png" if what == "file" else closed
    place.chmod(0o444 if what == "names alone" else 0)
    if os.access(place, os.X_OK if what == "names alone" else os.R_OK):
        pytest.skip("root may enter and read everything")
    code = main([str(folder), "-o", str(tmp_path / "out"), "--model", str(plain)])
    place.chmod(0o700)
    assert (tmp_path / "out" / "a.png").is_file()
    errors = capsys.readouterr().err
    assert code == (1 if what == "file" else 0)
    assert ("Permission denied" in errors) == (what == "file")


def test_a_full_disk_is_a_sentence(folder, plain, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "out.png"
    command = [str(folder / "a.png"), "-o", str(out), "--model", str(plain)]
    assert main(command) == 1
    assert (
        f"Expected to read or write {str(out)!r}, but got: No space left on device. "
        "Free some space or choose another."
    ) in capsys.readouterr().err
    assert list(tmp_path.glob("*out*")) == []
