"""Videos: every stream, tag, timestamp and scene comes out as it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
import torch
from common import randomise

import paragon_archs
from paragon_archs.checkpoint import load_model, save_model
from paragon_archs.export import export_onnx
from paragon_archs.inference import Upscaler
from paragon_archs.inference.scenes import SceneCuts
from paragon_archs.inference.temporal import FrameUpscaler
from paragon_archs.inference.video import VideoOptions, upscale_video
from paragon_archs.media.arrays import to_array, to_tensor

LOSSLESS = VideoOptions(codec="ffv1", pixel_format="yuv444p", segment=7)


@pytest.fixture(scope="session")
def realtime(tmp_path_factory):
    """A small network with a feature tap; its picture is close to the input."""
    file = tmp_path_factory.mktemp("weights") / "realtime.safetensors"
    torch.manual_seed(0)
    save_model(paragon_archs.create("paragonsr2_realtime", 2, num_blocks=1), file, {})
    return file


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """A small network without one."""
    file = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    model = paragon_archs.create("paragonsr_nano", 2, num_groups=1, num_blocks=1)
    save_model(randomise(model), file, {})
    return file


def scene(index, shift=0, height=48, width=64, seed=0):
    """A smooth random picture; `shift` moves it."""
    rng = np.random.default_rng(100 * seed)
    coarse = rng.uniform(20, 235, (8, 16, 3))
    y = (np.arange(height) * 8 / height).astype(int)
    x = (((np.arange(width) + shift) % width) * 16 / width).astype(int)
    return np.clip(coarse[y][:, x] + index % 3, 0, 255).astype(np.uint8)


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


def decoded(file):
    """Returns times in seconds and pictures of the first video stream."""
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        return [
            (float(f.pts * f.time_base), f.to_ndarray(format="rgb24"))
            for f in container.decode(stream)
        ]


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


def simple_video(file, frames, rate=25, codec="ffv1", pixel_format="yuv444p", tags=()):
    with av.open(str(file), "w") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height = frames[0].shape[1], frames[0].shape[0]
        stream.pix_fmt = pixel_format
        for name, value in dict(tags).items():
            setattr(stream.codec_context, name, value)
        deep = frames[0].dtype == np.uint16
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(
                picture, format="rgb48le" if deep else "rgb24"
            )
            frame.pts, frame.time_base = i, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


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
    from paragon_archs.media.video_color import Look, from_rgb, to_rgb

    look = Look(matrix, full, 8, "444", {})
    picture = scene(0)
    frame = from_rgb(picture, look, "yuv444p")
    back = to_rgb(frame, look)
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


def frames_of_temporal(upscaler, pictures, alpha):
    worker = FrameUpscaler(upscaler, alpha)
    return [worker.frames([p])[0] for p in pictures]


def test_features_blend_and_are_dropped_at_cuts(realtime):
    upscaler = Upscaler(realtime, "cpu")
    rng = np.random.default_rng(0)
    still = scene(0).astype(int)
    noisy = [
        np.clip(still + rng.normal(0, 8, still.shape), 0, 255).astype(np.uint8)
        for _ in range(3)
    ]
    other = scene(0, seed=7)
    got = frames_of_temporal(upscaler, [*noisy, other], 0.2)
    network, state = upscaler.runner.network, None
    for index, picture in enumerate([*noisy, other]):
        x = torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        with torch.inference_mode():
            before = None if index == 3 else state  # the cut
            y, state = network(x, feature_tap=True, prev_feat=before, alpha=0.2)
        wanted = y[0].clamp(0, 1).permute(1, 2, 0).numpy()
        assert np.abs(got[index] / 255 - wanted).max() <= 0.5 / 255 + 1e-5


def test_temporal_mode_in_strips_is_the_same(realtime):
    pictures = [scene(i, shift=i, height=90) for i in range(3)]
    whole = frames_of_temporal(Upscaler(realtime, "cpu"), pictures, 0.2)
    bounded = Upscaler(realtime, "cpu", memory="1M")
    strips = frames_of_temporal(bounded, pictures, 0.2)
    for one, two in zip(whole, strips, strict=True):
        assert np.abs(one.astype(int) - two).max() <= 1


def test_batches_are_the_frames(plain):
    upscaler = Upscaler(plain, "cpu")
    pictures = [scene(i, shift=i) for i in range(4)]
    together = FrameUpscaler(upscaler).frames(pictures)
    for picture, got in zip(pictures, together, strict=True):
        assert np.abs(upscaler.image(picture).astype(int) - got).max() <= 1


def test_temporal_needs_a_feature_tap(plain):
    with pytest.raises(ValueError, match="feature tap"):
        FrameUpscaler(Upscaler(plain, "cpu"), 0.2)


def cuts(pictures):
    detector = SceneCuts()
    return [i for i, p in enumerate(pictures) if detector.starts(p)]


def test_hard_cuts_are_found():
    pictures = [scene(i, shift=i, seed=i // 5) for i in range(20)]
    assert cuts(pictures) == [0, 5, 10, 15]


def test_flashes_fades_and_pans_are_no_cuts():
    base = scene(0, height=135, width=240).astype(float)
    flash = [base, np.clip(base * 1.7 + 30, 0, 255), base]
    fade = [base * (1 - i / 12) for i in range(13)]
    dissolve = [
        base * (1 - i / 10) + scene(0, height=135, width=240, seed=3) * (i / 10)
        for i in range(11)
    ]
    pan = [scene(0, shift=12 * i, height=135, width=240) for i in range(8)]
    rng = np.random.default_rng(0)
    noise = [np.clip(base + rng.normal(0, 12, base.shape), 0, 255) for _ in range(4)]
    for pictures in (flash, fade, dissolve, pan, noise):
        assert cuts([np.asarray(p).astype(np.uint8) for p in pictures]) == [0]


def page(seed, height=180, width=320):
    """A page of text, nearly: rows of dark strokes on white."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 250, np.uint8)
    for top in range(20, height - 20, 14):
        strokes = rng.random((9, width - 60)) < 0.45
        strokes[:, rng.random(width - 60) < 0.2] = False  # between words
        picture[top : top + 9, 30:-30][strokes] = 20
    return picture


SLIDES = {
    "text": [page(0), page(1)],
    "white text on black": [255 - page(0), 255 - page(1)],
    "mirrored": [scene(0, height=135, width=240), scene(0, 0, 135, 240)[:, ::-1]],
    "upside down": [scene(0, height=135, width=240), scene(0, 0, 135, 240)[::-1]],
    "a mirrored page": [page(0), page(0)[:, ::-1]],
}


@pytest.mark.parametrize("pictures", SLIDES.values(), ids=SLIDES)
def test_cuts_between_like_histograms_are_found(pictures):
    one, two = pictures
    assert cuts([one, one, two, two, one]) == [0, 2, 4]


def test_text_that_moves_or_grows_is_no_cut():
    long = page(3, height=400)
    scrolled = [long[top : top + 180] for top in range(0, 60, 12)]
    rng = np.random.default_rng(0)
    noisy = [page(0) + rng.normal(0, 12, (180, 320, 3)) for _ in range(4)]
    typed = [page(0).copy() for _ in range(6)]
    for shown, picture in enumerate(typed):
        picture[20 + 14 * (shown + 4) :] = 250
    for pictures in (scrolled, noisy, typed):
        assert cuts([np.clip(p, 0, 255).astype(np.uint8) for p in pictures]) == [0]


def test_a_slide_leaves_nothing_of_the_one_before(realtime):
    upscaler = Upscaler(realtime, "cpu")
    alone = frames_of_temporal(upscaler, [page(1)], 0.2)
    after = frames_of_temporal(upscaler, [page(0), page(0), page(1)], 0.2)
    np.testing.assert_array_equal(after[2], alone[0])


@pytest.mark.parametrize("kernel", ["published", "mks2021"])
def test_a_resumed_run_remembers_what_it_blends(kernel, tmp_path, monkeypatch):
    """A noisy still: features and what steadies it are carried over the stop."""
    model = paragon_archs.create(
        "paragonsr2_realtime", 2, base_kernel=kernel, num_blocks=1
    )
    upscaler = Upscaler(load_model(model.state_dict()), "cpu")
    rng = np.random.default_rng(0)
    still = scene(0, height=16, width=24).astype(float)
    source = tmp_path / "in.mkv"
    frames = [still + rng.normal(0, 6, still.shape) for _ in range(12)]
    simple_video(source, [np.clip(f, 0, 255).astype(np.uint8) for f in frames])
    whole, broken = tmp_path / "whole.mkv", tmp_path / "broken.mkv"
    options = VideoOptions(codec="ffv1", pixel_format="yuv444p", segment=4)
    upscale_video(upscaler, source, whole, options, progress=False)

    class StoppedError(Exception):
        pass

    given, left = FrameUpscaler.upscale, iter(range(9))

    def some(self, pictures):
        if next(left, None) is None:
            raise StoppedError
        return given(self, pictures)

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(FrameUpscaler, "upscale", some)
        upscale_video(upscaler, source, broken, options, progress=False)
    upscale_video(upscaler, source, broken, options, resume=True, progress=False)
    for (t, a), (u, b) in zip(decoded(whole), decoded(broken), strict=True):
        assert t == u
        np.testing.assert_array_equal(a, b)


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
    script = (
        "import torch; torch.set_num_threads(1)\n"
        "from paragon_archs.inference import Upscaler, VideoOptions, upscale_video\n"
        f"upscaler = Upscaler({str(realtime)!r}, 'cpu')\n"
        f"upscale_video(upscaler, {str(source)!r}, {str(broken)!r}, "
        "VideoOptions(codec='ffv1', pixel_format='yuv444p', segment=4))"
    )
    path = os.pathsep.join(sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}
    )
    parts = tmp_path / ".broken.mkv.parts"
    while process.poll() is None and len(list(parts.glob("part_*.nut"))) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not broken.exists():
        done = len(list(parts.glob("part_*.nut")))
        assert done >= 2
        stamps = {p: p.stat().st_mtime_ns for p in parts.glob("part_0000[01].nut")}
        upscale_video(upscaler, source, broken, options, resume=True, progress=False)
        assert stamps
    assert not parts.exists()
    one, two = decoded(whole), decoded(broken)
    assert len(one) == len(two) == 40
    for (t, a), (u, b) in zip(one, two, strict=True):
        assert t == u
        np.testing.assert_array_equal(a, b)


def test_a_still_picture_is_steadied_and_a_moving_one_left_alone():
    rng = np.random.default_rng(0)
    model = paragon_archs.create("paragonsr2_realtime", 2, base_kernel="mks2021")
    steady = FrameUpscaler(Upscaler(load_model(model.state_dict()), "cpu"), 0.2)
    films = rng.normal(100, 5, (4, 48, 64, 3))
    films[:, 8:24, 8:24] += 120
    films[2:, 8:24, 8:24] -= 120  # the square has gone on
    films[2:, 8:24, 40:56] += 120
    frames = list(films.round().clip(0, 255).astype(np.uint8))
    cpu, bytes_ = torch.device("cpu"), np.dtype(np.uint8)
    steadied = [
        to_array(steady._steadied(to_tensor(frame, cpu), 255, 0.2), bytes_)
        for frame in frames
    ]
    assert np.array_equal(steadied[0], frames[0])
    still = np.s_[32:, :]
    assert steadied[3][still].std() < 0.9 * frames[3][still].std()
    for moved in (np.s_[10:22, 10:22], np.s_[10:22, 42:54]):
        assert np.array_equal(steadied[2][moved], frames[2][moved])


@pytest.mark.parametrize("kernel", ["published", "mks2021"])
def test_only_a_sharp_base_path_is_steadied(kernel):
    model = paragon_archs.create("paragonsr2_realtime", 2, base_kernel=kernel)
    steady = FrameUpscaler(Upscaler(load_model(model.state_dict()), "cpu"), 0.2)
    steady.frames([np.zeros((8, 8, 3), np.uint8)] * 2)
    assert (steady.before is not None) == (kernel == "mks2021")


@pytest.mark.parametrize("kernel", ["published", "mks2021"])
def test_a_graph_s_video_is_steadied_as_its_network_s(kernel, tmp_path, caplog):
    pytest.importorskip("onnxruntime")
    model = paragon_archs.create(
        "paragonsr2_realtime", 2, base_kernel=kernel, num_blocks=1
    )
    export_onnx(model, tmp_path / "video.onnx", video=True)
    rng = np.random.default_rng(0)
    frames = list(rng.normal(100, 5, (3, 8, 9, 3)).round().astype(np.uint8))
    shown = []
    for weights in (load_model(model.state_dict()), tmp_path / "video.onnx"):
        worker = FrameUpscaler(Upscaler(weights, "cpu", dtype="fp32"), 0.2)
        shown.append(np.stack(worker.frames(frames)).astype(int))
        assert (worker.before is not None) == (kernel == "mks2021")
    assert np.abs(shown[0] - shown[1]).max() <= 1
    assert "asked for" not in caplog.text
    # Its share is part of a graph: another one is not obeyed, which is logged.
    assert FrameUpscaler(Upscaler(tmp_path / "video.onnx", "cpu"), 0.5).alpha == 0.2
    assert "0.5 was asked for" in caplog.text
