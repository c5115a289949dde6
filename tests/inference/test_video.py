"""Videos: every stream, tag, timestamp and scene comes out as it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from video_common import LOSSLESS, decoded, scene, simple_video

import paragon_archs
from paragon_archs.checkpoint import save_model
from paragon_archs.inference import Upscaler
from paragon_archs.inference.video import VideoOptions, upscale_video


def write_everything(file, folder, frames=24, cut=15):
    """A film with all that a container can hold."""
    (folder / "s.srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,400\nHallo\n\n"
        "2\n00:00:00,500 --> 00:00:00,700\nWelt\n"
    )
    with av.open(str(folder / "s.srt")) as text, av.open(str(file), "w") as out:
        # One thread: with several, x264 does not write the same film each time.
        settings = {"crf": "10", "threads": "1"}
        video = out.add_stream("libx264", rate=25, options=settings)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        context = video.codec_context
        context.time_base = Fraction(1, 1000)
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 1
        first = out.add_stream("aac", rate=48000)
        first.metadata["language"] = "deu"
        second = out.add_stream("flac", rate=48000)
        second.metadata["title"] = "Commentary"
        subtitles = out.add_stream_from_template(text.streams[0])
        subtitles.metadata["language"] = "eng"
        out.add_attachment("font.ttf", "application/x-truetype-font", b"font" * 40)
        out.metadata["title"] = "Film"
        out.set_chapters(
            [
                {
                    "id": 1,
                    "start": 0,
                    "end": 500,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": "One"},
                }
            ]
        )
        pts = 0
        for i in range(frames):
            picture = scene(i, shift=i, seed=int(i >= cut))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            pts += 30 if i % 3 else 70  # variable frame rate
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        silence: Any = (np.zeros((2, 1024), np.float32), np.zeros((1, 2048), np.int16))
        for stream, sound, kind in zip(
            (first, second), silence, ("fltp", "s16"), strict=True
        ):
            for block in range(20):
                frame = av.AudioFrame.from_ndarray(sound, format=kind, layout="stereo")
                frame.sample_rate, frame.pts = 48000, 1024 * block
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        for packet in text.demux():
            if packet.size:
                packet.stream = subtitles
                out.mux(packet)


def packets(file, kind):
    """Returns the packets of each stream of a kind: times in seconds and bytes."""
    found = {}
    with av.open(str(file)) as container:
        for stream in container.streams:
            if stream.type == kind:
                found[stream.index] = []
        for packet in container.demux():
            if packet.stream.index in found and packet.size:
                seconds = float(packet.pts * packet.time_base)
                found[packet.stream.index].append((seconds, bytes(packet)))
    return list(found.values())


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    write_everything(folder / "film.mkv", folder)
    return folder / "film.mkv"


@pytest.fixture(scope="module")
def upscaled(film, realtime, tmp_path_factory):
    out = tmp_path_factory.mktemp("upscaled") / "out.mkv"
    count = upscale_video(Upscaler(realtime, "cpu"), film, out, VideoOptions(segment=7))
    assert count == 24
    return out


def test_every_frame_at_its_time(film, upscaled):
    before, after = decoded(film), decoded(upscaled)
    assert len(before) == len(after) == 24
    assert [t for t, _ in after] == pytest.approx([t for t, _ in before], abs=0.0015)
    assert after[0][1].shape == (96, 128, 3)


@pytest.mark.parametrize("kind", ["audio", "subtitle"])
def test_other_streams_are_copied_untouched(film, upscaled, kind):
    before, after = packets(film, kind), packets(upscaled, kind)
    assert len(before) == (2 if kind == "audio" else 1)
    assert len(after) == len(before)
    for one, two in zip(before, after, strict=True):
        assert [b for _, b in one] == [b for _, b in two]
        assert [t for t, _ in two] == pytest.approx([t for t, _ in one], abs=0.0015)


def test_chapters_tags_attachments_and_color_are_kept(film, upscaled):
    with av.open(str(film)) as a, av.open(str(upscaled)) as b:
        assert [s.type for s in a.streams] == [s.type for s in b.streams]
        assert b.metadata["title"] == "Film"
        assert b.chapters()[0]["metadata"] == {"title": "One"}
        assert b.streams.audio[0].metadata["language"] == "deu"
        assert b.streams.audio[1].metadata["title"] == "Commentary"
        assert b.streams.subtitles[0].metadata["language"] == "eng"
        assert b.streams[4].name == "font.ttf"
        assert b.streams[4].data == b"font" * 40
        context = b.streams.video[0].codec_context
        assert context.colorspace == context.color_primaries == context.color_trc == 1
        assert context.color_range == 1


def exactly(file):
    """Returns the pictures of a film in BT.709 and the limited range, chroma where
    H.264 has it."""
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        scale = graph.add(
            "scale",
            flags="bicubic+full_chroma_int+full_chroma_inp+accurate_rnd",
            in_color_matrix="bt709",
            in_range="tv",
            out_range="pc",
            in_chroma_loc="left",
        )
        graph.link_nodes(
            graph.add_buffer(template=stream),
            scale,
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ).configure()
        for frame in container.decode(stream):
            graph.vpush(frame)
            yield graph.vpull().to_ndarray()


def color_map(before, after):
    """The linear map between the colors of two pictures, by least squares; (3, 3).

    The identity when colors are kept; BT.601 taken for BT.709 shows as 0.1 beside
    the diagonal, a mistaken range as 0.14 on it.
    """
    cells = [
        picture[: picture.shape[0] // 8 * 8, : picture.shape[1] // 8 * 8]
        .reshape(picture.shape[0] // 8, 8, picture.shape[1] // 8, 8, 3)
        .mean((1, 3))
        .reshape(-1, 3)
        for picture in (before.astype(float), after.astype(float))
    ]
    centered = [c - c.mean(0) for c in cells]
    return np.linalg.lstsq(*centered, rcond=None)[0]


def test_picture_keeps_its_colors(film, tmp_path):
    """A network that only resamples: what comes out is the source, somewhat softer.

    Both are decoded as the film is tagged, chroma interpolated and rounded to nearest:
    swscale's quicker way darkens what has halved chroma by up to 2.5 of 255.
    """
    model = paragon_archs.create(
        "paragonsr2_realtime", 2, detail_gain=0.0, upsampler_alpha=0.0
    )
    save_model(model, tmp_path / "m.safetensors", {})
    out = tmp_path / "out.mkv"
    options = VideoOptions(codec="ffv1", pixel_format="yuv420p")
    upscale_video(Upscaler(tmp_path / "m.safetensors", "cpu"), film, out, options)
    for before, after in zip(exactly(film), exactly(out), strict=True):
        inner = (slice(8, -8), slice(8, -8))
        enlarged = before.repeat(2, 0).repeat(2, 1)[inner].astype(float)
        found = color_map(enlarged, after[inner])
        assert abs(found - np.diag(np.diag(found))).max() < 0.06
        assert 0.85 < np.diag(found).min() <= np.diag(found).max() < 1.05  # softer
        assert abs((after[inner] - enlarged).mean((0, 1))).max() < 0.3


def test_ten_bits_and_bt2020_carry_through(tmp_path, plain):
    frames = [scene(i).astype(np.uint16) * 257 for i in range(3)]
    source = tmp_path / "hdr.mkv"
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
    simple_video(source, frames, pixel_format="yuv420p10le", tags=tags)
    out = tmp_path / "out.mkv"
    upscale_video(Upscaler(plain, "cpu"), source, out)
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        assert context.name == "hevc"
        assert context.pix_fmt == "yuv420p10le"
        for name, value in tags.items():
            assert getattr(context, name) == value


@pytest.mark.parametrize("pixel_format", ["bgra", "yuva444p", "yuv444p"])
def test_transparency_that_is_left_out_is_said(pixel_format, tmp_path, plain, caplog):
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 12, pixel_format
        frame = av.VideoFrame.from_ndarray(scene(0, height=12, width=16))
        out.mux(stream.encode(frame.reformat(format=pixel_format)))
        out.mux(stream.encode(None))
    assert upscale_video(Upscaler(plain), source, tmp_path / "o.mkv", LOSSLESS) == 1
    count = caplog.text.count("transparency is left out")
    assert count == ("a" in pixel_format)


@pytest.mark.parametrize("levels", [None, "1000,400"])
def test_light_levels_that_are_left_out_are_said(levels, tmp_path, plain, caplog):
    source = tmp_path / "hdr.mkv"
    with av.open(str(source), "w") as out:
        options = {"x265-params": f"log-level=error:max-cll={levels}"} if levels else {}
        stream = out.add_stream("libx265", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        frame = av.VideoFrame.from_ndarray(scene(0), format="rgb24")
        frame.pts = (
            0  # x265 counts from it; without one its dts is now and then invalid
        )
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    upscale_video(Upscaler(plain, "cpu"), source, tmp_path / "out.mkv", LOSSLESS)
    assert caplog.text.count("light levels are left out") == bool(levels)


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("full", [False, True])
def test_colors_survive_the_way_to_rgb_and_back(matrix, full):
    from paragon_archs.media.video_color import FromRGB, Look, ToRGB

    look = Look(matrix, full, 8, "444", {})
    picture = scene(0)
    frame = FromRGB(look, "yuv444p")(picture)
    back = ToRGB(look)(frame)
    assert np.abs(back.astype(int) - picture).max() <= 4
    luma = frame.to_ndarray(format="yuv444p")[0]
    assert luma.max() <= (255 if full else 236)


def turn_mp4(file, matrix):
    """Writes a display matrix into the track's header."""
    data = bytearray(file.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in matrix)
    file.write_bytes(data)


ONE = 1 << 16


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [
        ((0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30), -1),  # shown a quarter clockwise
        ((-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30), 2),
        ((0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30), 1),
    ],
)
def test_rotation_is_applied(tmp_path, plain, matrix, turns):
    source = tmp_path / "phone.mp4"
    simple_video(source, [scene(0)] * 2, codec="libx264", pixel_format="yuv420p")
    upright = tmp_path / "upright.mkv"
    simple_video(upright, [np.rot90(decoded(source)[0][1], turns)] * 2)
    turn_mp4(source, matrix)
    upscaler = Upscaler(plain, "cpu")
    upscale_video(upscaler, source, tmp_path / "a.mkv", LOSSLESS)
    upscale_video(upscaler, upright, tmp_path / "b.mkv", LOSSLESS)
    got, wanted = decoded(tmp_path / "a.mkv"), decoded(tmp_path / "b.mkv")
    assert got[0][1].shape == wanted[0][1].shape
    difference = np.abs(got[0][1].astype(int) - wanted[0][1])
    assert np.median(difference) <= 2


def test_a_container_that_cannot_hold_a_stream_is_refused_first(
    film, realtime, tmp_path
):
    with pytest.raises(ValueError, match=r"\.mkv"):
        upscale_video(Upscaler(realtime, "cpu"), film, tmp_path / "out.webm")
    assert not list(tmp_path.iterdir())


def test_broken_and_silent_files_are_one_sentence(tmp_path, realtime):
    upscaler = Upscaler(realtime, "cpu")
    (tmp_path / "broken.mp4").write_bytes(b"nothing" * 100)
    for name, part in (("broken.mp4", "whole video"), ("none.mp4", "no file")):
        with pytest.raises((ValueError, FileNotFoundError), match=part):
            upscale_video(upscaler, tmp_path / name, tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv").exists()


def test_a_full_disk_is_not_the_source_s_fault(tmp_path, realtime, monkeypatch):
    source = tmp_path / "in.mkv"
    simple_video(source, [scene(0, height=16, width=24)] * 2)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    output, options = tmp_path / "out.mkv", VideoOptions(segment=1)
    with pytest.raises(OSError, match=r"room for .*out\.mkv.* No space left"):
        upscale_video(Upscaler(realtime), source, output, options, progress=False)


def test_a_killed_run_resumes_where_it_was(tmp_path, realtime):
    source = tmp_path / "in.mkv"
    simple_video(source, [scene(i, shift=i) for i in range(40)])
    upscaler = Upscaler(realtime, "cpu")
    options = VideoOptions(codec="ffv1", pixel_format="yuv444p", segment=4)
    whole, broken = tmp_path / "whole.mkv", tmp_path / "broken.mkv"
    upscale_video(upscaler, source, whole, options, progress=False)
    script = f"""
import os, signal, torch
from paragon_archs.inference import Upscaler, VideoOptions, upscale_video
from paragon_archs.inference.temporal import FrameUpscaler

given, left = FrameUpscaler.upscale, iter(range(20))

def some(self, frames):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return given(self, frames)

torch.set_num_threads(1)
FrameUpscaler.upscale = some
options = VideoOptions(codec="ffv1", pixel_format="yuv444p", segment=4)
upscaler = Upscaler({str(realtime)!r}, "cpu")
upscale_video(upscaler, {str(source)!r}, {str(broken)!r}, options)
"""
    path = os.pathsep.join(sys.path)
    killed = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    parts = tmp_path / ".broken.mkv.parts"
    assert len(list(parts.glob("part_*.nut"))) >= 2
    upscale_video(upscaler, source, broken, options, resume=True, progress=False)
    assert not parts.exists()
    one, two = decoded(whole), decoded(broken)
    assert len(one) == len(two) == 40
    for (t, a), (u, b) in zip(one, two, strict=True):
        assert t == u
        np.testing.assert_array_equal(a, b)
