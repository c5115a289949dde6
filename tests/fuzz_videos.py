"""Damaged videos: made from a seed, upscaled in a child process.

`python tests/fuzz_videos.py 1000 FOLDER [SEED]` makes and tries so many and counts.
"""

from __future__ import annotations

import contextlib
import io
import random
import struct
import sys
from pathlib import Path

import av
import fuzz_common
import numpy as np
from picture_fuzz import TRAPS

MODEL, FAST = "paragonsr2_realtime_x2", ["--preset", "ultrafast"]
DATA = Path(__file__).parent / "data" / "video"
SMALL = ("movtext.mp4", "tmcd.mov", "rot_hflip.mp4", "sar_vp9.mkv", "cover.mkv")
# Container -> its video codec, its audio codec.
KINDS = {
    "mp4": ("libx264", "aac"),
    "mov": ("prores_ks", "pcm_s16le"),
    "mkv": ("ffv1", "flac"),
    "webm": ("libvpx-vp9", "libopus"),
    "avi": ("mpeg4", "mp3"),
    "ts": ("mpeg2video", "mp2"),
    "flv": ("flv", "mp3"),
    "ogv": ("libtheora", "libvorbis"),
    "gif": ("gif", None),
    "y4m": ("wrapped_avframe", None),
}
# What metadata is made of: names of boxes, elements and fields near which faults count.
MARKS = (
    b"mvhd",
    b"tkhd",
    b"mdhd",
    b"stts",
    b"stsd",
    b"elst",
    b"colr",
    b"pasp",
    b"avcC",
)
MARKS += (b"ctts", b"stsz", b"stco", b"tref", b"udta", b"\x1aE\xdf\xa3", b"\x16T\xaek")
MARKS += (b"\xe0", b"\x2a\xd7\xb1", b"strh", b"strf", b"onMetaData", b"FRAME", b"\x47")


def seeds() -> list[tuple[str, bytes]]:
    """Returns whole videos of every container, with their suffixes."""
    found = [(f"{name}", (DATA / name).read_bytes()) for name in SMALL]
    for suffix, codecs in KINDS.items():
        buffer = io.BytesIO()
        with contextlib.suppress(ValueError, av.FFmpegError):  # an encoder is missing
            _film(buffer, suffix, *codecs)
            found.append((f"made.{suffix}", buffer.getvalue()))
    return found


def _film(out: io.BytesIO, suffix: str, codec: str, sound: str | None) -> None:
    name = {"mkv": "matroska", "ts": "mpegts", "y4m": "yuv4mpegpipe"}.get(
        suffix, suffix
    )
    with av.open(out, "w", format="ogg" if suffix == "ogv" else name) as container:
        container.metadata["title"] = "a film"
        stream = container.add_stream(codec, 25)
        stream.width = stream.height = 32
        formats = {"prores_ks": "yuv422p10le", "gif": "rgb8"}
        stream.pix_fmt = formats.get(codec, "yuv420p")
        audio = container.add_stream(sound, 48_000) if sound else None
        for index in range(4):
            pixels = np.full((32, 32, 3), 40 * index, np.uint8)
            pixels[8 * index : 8 * index + 4] = 255
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())
        if audio is not None:
            layout = audio.codec_context.format.name
            planar = av.AudioFrame(format=layout, layout="stereo", samples=4608)
            for plane in planar.planes:
                plane.update(bytes(plane.buffer_size))
            planar.sample_rate, planar.pts = 48_000, 0
            container.mux(audio.encode(planar))
            container.mux(audio.encode())


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Returns a file with one to three faults, most of them in its metadata."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        if len(out) < 12:
            break
        at = rng.randrange(len(out) - 8)
        mark = rng.choice(MARKS)
        if rng.random() < 0.6 and (found := out.find(mark, at if at & 1 else 0)) >= 0:
            at = min(len(out) - 8, found + len(mark) + rng.randrange(40))
        order = rng.choice("<>")
        match rng.randrange(7):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at : at + 4] = struct.pack(f"{order}I", rng.choice(TRAPS))
            case 2:
                out[at : at + 2] = struct.pack(f"{order}H", rng.choice(TRAPS) & 0xFFFF)
            case 3:
                del out[max(at, 40) :]
            case 4:
                out[at:at] = out[at : at + rng.randrange(1, 64)]
            case 5:
                del out[at : at + rng.randrange(1, 64)]
            case _:
                out[at : at + 8] = rng.randbytes(8)
    return bytes(out)


def write_files(folder: Path, count: int, seed: int) -> None:
    """Writes `count` damaged videos."""
    rng, whole = random.Random(seed), seeds()
    folder.mkdir(parents=True)
    for number in range(count):
        name, data = whole[number % len(whole)]
        (folder / f"{number:04}-{name}").write_bytes(damaged(data, rng))


def right(result: fuzz_common.Result) -> bool:
    """Done, or failed with sentences alone."""
    text = result["err"]
    return result["code"] in (0, 1, 2) and (
        "Traceback" not in text and (result["code"] == 0 or "error: " in text)
    )


def upscale_all(folder: Path) -> None:
    from paragon_archs.cli.__main__ import main

    outputs = ("mkv", "mp4", "mov", "webm")
    results = folder.parent / "results"
    results.mkdir()

    def call(file: Path) -> int:
        number = int(file.name[:4]) if file.name[:4].isdigit() else 0
        out = results / f"out.{outputs[number % len(outputs)]}"
        command = ["upscale", str(file), "-o", str(out), "--device", "cpu"]
        command += ["--overwrite", "--scale-to", "32x32", "--model", MODEL]
        return main(command + ([] if out.suffix == ".webm" else FAST))

    with contextlib.redirect_stdout(io.StringIO()):
        assert call(DATA / "movtext.mp4") == 0  # everything is imported
    fuzz_common.run_each(sorted(folder.iterdir()), call)


def fuzz(folder: Path, count: int, seed: int) -> list[fuzz_common.Result]:
    """Makes files and upscales them; returns what came of each."""
    write_files(folder, count, seed)
    return fuzz_common.in_child(__file__, folder)


if __name__ == "__main__":
    if sys.argv[1] == "open":
        upscale_all(Path(sys.argv[2]))
    else:
        seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
        results = fuzz(Path(sys.argv[2]) / "in", int(sys.argv[1]), seed)
        fuzz_common.report(results, int(sys.argv[1]), right)
