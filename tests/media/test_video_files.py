"""Videos as people have them: what a file holds is carried on, or named in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_file_common import DATA, ENDINGS, LOSSLESS, corners, film, pictures, upscaled

from paragon_archs.inference.jobs import Sizing, plan, run
from paragon_archs.inference.video import VideoOptions, run_video, upscale_video
from paragon_archs.media.images import WriteOptions
from paragon_archs.media.video import VideoSource


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov", "m4v"])
@pytest.mark.parametrize("name", ["sar_vp9.mkv", "sar_over.mp4"])
def test_the_aspect_of_pixels_is_the_container_s(name, ending, upscaler, tmp_path):
    out = upscaled(upscaler, name, ending, tmp_path)
    with av.open(str(out)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(32, 27)


@pytest.mark.parametrize("ending", ["webm", "mp4"])
def test_an_aspect_that_is_left_out_is_named(ending, upscaler, tmp_path, caplog):
    """VP9 names none itself, and the writer of WebM is not given one."""
    options = VideoOptions(codec="libvpx-vp9")
    out = upscaled(upscaler, "sar_vp9.mkv", ending, tmp_path, options)
    with av.open(str(out)) as container:
        kept = container.streams.video[0].sample_aspect_ratio == Fraction(32, 27)
    assert kept == (ending == "mp4")
    assert caplog.text.count("32:27 is left out") == (not kept)


def test_mirrors_are_applied(upscaler, tmp_path):
    out = upscaled(upscaler, "rot_hflip.mp4", "mkv", tmp_path, LOSSLESS)
    with av.open(str(DATA / "rot_hflip.mp4")) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    got = corners(pictures(out)[0])
    assert np.abs(np.subtract(got, corners(stored[:, ::-1]))).max() <= 3


MATRICES = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)]
MATRICES += [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


@pytest.mark.parametrize("signs", MATRICES)
def test_every_orientation_is_applied(signs, tmp_path):
    a, b, c, d = signs
    file = tmp_path / "in.mp4"
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (2, 4, 3), dtype=np.uint8)
    picture = coarse.repeat(16, 0).repeat(16, 1)
    one = 1 << 16
    with av.open(str(file), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv444p"
        stream.set_display_matrix(
            [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30]
        )
        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        out.mux(stream.encode(None))
    height, width = (32, 64) if a else (64, 32)
    wanted = np.zeros((height, width, 3), int)
    y, x = np.mgrid[:32, :64]
    across, down = a * x + c * y, b * x + d * y
    wanted[down - down.min(), across - across.min()] = picture
    (got,) = pictures(file)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted)[8:-8:16, 8:-8:16].max() <= 6


def chroma_centre(file):
    """Returns where the colored stripe lies, as a share of the width, by the encoded
    samples themselves, chroma at the left of its two pixels."""
    with av.open(str(file)) as container:
        frame = next(container.decode(video=0))
        planes = frame.to_ndarray()
        half = frame.width // 2
        u = planes[frame.height : frame.height * 5 // 4].reshape(-1, half)
        weight = np.abs(u.astype(float).mean(0) - float(u[0, 0]))
        return (weight * (2 * np.arange(half) + 0.5)).sum() / weight.sum() / frame.width


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_halved_chroma_stays_where_it_is(ending, upscaler, tmp_path):
    out = upscaled(upscaler, "sh_left.mkv", ending, tmp_path)
    before = chroma_centre(DATA / "sh_left.mkv")
    # Half a pixel of 256 was what it was off by.
    assert chroma_centre(out) == pytest.approx(before, abs=0.15 / 256)


@pytest.mark.parametrize("ending", ["mp4", "mov", "m4v"])
def test_hevc_has_the_tag_that_apple_opens(ending, upscaler, tmp_path):
    out = upscaled(upscaler, "hdr.mp4", ending, tmp_path)
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize("ending", ENDINGS)
def test_untagged_color_keeps_its_meaning_at_any_size(ending, upscaler, tmp_path):
    """Players take what has 720 rows and no tag for BT.709."""
    out = upscaled(upscaler, "sd400.mkv", ending, tmp_path)
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        assert context.height == 800
        assert context.colorspace == context.color_primaries == context.color_trc == 6
        assert context.color_range == 1
    before, after = pictures(DATA / "sd400.mkv")[0], pictures(out)[0]
    inner = (slice(8, -8, 8), slice(8, -8, 8))
    large = before.repeat(2, 0).repeat(2, 1)
    flat = np.abs(large[4:-4] - large[:-8])[:, :, 0].max() == 0
    assert flat or np.median(np.abs(after[inner] - large[inner])) <= 2


@pytest.mark.parametrize("height", [240, 288, 480, 576, 720])
def test_the_matrix_that_is_assumed_is_written(height, upscaler, tmp_path):
    source = film(tmp_path / "in.mkv", 1, size=(32, height))
    out = tmp_path / "out.mkv"
    upscale_video(upscaler, source, out, progress=False)
    with av.open(str(out)) as container:
        found = container.streams.video[0].codec_context.colorspace
    assert found == {288: 5, 576: 5, 720: 1}.get(height, 6)


def test_bad_packets_are_skipped_and_counted(upscaler, tmp_path, caplog):
    out = tmp_path / "out.mkv"
    report = run_video(upscaler, DATA / "corr.mp4", out, progress=False)
    assert (report.frames, report.damage) == (99, "1 of 100 packets cannot be decoded")
    assert len(pictures(out)) == 99
    assert caplog.text.count("1 of 100 packets cannot be decoded") == 1


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi"])
def test_a_truncated_file_is_upscaled_as_far_as_it_goes(kind, upscaler, tmp_path):
    source = tmp_path / f"in.{kind}"
    codec = "mpeg4" if kind == "avi" else "libx264"
    film(source, 100, codec=codec)
    if kind == "mp4":  # the index first, as streams have it
        whole = source.rename(tmp_path / "whole.mp4")
        with (
            av.open(str(whole)) as given,
            av.open(str(source), "w", options={"movflags": "+faststart"}) as out,
        ):
            made = out.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                if packet.size:
                    packet.stream = made
                    out.mux(packet)
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 3 // 4])
    out = tmp_path / "out.mkv"
    jobs = plan([source], out)
    failed = run(upscaler, jobs, WriteOptions(), video=VideoOptions(segment=30))
    assert len(failed) == 1
    assert re.search("s are missing|cannot be decoded", failed[0][1])
    assert 20 < len(pictures(out)) < 100


@pytest.mark.parametrize("name", ["cover.mkv", "movtext.mp4", "tmcd.mov", "hdr.mp4"])
def test_a_whole_file_is_not_called_damaged(name, upscaler, tmp_path):
    report = run_video(upscaler, DATA / name, tmp_path / "o.mkv", progress=False)
    assert report.damage is None


def test_frames_of_another_size_are_brought_to_the_first(upscaler, tmp_path, caplog):
    out = upscaled(upscaler, "grow.ts", "mp4", tmp_path)
    assert {picture.shape for picture in pictures(out)} == {(96, 128, 3)}
    assert caplog.text.count("brought to the first one's") == 1
    with av.open(str(out)) as container:
        assert container.duration == 800_000
        assert container.streams.video[0].average_rate == 25


def recording(file, start):
    """Writes a second of broadcast that starts at a time."""
    with av.open(str(file), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 32, 16, "yuv420p"
        audio = out.add_stream("aac", rate=48000)
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), index, np.uint8))
            frame.pts, frame.time_base = start * 25 + index, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for index in range(46):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((2, 1024), np.float32), format="fltp", layout="stereo"
            )
            frame.sample_rate = 48000
            frame.pts, frame.time_base = (
                start * 48000 + 1024 * index,
                Fraction(1, 48000),
            )
            out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    return file.read_bytes()


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize(
    "starts", [(50_000,), (100, 0), (0, 50_000), (7, 7), (5_000, 90, 20_000)]
)
def test_clocks_start_at_0_and_do_not_jump(starts, ending, upscaler, tmp_path):
    source = tmp_path / "in.ts"
    part = tmp_path / "part.ts"
    source.write_bytes(b"".join(recording(part, start) for start in starts))
    out = tmp_path / f"out.{ending}"
    upscale_video(upscaler, source, out, progress=False)
    with av.open(str(out)) as container:
        length = container.duration / 1e6
        times: dict[str, list[float]] = {"video": [], "audio": []}
        for packet in container.demux():
            if packet.size:
                kind = packet.stream.type
                times[kind].append(float(packet.pts * packet.time_base))
    assert length == pytest.approx(len(starts), abs=0.15)
    assert len(times["video"]) == 25 * len(starts)
    for kind in times.values():
        assert -0.03 <= min(kind) < 0.1
        gaps = np.diff(sorted(kind))
        assert gaps.max() < 0.15


def test_interlaced_video_is_named_and_deinterlaced_on_demand(
    upscaler, tmp_path, caplog
):
    upscaled(upscaler, "inter.mkv", "mkv", tmp_path, LOSSLESS)
    assert caplog.text.count("it is interlaced") == 1
    plain = pictures(tmp_path / "out.mkv")
    caplog.clear()
    options = VideoOptions("ffv1", pixel_format="yuv444p", deinterlace=True)
    upscaled(upscaler, "inter.mkv", "mkv", tmp_path, options)
    assert "interlaced" not in caplog.text
    smooth = pictures(tmp_path / "out.mkv")
    assert len(smooth) == len(plain) == 15
    assert np.abs(np.subtract(smooth, plain)).mean() > 2
    with VideoSource(DATA / "inter.mkv", deinterlace=True) as source:
        rows = np.stack([frame.pixels for frame in source.frames()]).astype(int)
    combed = np.stack(pictures(DATA / "inter.mkv"))

    def combs(frames):
        """How much rows differ from both their neighbors."""
        return np.abs(2 * frames[:, 1:-1] - frames[:, :-2] - frames[:, 2:]).mean()

    assert combs(rows) < 0.9 * combs(combed)


@pytest.mark.parametrize("name", ["Re:Zero - 01.mkv", "a%03d.mkv", "-x.mkv", "ä b.mkv"])
def test_any_name_is_a_file(name, upscaler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "film.mkv").rename(tmp_path / name)
    Path("out").mkdir()
    assert not run(upscaler, plan([Path(name)], "out"), WriteOptions())
    assert len(pictures(Path("out") / name)) == 3


MUXERS = {
    "vob": ("vob", "mpeg2video"),
    "mts": ("mpegts", "libx264"),
    "m2ts": ("mpegts", "libx264"),
    "mxf": ("mxf", "mpeg2video"),
    "asf": ("asf", "mpeg4"),
    "3g2": ("3g2", "libx264"),
    "f4v": ("f4v", "libx264"),
    "ogv": ("ogg", "libtheora"),
    "y4m": ("yuv4mpegpipe", "rawvideo"),
}


@pytest.mark.parametrize("kind", MUXERS)
def test_files_of_every_usual_kind_are_videos(kind, upscaler, tmp_path):
    muxer, codec = MUXERS[kind]
    source = tmp_path / f"in.{kind}"
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV has no {codec}")
    with av.open(str(source), "w", format=muxer) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(5):
            picture = np.full((48, 64, 3), 40 + 20 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert not run(upscaler, plan([source], tmp_path / "out"), WriteOptions())
    with av.open(str(tmp_path / "out" / "in.mkv")) as container:
        assert len(list(container.decode(video=0))) == 5
        assert container.duration == pytest.approx(200_000, abs=41_000)


def test_a_video_of_an_unknown_ending_is_one(upscaler, tmp_path):
    source = film(tmp_path / "film.mkv").rename(tmp_path / "film.part")
    assert not run(upscaler, plan([source], tmp_path / "out.mkv"), WriteOptions())
    assert len(pictures(tmp_path / "out.mkv")) == 3
    (tmp_path / "text.part").write_text("Not a film.")
    with pytest.raises(ValueError, match=r"'\.mkv'"):
        plan([tmp_path / "text.part"], tmp_path / "other.mkv")


@pytest.mark.parametrize(
    ("sizing", "size", "aspect"),
    [
        (Sizing(down=2), (72, 48), Fraction(32, 27)),
        (Sizing(to=(96, 54)), (96, 54), 1),
        (Sizing(to=(72, 96)), (72, 96), Fraction(64, 27)),
    ],
)
def test_results_are_brought_to_a_size(sizing, size, aspect, upscaler, tmp_path):
    """The picture's own shape stays: pixels take what the new size changes."""
    out = tmp_path / "out.mkv"
    jobs = plan([DATA / "sar_vp9.mkv"], out)
    assert not run(upscaler, jobs, WriteOptions(), sizing)
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == size
        assert float(stream.sample_aspect_ratio) == pytest.approx(
            float(aspect), rel=0.006
        )


def test_one_run_at_a_time_writes_an_output(upscaler, tmp_path):
    source = film(tmp_path / "in.mkv")
    out = tmp_path / "out.mkv"
    script = (
        "from pathlib import Path\n"
        "from paragon_archs.inference.segments import Segments\n"
        f"with Segments(Path({str(out)!r}), 'x', False) as parts:\n"
        "    parts.finish([0], 1, {})\n"
        "    print('held', flush=True)\n"
        "    input()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=f"process {other.pid} .* writes it"):
        upscale_video(upscaler, source, out, progress=False)
    assert (tmp_path / ".out.mkv.parts" / "manifest.json").exists()
    other.communicate("\n")
    assert upscale_video(upscaler, source, out, progress=False) == 3
    assert sorted(f.name for f in tmp_path.iterdir()) == ["in.mkv", "out.mkv"]
