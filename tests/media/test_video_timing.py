"""Videos last as long as their sources, at their rate, whatever the containers."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from video_common import stopped

import paragon_archs
from paragon_archs.checkpoint import save_model
from paragon_archs.inference import Upscaler
from paragon_archs.inference.video import VideoOptions, upscale_video

SOURCES = ("mp4", "mkv", "mov", "webm", "avi", "ts")
OUTPUTS = ("mp4", "mkv", "mov", "webm", "m4v")
EXACT = ("mp4", "mov", "m4v")  # Matroska's clock ticks in milliseconds
ENCODERS = {"webm": "libvpx-vp9", "avi": "mpeg4"}
FRAMES = 20
RATES = [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), 50, 60]
# Milliseconds that the frames of a film of variable rate stay.
VARIABLE = [70, 30, 30] * 6 + [120, 500]


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    torch.manual_seed(0)
    model = paragon_archs.create("paragonsr_nano", 2, num_groups=1, num_blocks=1)
    save_model(model, file, {})
    return Upscaler(file, "cpu")


def film(file, rate, durations=None, encoder=None):
    """Writes a gray film that brightens; `durations` are milliseconds of its frames."""
    base = Fraction(1, 1000) if durations else 1 / Fraction(rate)
    lengths = durations or [1] * FRAMES
    starts = np.cumsum([0, *lengths])
    shown = {int(a): n for a, n in zip(starts, lengths, strict=False)}
    encoder = encoder or ENCODERS.get(file.suffix[1:], "libx264")
    # Without B frames MP4's own durations are those of the frames.
    options = {"bf": "0"} if durations else {}
    with av.open(str(file), "w") as out:
        stream = out.add_stream(encoder, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        stream.codec_context.time_base = base
        for index in range(len(lengths)):
            picture = np.full((16, 32, 3), 8 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = int(starts[index]), base
            mux(out, stream.encode(frame), shown, base)
        mux(out, stream.encode(None), shown, base)
    return file


def mux(out, packets, shown, base):
    for packet in packets:
        # Before the first packet the muxer has not changed the time base yet.
        packet.duration = round(shown[packet.pts] * base / packet.time_base)
        out.mux(packet)


def measured(file):
    """Returns seconds of the container and of the stream, average and real rate, and
    each packet's time and duration in seconds, in the order shown."""
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        whole = container.duration / av.time_base
        own = stream.duration and float(stream.duration * stream.time_base)
        rates = stream.average_rate, stream.base_rate
        found = sorted(
            (float(p.pts * p.time_base), float((p.duration or 0) * p.time_base))
            for p in container.demux(stream)
            if p.size
        )
    return whole, own, rates, found


def extracted(file, folder):
    """Returns how many pictures ffmpeg writes from a film."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("ffmpeg is not installed")
    folder.mkdir()
    command = [ffmpeg, "-v", "error", "-i", str(file), str(folder / "f_%05d.png")]
    subprocess.run(command, check=True)
    return len(list(folder.iterdir()))


def check_constant(source, out, rate, frames=FRAMES):
    whole, own, rates, packets = measured(out)
    tick = 1e-6 if out.suffix[1:] in EXACT else 1.01e-3
    assert whole == pytest.approx(float(frames / rate), abs=tick)
    assert own is None or own == pytest.approx(float(frames / rate), abs=tick)
    assert rates == (rate, rate)
    assert len(packets) == frames
    for index, (time, duration) in enumerate(packets):
        assert time == pytest.approx(float(index / rate), abs=tick)
        assert duration == pytest.approx(float(1 / rate), abs=tick)


@pytest.mark.parametrize("ending", OUTPUTS)
@pytest.mark.parametrize("kind", SOURCES)
def test_a_constant_rate_is_kept(kind, ending, upscaler, tmp_path):
    rate = RATES[(SOURCES.index(kind) + OUTPUTS.index(ending)) % len(RATES)]
    source = film(tmp_path / f"in.{kind}", rate)
    out = tmp_path / f"out.{ending}"
    options = VideoOptions(segment=8)
    assert upscale_video(upscaler, source, out, options, progress=False) == FRAMES
    check_constant(source, out, rate)
    assert extracted(out, tmp_path / "pictures") == FRAMES


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "ts"])
@pytest.mark.parametrize("rate", RATES, ids=lambda rate: f"{float(rate):.5g}")
def test_every_usual_rate_is_kept(rate, kind, ending, upscaler, tmp_path):
    source = film(tmp_path / f"in.{kind}", rate)
    out = tmp_path / f"out.{ending}"
    upscale_video(upscaler, source, out, progress=False)
    check_constant(source, out, rate)


@pytest.mark.parametrize("ending", OUTPUTS)
@pytest.mark.parametrize("kind", [k for k in SOURCES if k != "avi"])
def test_a_variable_rate_is_kept(kind, ending, upscaler, tmp_path):
    """AVI holds no variable rates."""
    source = film(tmp_path / f"in.{kind}", 25, VARIABLE)
    out = tmp_path / f"out.{ending}"
    options = VideoOptions(segment=8)
    upscale_video(upscaler, source, out, options, progress=False)
    before, after = measured(source), measured(out)
    if kind != "ts":  # which keeps no durations
        assert before[0] == pytest.approx(sum(VARIABLE) / 1000, abs=1e-3)
    assert after[0] == pytest.approx(before[0], abs=1e-3)
    assert after[1] is None or after[1] == pytest.approx(before[0], abs=1e-3)
    starts = np.cumsum([0, *VARIABLE])[:-1] / 1000
    assert [time for time, _ in after[3]] == pytest.approx(starts, abs=1e-3)
    average = Fraction(len(VARIABLE) * 1000, sum(VARIABLE))
    if ending in EXACT:
        # Durations of MP4's packets lie between decoding times; they sum up.
        assert sum(d for _, d in after[3]) == pytest.approx(before[0], abs=1e-3)
        assert kind == "ts" or after[2][0] == average
    else:
        gaps = [b - a for a, b in pairwise([*starts, before[0]])]
        assert [d for _, d in after[3]] == pytest.approx(gaps, abs=1e-3)
        assert after[2][0] == before[2][0] or kind == "ts"
        pictures = extracted(out, tmp_path / "after")
        assert abs(pictures - after[0] * after[2][0]) < 3


@pytest.mark.parametrize("ending", OUTPUTS)
def test_the_last_frame_keeps_its_own_duration(ending, upscaler, tmp_path):
    """Nothing follows it that would end it."""
    lengths = [2000, 3000, 1000, 5000]
    source = film(tmp_path / "in.mkv", 25, lengths)
    out = tmp_path / f"out.{ending}"
    upscale_video(upscaler, source, out, progress=False)
    whole, _, _, packets = measured(out)
    assert whole == pytest.approx(11, abs=1e-3)
    assert packets[-1][0] == pytest.approx(6, abs=1e-3)


def test_frames_that_a_constant_rate_leaves_out_stay_gaps(upscaler, tmp_path):
    lengths = [40] * 5 + [120] + [40] * 4
    source = film(tmp_path / "in.mkv", 25, lengths)
    out = tmp_path / "out.mp4"
    upscale_video(upscaler, source, out, progress=False)
    whole, _, rates, packets = measured(out)
    assert whole == pytest.approx(sum(lengths) / 1000)
    assert rates[0] == Fraction(10_000, sum(lengths))
    gaps = [round(1000 * (b[0] - a[0])) for a, b in pairwise(packets)]
    assert gaps == lengths[:-1]


def test_b_frames_in_avi_have_their_times(upscaler, tmp_path):
    source = film(tmp_path / "in.avi", 25, encoder="libx264")
    out = tmp_path / "out.mp4"
    upscale_video(upscaler, source, out, progress=False)
    check_constant(source, out, Fraction(25))


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_resumed_run_has_the_same_times(ending, upscaler, tmp_path, monkeypatch):
    source = film(tmp_path / "in.mkv", 25, VARIABLE)
    whole, broken = tmp_path / f"whole.{ending}", tmp_path / f"broken.{ending}"
    options = VideoOptions(segment=4)
    upscale_video(upscaler, source, whole, options, progress=False)

    with stopped(monkeypatch, after=10):
        upscale_video(upscaler, source, broken, options, progress=False)
    upscale_video(upscaler, source, broken, options, resume=True, progress=False)
    assert measured(broken) == measured(whole)
