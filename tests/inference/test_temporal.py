"""Features and steadied pictures from frame to frame."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from video_common import decoded, page, scene, simple_video, stopped

import paragon_archs
from paragon_archs.checkpoint import load_model
from paragon_archs.export import export_onnx
from paragon_archs.inference import Upscaler
from paragon_archs.inference.borders import Border
from paragon_archs.inference.pipeline import pipeline
from paragon_archs.inference.temporal import FrameUpscaler
from paragon_archs.inference.video import VideoOptions, upscale_video
from paragon_archs.media.arrays import to_array, to_tensor
from paragon_archs.media.video import SourceFrame


def frames_of_temporal(upscaler, pictures, alpha):
    worker = FrameUpscaler(upscaler, alpha)
    return [worker.frames([p])[0] for p in pictures]


def test_features_blend_and_are_dropped_at_cuts(realtime):
    upscaler = Upscaler(realtime, "cpu")
    upscaler.border = Border(0)  # as the network alone, below
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


def test_a_batch_that_does_not_fit_is_worked_off_frame_by_frame(
    plain, caplog, monkeypatch
):
    upscaler = Upscaler(plain, "cpu")
    worker = FrameUpscaler(upscaler)
    pictures = [scene(i, shift=i) for i in range(4)]
    alone = [upscaler.image(picture) for picture in pictures]
    given = upscaler.runner.whole

    def whole(inputs, padded=None):
        if inputs[0].shape[0] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return given(inputs, padded)

    monkeypatch.setattr(upscaler.runner, "whole", whole)
    results = [worker.frames(pictures[i : i + 2]) for i in (0, 2)]
    np.testing.assert_array_equal(np.concatenate(results), alone)
    assert caplog.text.count("out of memory") == 1


def test_temporal_needs_a_feature_tap(plain):
    with pytest.raises(ValueError, match="feature tap"):
        FrameUpscaler(Upscaler(plain, "cpu"), 0.2)


def test_a_slide_leaves_nothing_of_the_one_before(realtime):
    upscaler = Upscaler(realtime, "cpu")
    alone = frames_of_temporal(upscaler, [page(1)], 0.2)
    after = frames_of_temporal(upscaler, [page(0), page(0), page(1)], 0.2)
    np.testing.assert_array_equal(after[2], alone[0])


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

    with stopped(monkeypatch, after=9):
        upscale_video(upscaler, source, broken, options, progress=False)
    upscale_video(upscaler, source, broken, options, resume=True, progress=False)
    for (t, a), (u, b) in zip(decoded(whole), decoded(broken), strict=True):
        assert t == u
        np.testing.assert_array_equal(a, b)


def test_only_a_part_s_last_frame_keeps_features(realtime):
    """Queues of whole feature maps would take gigabytes."""
    worker = FrameUpscaler(Upscaler(realtime, "cpu"), 0.2)
    frames = [SourceFrame(scene(i), i, 1) for i in range(7)]
    with contextlib.ExitStack() as threads:
        options = VideoOptions(segment=3)
        made = pipeline(threads, frames, worker, lambda pixels: pixels, options, 0)
        kept = ["features" in frame.state for frame in made]
    assert kept == [False, False, True, False, False, True, False]
