"""Streams beside the pictures: timecode, sound, subtitles, covers."""

from __future__ import annotations

import av
import pytest
from video_file_common import DATA, ENDINGS, film, upscaled

from paragon_archs.inference.video import VideoOptions, upscale_video


@pytest.mark.parametrize("ending", ["mov", "mp4", "mkv", "m4v"])
def test_a_timecode_is_carried(ending, upscaler, tmp_path):
    out = upscaled(upscaler, "tmcd.mov", ending, tmp_path)
    with av.open(str(out)) as container:
        tags = {k.lower(): v for k, v in container.streams.video[0].metadata.items()}
        tags_in = {k.lower(): v for k, v in container.metadata.items()} | tags
        assert tags_in["timecode"] == "01:00:00:00"
        assert container.streams.video[0].average_rate == 25


def test_a_timecode_tag_of_matroska_goes_into_mp4(upscaler, tmp_path):
    first = upscaled(upscaler, "tmcd.mov", "mkv", tmp_path)
    out = tmp_path / "back.mp4"
    upscale_video(upscaler, first, out, progress=False)
    with av.open(str(out)) as container:
        assert container.streams.video[0].metadata["timecode"] == "01:00:00:00"


def test_a_timecode_that_does_not_fit_the_rate_is_named(upscaler, tmp_path, caplog):
    tags_in = {"timecode": "01:00:00:00"}
    source = film(tmp_path / "in.mkv", metadata=tags_in, rate=960)
    upscale_video(upscaler, source, tmp_path / "out.mov", progress=False)
    assert caplog.text.count("its timecode is left out") == 1


@pytest.mark.parametrize("ending", ["mp4", "webm", "mov"])
@pytest.mark.parametrize("sound", ["truehd", "pcm_s16le", "aac", "ac3", "flac"])
def test_what_a_muxer_refuses_is_refused_before_work(sound, ending, upscaler, tmp_path):
    """And the container that is named instead takes it."""
    source = DATA / "truehd.mkv"
    if sound != "truehd":  # which PyAV does not write
        source = film(tmp_path / "in.mkv", sound=sound)
    out = tmp_path / f"out.{ending}"
    try:
        upscale_video(upscaler, source, out, progress=False)
    except ValueError as error:
        found = str(error)
        assert f"a stream of {sound}" in found
        assert not list(tmp_path.glob(".*")), "work has begun"
        other = found.rsplit("Write to .", 1)[1].rstrip(".")
        assert other != ending
        out = tmp_path / f"out.{other}"
        upscale_video(upscaler, source, out, progress=False)
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name == sound


def test_a_container_that_cannot_hold_the_video_is_refused(upscaler, tmp_path):
    source = film(tmp_path / "in.mkv")
    with pytest.raises(ValueError, match=r"encoded video.*'\.webm'.*Write to \.mkv"):
        upscale_video(
            upscaler, source, tmp_path / "o.webm", VideoOptions("libx264"), False, False
        )
    assert [file.name for file in tmp_path.iterdir()] == ["in.mkv"]


def text_of(file):
    with av.open(str(file)) as container:
        stream = container.streams.subtitles[0]
        found = []
        for packet in container.demux(stream):
            if packet.size:
                for text in packet.decode():
                    start = float(packet.pts * packet.time_base)
                    length = float(packet.duration * packet.time_base)
                    found.append((text.dialogue.decode(), start, length))
        return stream.codec_context.codec.canonical_name, found


@pytest.mark.parametrize(
    ("ending", "codec"),
    [("mkv", "subrip"), ("webm", "webvtt"), ("mp4", "mov_text"), ("mov", "mov_text")],
)
def test_subtitles_are_written_as_the_container_has_them(
    ending, codec, upscaler, tmp_path
):
    out = upscaled(upscaler, "movtext.mp4", ending, tmp_path)
    back = tmp_path / "back.mp4"
    upscale_video(upscaler, out, back, progress=False)
    for file, name in ((out, codec), (back, "mov_text")):
        found, texts = text_of(file)
        assert found == name
        texts = [text for text in texts if text[0]]  # MP4 has empty ones between
        assert texts == [("Hallo", pytest.approx(0.1), pytest.approx(0.3))]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_cover_stays_one(ending, upscaler, tmp_path, caplog):
    out = upscaled(upscaler, "cover.mkv", ending, tmp_path)
    with av.open(str(out)) as container:
        kinds = [
            bool(s.disposition & type(s.disposition).attached_pic)
            for s in container.streams.video
        ]
        if ending in ("mkv", "mp4", "m4v"):
            assert kinds == [False, True]
            assert container.streams.video[1].codec_context.name == "png"
        else:
            assert kinds == [False]
    assert caplog.text.count("its cover is left out") == (len(kinds) == 1)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm"])
def test_stereo_mode_is_carried_or_named(ending, upscaler, tmp_path, caplog):
    tags_in = {"stereo_mode": "left_right", "alpha_mode": "1", "BPS-eng": "1000"}
    source = film(tmp_path / "in.mkv", metadata={**tags_in, "title": "Film"})
    out = tmp_path / f"out.{ending}"
    upscale_video(upscaler, source, out, progress=False)
    with av.open(str(out)) as container:
        found = {k.lower() for k in container.streams.video[0].metadata}
    assert ("stereo_mode" in found) == (ending != "mp4")
    assert caplog.text.count("its stereo mode is left out") == (ending == "mp4")
    # These are true of the source's own encoding alone.
    assert not found & {"alpha_mode", "bps-eng"}
    assert ending == "mp4" or "title" in found
