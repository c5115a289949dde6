"""A card's encoders and decoders, by stand-ins, and what comes where there is none."""

from __future__ import annotations

from types import SimpleNamespace

import av
import av.codec.hwaccel
import av.error
import numpy as np
import pytest

from paragon_archs.inference.video_options import VideoOptions
from paragon_archs.media import encoders, video
from paragon_archs.media.encoders import CODECS, encoding
from paragon_archs.media.video import VideoSource
from paragon_archs.media.video_color import FromRGB, look_of

NVENC = [name for name in CODECS if name.endswith("nvenc")]
MISSING = "Operation not permitted"


@pytest.fixture(scope="module", params=["yuv420p", "yuv422p10le", "yuv444p"])
def source(request, tmp_path_factory):
    file = tmp_path_factory.mktemp("film") / "film.mkv"
    with av.open(str(file), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, request.param
        for shade in (10, 200):
            picture = np.full((16, 32, 3), shade, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        out.mux(stream.encode(None))
    return file


def choice(source, codec, suffix=".mkv", **wanted):
    with VideoSource(source) as opened:
        return encoding(opened, (64, 32), None, suffix, codec, **wanted)


def with_card(monkeypatch, reason):
    monkeypatch.setattr(encoders, "refusal", lambda codec: reason)


@pytest.mark.parametrize("codec", NVENC)
def test_a_card_s_encoder_is_set_by_constant_quality(codec, source, monkeypatch):
    with_card(monkeypatch, None)
    usual, chosen = choice(source, codec), choice(source, codec, quality=31)
    assert usual.codec == codec
    assert usual.settings["cq"] == str(CODECS[codec].quality)
    assert chosen.settings["cq"] == "31"
    assert "crf" not in chosen.settings and chosen.settings["b"] == "0"
    known = {f.name for f in av.Codec(codec, "w").video_formats or ()}
    assert usual.pixel_format in known
    with VideoSource(source) as opened:
        look = opened.look
        frame = FromRGB(look, usual.pixel_format)(
            np.zeros((32, 64, 3), np.uint8 if look.bits == 8 else np.uint16)
        )
    assert frame.format.name == usual.pixel_format
    assert max(c.bits for c in frame.format.components) >= look.bits


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_auto_takes_the_card(suffix, source, monkeypatch):
    with_card(monkeypatch, None)
    with VideoSource(source) as opened:
        deep = look_of(opened.video).bits > 8
    wanted = "hevc_nvenc" if deep else "h264_nvenc"
    wanted = "av1_nvenc" if suffix == ".webm" else wanted
    assert choice(source, "auto", suffix).codec == wanted


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_auto_falls_back_with_one_line(suffix, source, monkeypatch, caplog):
    with_card(monkeypatch, MISSING)
    found = choice(source, "auto", suffix)
    assert found == choice(source, None, suffix)
    (line,) = [r.message for r in caplog.records if "nvenc" in r.message]
    assert found.codec in line and MISSING in line


@pytest.mark.parametrize("codec", NVENC)
def test_a_missing_card_is_one_sentence(codec, source, monkeypatch):
    with_card(monkeypatch, MISSING)
    with pytest.raises(ValueError, match=rf"{codec}.*{MISSING}.*'auto'"):
        choice(source, codec)


def test_a_card_is_tried_before_it_is_named():
    assert encoders.refusal("libx264") is None
    assert encoders.refusal("no_such_encoder")


@pytest.mark.parametrize("card", [False, True])
@pytest.mark.parametrize("decoder", ["cuda", "auto"])
def test_decoding_by_a_card(decoder, card, source, monkeypatch, caplog):
    given = av.open

    def opened(*arguments, hwaccel=None, **named):
        if hwaccel is not None:
            assert hwaccel.kind == "cuda" and hwaccel.allow_software_fallback
            if not card:
                raise av.error.PermissionError(1, MISSING)
        return given(*arguments, **named)

    def accelerated(kind, allow_software_fallback):
        return SimpleNamespace(
            kind=kind, allow_software_fallback=allow_software_fallback
        )

    monkeypatch.setattr(av, "open", opened)
    monkeypatch.setattr(av.codec.hwaccel, "HWAccel", accelerated)
    if decoder == "cuda" and not card:
        with pytest.raises(ValueError, match=f"NVIDIA card.*{MISSING}.*'auto'"):
            VideoSource(source, decoder=decoder)
        return
    with VideoSource(source, decoder=decoder) as film:
        assert len(list(film.frames())) == 2
    lines = [r.message for r in caplog.records if MISSING in r.message]
    assert len(lines) == (not card)


def test_a_card_s_stream_is_not_asked_what_pixels_mean(source, monkeypatch):
    assert not av.VideoFormat("cuda").components  # seen on a card: no bits to count
    asked, by_card, given = [], [], av.open

    def opened(*arguments, hwaccel=None, **named):
        container = given(*arguments, **named)
        by_card.extend([container] if hwaccel else [])
        return container

    def asks(stream):
        asked.append(stream.container)
        return look_of(stream)

    monkeypatch.setattr(av, "open", opened)
    monkeypatch.setattr(av.codec.hwaccel, "HWAccel", lambda *_, **__: "a card")
    monkeypatch.setattr(video, "look_of", asks)
    monkeypatch.setattr(video, "has_alpha", asks)
    with VideoSource(source, decoder="cuda") as film:
        assert [film.container] == by_card
        assert film.container not in asked and len(asked) == 2
        assert film.look == look_of(film.video)


@pytest.mark.parametrize(("name", "value"), [("codec", "h265"), ("decoder", "nvdec")])
def test_unknown_names_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name} to be one of .*auto.*{value}"):
        VideoOptions(**{name: value})
