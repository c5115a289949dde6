"""Strips give the whole image's result, for every network and any memory."""

from __future__ import annotations

import gc
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from common import image, randomise
from torch import nn

import paragon_archs
from paragon_archs.checkpoint import save_model
from paragon_archs.cli.upscale import main
from paragon_archs.deploy import deploy_model
from paragon_archs.fuse import fuse_model
from paragon_archs.inference import Upscaler
from paragon_archs.inference.memory import budget, free_memory, parse_memory
from paragon_archs.strips import StripEngine, UntraceableError, record

# Depth does not change what an operation needs: two of each kind of block are enough.
SHORT = {
    "paragonsr": {"num_groups": 2, "num_blocks": 2},
    "paragonsr2": {"num_groups": 2, "num_blocks": 2},
    "fusionsr": {"embed_dim": 36, "depth": 3},
    "resshuffle": {"num_residuals": 3},
    "facesr": {},
}


def network(variant, scale, form=deploy_model, **overrides):
    short = SHORT[variant.split("_")[0]]
    model = paragon_archs.create(variant, scale, **{**short, **overrides})
    return form(randomise(model))


def in_strips(model, x, scale, bytes_):
    """Returns the engine's result; -1 stands where it wrote nothing."""
    engine = StripEngine(model, (x.shape[1],))
    b, c, h, w = x.shape
    out = torch.full((b, c, h * scale, w * scale), torch.nan)
    reads = [lambda a, b: x[:, :, a:b]]
    for low, high, rows in engine.run(reads, (h, w), bytes_, batch=b):
        assert torch.isnan(out[:, :, low * scale : high * scale]).all()
        out[:, :, low * scale : high * scale] = rows
    return out


def assert_same(got, wanted):
    error = (got - wanted).abs()
    assert error.max() <= 1 / 255
    assert error.median() < 1e-5
    spread = wanted.max() - wanted.min()
    assert error.max() <= 5e-6 * spread  # what rounding explains


@pytest.mark.parametrize("form", [fuse_model, deploy_model])
@pytest.mark.parametrize("variant", list(paragon_archs.variants()))
def test_strips_are_exact(variant, form):
    model = network(variant, 2, form)
    for size, bytes_ in (((70, 45), 0), ((50, 16), 2e6), ((3, 5), 0)):
        x = image(1, 3, *size)
        with torch.inference_mode():
            wanted = model(x)
        assert_same(in_strips(model, x, 2, bytes_), wanted)


@pytest.mark.parametrize("scale", [1, 3, 4, 8])
@pytest.mark.parametrize("variant", ["paragonsr_nano", "paragonsr2_photo", "facesr"])
def test_other_scales(variant, scale):
    model = network(variant, scale)
    x = image(1, 3, 37, 20)
    with torch.inference_mode():
        wanted = model(x)
    assert_same(in_strips(model, x, scale, 0), wanted)


@pytest.mark.parametrize("height", [15, 16, 17, 24, 31, 32, 40])
@pytest.mark.parametrize("variant", ["paragonsr2_photo", "fusionsr"])
def test_windows_at_every_remainder(variant, height):
    overrides = {"num_groups": 1} if variant != "fusionsr" else {}
    model = network(variant, 2, **overrides)
    x = image(1, 3, height, 19)
    with torch.inference_mode():
        wanted = model(x)
    assert_same(in_strips(model, x, 2, 0), wanted)


@pytest.mark.parametrize(
    "overrides",
    [{"base_kernel": "mks2021"}, {"export_safe": True}, {"attention_mode": None}],
    ids=str,
)
def test_options_of_paragonsr2(overrides):
    model = network("paragonsr2_photo", 2, **overrides)
    x = image(1, 3, 41, 18)
    with torch.inference_mode():
        wanted = model(x)
    assert_same(in_strips(model, x, 2, 0), wanted)


def test_a_caller_without_gradients_gets_strips_too():
    with torch.inference_mode():
        assert StripEngine(network("paragonsr_nano", 2)).sweeps((9, 9)) > 1


@pytest.mark.parametrize("form", [fuse_model, deploy_model])
def test_batches_run_side_by_side(form):
    model = network("paragonsr_nano", 2, form)
    x = image(3, 3, 30, 20)
    with torch.inference_mode():
        wanted = model(x)
    assert_same(in_strips(model, x, 2, 0), wanted)


@pytest.mark.parametrize("form", [fuse_model, deploy_model])
def test_feature_tap_in_strips(form):
    model = network("paragonsr2_photo", 2, form, num_groups=1)
    x, before = image(1, 3, 45, 18), image(1, 64, 45, 18, seed=1)

    def call(x, before):
        return model(x, feature_tap=True, prev_feat=before, alpha=0.3)

    with torch.inference_mode():
        wanted = call(x, before)
    got = [torch.full_like(w, torch.nan) for w in wanted]
    engine = StripEngine(model, (3, 64), call)
    reads = [lambda a, b: x[:, :, a:b], lambda a, b: before[:, :, a:b]]
    for index, low, high, rows in engine.parts(reads, (45, 18), 0):
        factor = wanted[index].shape[2] // 45
        got[index][:, :, low * factor : high * factor] = rows
    for one, two in zip(got, wanted, strict=True):
        assert_same(one, two)


def test_half_precision_runs_in_strips():
    model = network("paragonsr2_photo", 2).bfloat16()
    x = image(1, 3, 45, 18).bfloat16()
    with torch.inference_mode():
        wanted = model(x)
    got = in_strips(model, x, 2, 0)
    assert (got - wanted).abs().max() <= 0.03 * (wanted.max() - wanted.min())


def test_narrow_margins_and_single_sweep_agree():
    """A deep local network: one sweep where memory allows, several where not."""
    model = network("resshuffle", 2, num_residuals=8)
    engine = StripEngine(model)
    x = image(1, 3, 60, 12)
    with torch.inference_mode():
        wanted = model(x)
    sweeps = set()
    reads = [lambda a, b: x[:, :, a:b]]
    for plan in engine._plans:
        sweeps.add(len(plan.stages))
        engine_of_one = StripEngine.__new__(StripEngine)
        engine_of_one.__dict__ = {**engine.__dict__, "_plans": [plan]}
        out = torch.zeros_like(wanted)
        for low, high, rows in engine_of_one.run(reads, (60, 12), 0):
            out[:, :, low * 2 : high * 2] = rows
        assert_same(out, wanted)
    assert len(sweeps) > 2


@pytest.mark.parametrize("form", [fuse_model, deploy_model])
@pytest.mark.parametrize(
    "variant", ["paragonsr_nano", "paragonsr2_stream", "paragonsr2_pro", "fusionsr"]
)
def test_recording_concerns_one_thread_alone(variant, form):
    model = network(variant, 2, form)
    x = image(1, 3, 21, 18)
    stop = threading.Event()
    records = []

    def keep_recording():
        while not stop.is_set():
            records.append(record(model, (3,)))

    with torch.inference_mode():
        wanted = model(x)
        with ThreadPoolExecutor(1) as other:
            recording = other.submit(keep_recording)
            try:
                got = [model(x)]
                while (len(records) < 3 or len(got) < 20) and not recording.done():
                    got.append(model(x))
            finally:
                stop.set()
        recording.result()
    assert all(torch.equal(y, wanted) for y in got)
    names = [[node.name for node in one.nodes] for one in records]
    assert all(one == names[0] for one in names)


class Peeking(nn.Module):
    """Looks at the whole column through a cumulative sum."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x).cumsum(2)


class Growing(Peeking):
    """Computes differently on higher images."""

    def forward(self, x):
        return self.conv(x) * (x.shape[2] / 50)


@pytest.mark.parametrize("kind", [Peeking, Growing])
def test_what_cannot_be_followed_is_refused(kind):
    with pytest.raises(UntraceableError):
        StripEngine(kind().eval())


def test_upscaler_gives_the_same_at_any_memory(tmp_path):
    model = randomise(paragon_archs.create("paragonsr_nano", 2, **SHORT["paragonsr"]))
    file = tmp_path / "m.safetensors"
    save_model(model, file, {})
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (90, 64, 4), dtype=np.uint8)
    whole = Upscaler(file, "cpu").image(array)
    bounded = Upscaler(file, "cpu", memory="1M").image(array)
    assert np.abs(whole.astype(int) - bounded).max() <= 1
    assert (whole != bounded).mean() < 0.001


def test_little_memory_is_logged(tmp_path, caplog):
    file = tmp_path / "m.safetensors"
    save_model(paragon_archs.create("paragonsr_nano", 2), file, {})
    with caplog.at_level(logging.WARNING):
        Upscaler(file, "cpu", memory="1M").image(np.zeros((40, 30, 3), np.uint8))
    logged = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"--memory 0\.00G is less than the \d\.\d+G that .*", logged[0])
    assert logged[1].startswith("30 x 40 pixels take more memory than the 0.00G")


def test_out_of_memory_halves_the_strips_and_goes_on(caplog):
    """Real refusals: more than a hundred rows ask for more than can be addressed."""
    model = network("paragonsr2_realtime", 2)
    x = image(1, 3, 300, 20)
    with torch.inference_mode():
        wanted = model(x)
    got = torch.full_like(wanted, torch.nan)
    asked = []

    def read(low, high):
        asked.append(high - low)
        if high - low > 100:
            torch.empty(2**56, dtype=torch.uint8)
        return x[:, :, low:high]

    with caplog.at_level(logging.WARNING):
        for low, high, rows in StripEngine(model).run([read], (300, 20), 1e10):
            got[:, :, low * 2 : high * 2] = rows
    assert max(asked) > 100
    assert_same(got, wanted)
    assert caplog.text.count("out of memory") == 1


def test_overflow_in_half_precision_is_computed_again(tmp_path, caplog):
    model = paragon_archs.create("paragonsr_nano", 2, num_groups=1, num_blocks=1)
    state = randomise(model).state_dict()
    state["conv_fuse.weight"] *= 1e6
    state["conv_fuse.bias"] *= 1e6
    state["upsampler.0.weight"] /= 1e6
    save_model_of(state, model, tmp_path / "m.safetensors")
    array = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    wanted = Upscaler(tmp_path / "m.safetensors", "cpu", dtype="fp32").image(array)
    with caplog.at_level(logging.WARNING):
        got = Upscaler(tmp_path / "m.safetensors", "cpu", dtype="fp16").image(array)
    assert "again in float32" in caplog.text
    assert np.abs(got.astype(int) - wanted).max() <= 2


def save_model_of(state, model, file):
    model.load_state_dict(state)
    save_model(model, file, {})


def test_weights_that_give_no_numbers_write_nothing(tmp_path, capsys):
    model = paragon_archs.create("paragonsr_nano", 2, num_groups=1, num_blocks=1)
    nn.init.constant_(model.get_parameter("conv_out.weight"), 3e38)
    save_model(model, tmp_path / "m.safetensors", {})
    from PIL import Image

    Image.new("RGB", (8, 8), "white").save(tmp_path / "in.png")
    model = tmp_path / "m.safetensors"
    out = tmp_path / "out.png"
    code = main([str(tmp_path / "in.png"), "-o", str(out), "--model", str(model)])
    assert code == 1
    assert not out.exists()
    assert "finite" in capsys.readouterr().err


def test_self_ensemble_is_the_mean_of_eight(tmp_path):
    model = randomise(
        paragon_archs.create("paragonsr_nano", 2, num_groups=1, num_blocks=1)
    )
    save_model(model, tmp_path / "m.safetensors", {})
    x = image(1, 3, 9, 12)
    array = x[0].permute(1, 2, 0).numpy()
    got = Upscaler(tmp_path / "m.safetensors", "cpu", tta=True).image(array)
    total = torch.zeros(1, 3, 18, 24)
    with torch.inference_mode():
        for flips in ([], [2], [3], [2, 3]):
            total += model(x.flip(flips)).flip(flips)
            turned = x.transpose(2, 3).flip(flips)
            total += model(turned).flip(flips).transpose(2, 3)
    wanted = (total / 8).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def test_memory_is_read_as_people_write_it():
    assert parse_memory("auto") is None
    assert parse_memory("4G") == 4 * 2**30
    assert parse_memory("1.5 gib") == 1.5 * 2**30
    assert parse_memory("800MB") == 800 * 2**20
    for wrong in ("", "4X", "-1G", "0", "much"):
        with pytest.raises(ValueError, match="--memory"):
            parse_memory(wrong)
    assert 0 < free_memory()
    assert budget(2**40, torch.device("cpu")) > 2**39


@pytest.mark.parametrize("variant", ["paragonsr_nano", "paragonsr2_photo", "fusionsr"])
def test_no_circle_of_references_keeps_a_strip(variant):
    """Python would look for it after some more strips: memory grew with each."""
    engine, x = StripEngine(network(variant, 2)), image(1, 3, 45, 18)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in engine.run([lambda a, b: x[:, :, a:b]], (45, 18), 0):
            pass
        gc.collect()
        assert not [x for x in gc.garbage if isinstance(x, torch.Tensor)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
