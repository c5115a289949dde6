"""Networks off the CPU, without a GPU: what they would compute there, and in what."""

from __future__ import annotations

import pytest
import torch
from common import SMALL, image, small_model
from fake import Watch, fake_gpu, on_gpu
from torch.utils._python_dispatch import TorchDispatchMode

import paragon_archs
from paragon_archs.archs.facesr_arch import ImageNorm as FaceNorm
from paragon_archs.archs.paragonsr_arch import ImageNorm, image_moments
from paragon_archs.deploy import DeployCall, deploy_model
from paragon_archs.evaluation.gpu.parity import LIMITS, error, exact
from paragon_archs.fuse import fuse_model
from paragon_archs.strips import StripEngine
from paragon_archs.strips.rehearsal import rehearse
from paragon_archs.utils.dtypes import dtype_name

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", [fuse_model, deploy_model])
@pytest.mark.parametrize("name", SMALL)
def test_forward_on_a_gpu(name, form, dtype, layout):
    """Right size, dtype and device; nothing in float64, which not every GPU has."""
    network = form(small_model(name, 4))
    with fake_gpu():
        on_gpu(network, dtype)
        x = torch.empty(2, 3, 21, 18, dtype=dtype, device="cuda")
        with Watch() as watch:
            y = network(x.contiguous(memory_format=layout))
    assert y.shape == (2, 3, 84, 72)
    assert (y.dtype, y.device.type) == (dtype, "cuda")
    assert torch.float64 not in watch.dtypes


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_autocast_on_a_gpu(name, dtype, monkeypatch):
    """Training in mixed precision: every convolution in half, norms in float32."""
    common_amp = torch.cuda.amp.common  # autocast is off where there is no GPU
    monkeypatch.setattr(common_amp, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    network = small_model(name, 4)
    with fake_gpu():
        on_gpu(network)
        x = torch.empty(2, 3, 21, 18, device="cuda")
        with Watch() as watch, torch.autocast("cuda", dtype):
            y = network(x)
    assert (y.shape, y.dtype) == ((2, 3, 84, 72), dtype)
    assert watch.made["convolution"] == {dtype}
    assert watch.made["native_group_norm"] <= {torch.float32}
    assert torch.float64 not in watch.dtypes


@pytest.mark.parametrize("name", SMALL)
def test_folding_on_a_gpu_without_float64(name):
    network = fuse_model(small_model(name, 4))
    with fake_gpu():
        on_gpu(network)
        with Watch() as watch:
            deployed = deploy_model(network)
    assert torch.float64 not in watch.dtypes
    assert {p.device.type for p in deployed.state_dict().values()} == {"cuda"}


class Calls(TorchDispatchMode):
    """Counts the operators that run."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("where", ["cpu", "meta"])
def test_looking_for_changed_weights_waits_for_no_device(where):
    """Norms do: off the CPU only torch's own count of changes is asked."""
    network = small_model("realtime").to(where)
    call = DeployCall(torch.nn.Sequential)
    form = call.form(network)
    with Calls() as calls:
        assert call.form(network) is form
    assert (calls.count == 0) == (where != "cpu")
    with torch.no_grad():
        network.conv_in.weight.mul_(2)
    assert call.form(network) is not form


# Launches of a 640x360 frame at x2 in half precision, fused and deployed.
LAUNCHES = {
    "paragonsr2_realtime": (30, 34),
    "paragonsr2_stream": (88, 84),
    "paragonsr2_photo": (527, 515),
    "paragonsr_nano": (261, 266),
    "fusionsr": (265, 203),
    "resshuffle": (72, 72),
    "facesr": (111, 111),
}


@pytest.mark.parametrize("variant", LAUNCHES)
def test_launches_on_a_gpu(variant):
    """A row of the table may only fall: at small sizes a launch is what costs."""
    for form, most in zip((fuse_model, deploy_model), LAUNCHES[variant], strict=True):
        network = form(paragon_archs.create(variant, 2).eval())
        with fake_gpu():
            on_gpu(network, torch.float16)
            x = torch.empty(1, 3, 360, 640, dtype=torch.float16, device="cuda")
            with Watch() as watch:
                network(x)
        assert watch.kernels.total() <= most, dict(watch.kernels)


@pytest.mark.parametrize("form", [fuse_model, deploy_model])
@pytest.mark.parametrize("variant", ["fusionsr", "paragonsr2_photo"])
def test_heads_suit_fused_attention(variant, form):
    """Of a multiple of 8, or torch takes the one kernel that writes all scores."""
    network = form(paragon_archs.create(variant, 2).eval())
    with fake_gpu():
        on_gpu(network, torch.float16)
        x = torch.empty(1, 3, 24, 17, dtype=torch.float16, device="cuda")
        with Watch() as watch:
            network(x)
    assert watch.heads
    assert all(size % 8 == 0 for size in watch.heads)


@pytest.mark.parametrize(
    ("variant", "side"), [("fusionsr", 8 * 257), ("paragonsr2_photo", 16 * 257)]
)
def test_no_call_of_attention_has_more_windows_than_a_grid(variant, side):
    """CUDA's grids end at 65,535; some kernels of torch take one place a window."""
    network = deploy_model(paragon_archs.create(variant, 2).eval())
    with fake_gpu():
        on_gpu(network, torch.float16)
        x = torch.empty(1, 3, side, side, dtype=torch.float16, device="cuda")
        with Watch() as watch:
            y = network(x)
    assert y.shape[2:] == (2 * side, 2 * side)
    assert 60_000 < watch.windows <= 65_535


def test_padded_heads_attend_as_they_were():
    """The steps of a GPU, on the CPU in float64: the difference is rounding."""
    network = fuse_model(small_model("fusionsr")).double()
    swin = network.body[1]
    deployed = deploy_model(network).body[1]
    x = image(1, 16, 24, 24, dtype=torch.float64)
    wanted = swin.attend(x)
    windows = x.reshape(1, 2, 8, 3, 8, 24).transpose(2, 3).reshape(6, 64, 24)
    padded = swin.attn(windows, None, padded=True)
    torch.testing.assert_close(padded, swin.attn(windows, None), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        deployed._attend(x, padded=True), wanted, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("form", [fuse_model, deploy_model])
@pytest.mark.parametrize("name", SMALL)
def test_strips_on_a_gpu(name, form):
    network = form(small_model(name, 2))
    with fake_gpu():
        on_gpu(network, torch.float16)
        x = torch.empty(1, 3, 45, 18, dtype=torch.float16, device="cuda")
        with Watch() as watch:
            engine = StripEngine(network)
            rows = list(engine.run([lambda a, b: x[:, :, a:b]], (45, 18), 0))
    assert sum(high - low for low, high, _ in rows) == 45
    assert {r.dtype for _, _, r in rows} == {torch.float16}
    assert torch.float64 not in watch.dtypes


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("variant", [*LAUNCHES, "paragonsr2_pro"])
def test_the_estimate_of_memory_is_what_lives_on_a_gpu(variant, dtype):
    """At 720p, in one piece, beyond the weights."""
    fewer = {"num_groups": 1} if variant == "paragonsr2_pro" else {}
    network = deploy_model(paragon_archs.create(variant, 2, **fewer).eval())
    with fake_gpu():
        on_gpu(network, dtype)
        with Watch() as watch:
            network(torch.empty(1, 3, 720, 1280, dtype=dtype, device="cuda"))
        estimate = StripEngine(network).peak((720, 1280))
    assert watch.peak / 1.1 <= estimate <= 1.1 * watch.peak


def test_no_tensor_has_more_elements_than_kernels_count():
    """A panorama is cut, a frame of 720p is not."""
    network = deploy_model(small_model("resshuffle", 2))
    with fake_gpu():
        on_gpu(network, torch.float16)
        engine = StripEngine(network)
        sizes = [(720, 1280), (5000, 16384)]
        assert [engine.addressable(size) for size in sizes] == [True, False]
        x = torch.empty(1, 3, *sizes[1], dtype=torch.float16, device="cuda")
        with Watch() as watch:
            for _ in engine.run([lambda a, b: x[:, :, a:b]], sizes[1], 1e15):
                pass
    assert watch.largest < 2**31


def test_who_looks_at_values_is_estimated_from_its_record():
    class Looks(torch.nn.Conv2d):
        def forward(self, x):
            y = super().forward(x)
            assert x.is_cpu or float(y.sum()) >= 0
            return y

    network = Looks(3, 8, 3, padding=1).requires_grad_(False)
    record = StripEngine(network)
    record.device = torch.device("cuda")
    with fake_gpu():
        record._like = torch.empty(1, device="cuda")
        assert record.peak((72, 128)) == 72 * 128 * 4 * (3 + 8 + 3)


def test_a_rehearsal_leaves_no_trace_in_a_network():
    class Keeps(torch.nn.Conv2d):
        kept = None

        def forward(self, x):
            if self.kept is None or self.kept.shape != x.shape:
                self.kept = torch.zeros_like(x)
            return super().forward(x + self.kept)

    network = Keeps(3, 8, 3, padding=1)
    found = rehearse(network, [(1, 3, 20, 30)], network.weight)
    assert found is not None and found.largest == 8 * 20 * 30
    assert network.kept is None
    # Zeros, the sum (which is dropped), the input and the result.
    assert found.peak == 4 * 20 * 30 * (3 + 3 + 3 + 8)


class Reference(torch.nn.GroupNorm):
    """torch's own, wherever it runs."""


@pytest.mark.parametrize("norm", [ImageNorm, FaceNorm])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_group_norm_of_gpus_is_torchs(norm, layout, device):
    """Value and gradients, by the function that every device but a CPU takes."""
    generator = torch.Generator().manual_seed(0)
    ours, torchs = norm(4, 8).double(), Reference(4, 8).double()
    for p in ours.parameters():
        torch.nn.init.normal_(p, generator=generator)
    torchs.load_state_dict(ours.state_dict())
    x = 3 + torch.randn(2, 8, 5, 7, dtype=torch.float64, generator=generator)
    x = x.contiguous(memory_format=layout)
    grad = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    found = []
    for module, forward in ((ours, ours.on_gpu), (torchs, torchs)):
        leaf = x.clone().requires_grad_()
        y = forward(leaf)
        y.backward(grad)
        found.append([y, leaf.grad, *(p.grad for p in module.parameters())])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    assert torch.equal(ours(x), torchs(x))  # on a CPU it is torch's


@pytest.mark.parametrize("far", [0.0, 30.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_moments_keep_their_digits(dtype, far, device):
    x = far + torch.randn(1, 8, 96, 64, generator=torch.Generator().manual_seed(0))
    x = x.to(dtype)
    mean, variance = image_moments(x.to(device), 2)
    wide = x.double().unflatten(1, (2, 4))
    torch.testing.assert_close(
        mean.cpu().double(), wide.mean((2, 3, 4)), rtol=1e-5, atol=1e-5
    )
    wanted = wide.var((2, 3, 4), correction=0)
    torch.testing.assert_close(variance.cpu().double(), wanted, rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_parity_with_the_cpu(name, dtype, device):
    """The deploy form on each device that the run was asked for."""
    network, x = small_model(name), image(1, 3, 40, 33)
    with torch.no_grad(), exact():
        wanted = deploy_model(network)(x)
        got = deploy_model(network).to(device, dtype)(x.to(device, dtype))
    assert error(got, wanted) < LIMITS[dtype_name(dtype)]


@pytest.mark.parametrize("kind", [ImageNorm, FaceNorm])
def test_which_maps_are_normed_by_sums(kind, monkeypatch):
    """torch's kernel is slow for one image, and takes those of a batch at once."""
    summed = []
    monkeypatch.setattr(kind, "on_gpu", lambda _, x: summed.append(x.numel()) or x)
    with fake_gpu():
        norm = on_gpu(kind(1, 8))
        for trains in (False, True):
            for values in (2**16, 2**18, 2**22):
                with torch.set_grad_enabled(trains):
                    norm(torch.empty(1, 8, values // 64, 8, device="cuda"))
    assert summed == [2**18, 2**22, 2**22]
