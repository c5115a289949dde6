"""The deploy form is the network, border included, in every dtype and on every way."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from common import SMALL, image, randomise, small_model
from torch import nn

import paragon_archs
from benchmarks.published import PublishedForm
from paragon_archs.archs.paragonsr2_arch import MagicKernelSharp2021
from paragon_archs.checkpoint import load_model
from paragon_archs.deploy import DeployCall, DeployNetwork, deploy_model, ops
from paragon_archs.deploy.cells import MagicCells
from paragon_archs.deploy.head import MergedHead
from paragon_archs.utils.halves import PATIENCE

SIZES = [(1, 1), (1, 6), (5, 1), (11, 17)]


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def spread(error, of):
    return float(error.abs().max() / of.std())


@pytest.fixture(params=["in place", "as exported"])
def way(request, monkeypatch):
    """Runs a test twice: eagerly, and on the steps that exporters see."""
    if request.param == "as exported":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_merged_head_is_exact_to_the_border(scale, size, way):
    generator = torch.Generator().manual_seed(scale)
    up = nn.Conv2d(5, 6 * scale**2, 3, padding=1).double()
    out = nn.Conv2d(6, 3, 3, padding=1).double()
    for p in (*up.parameters(), *out.parameters()):
        p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    x = torch.randn(2, 5, *size, generator=generator, dtype=torch.float64)
    want = 0.3 * out(F.pixel_shuffle(up(x), scale))
    got = MergedHead(up, out, scale, gain=0.3)(x)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_cells_are_the_magic_kernel_s_pixels(scale, size, way):
    """With other weights than its own, so that no symmetry hides a swap."""
    base = MagicKernelSharp2021(3, scale).double()
    generator = torch.Generator().manual_seed(scale)
    for p in base.parameters():
        p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    x = image(2, 3, *size, dtype=torch.float64)
    want = base(x)
    shuffled = F.pixel_shuffle(MagicCells(base, x)(x), scale)
    o = 0 if scale == 1 else 1
    got = shuffled[:, :, o : o + want.shape[2], o : o + want.shape[3]]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-11)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("name", SMALL)
def test_deploy_equals_training_form(name, scale, way):
    model = small_model(name, scale).double()
    deployed = deploy_model(model)
    for size in SIZES:
        x = image(2, 3, *size, dtype=torch.float64)
        want = model(x)
        assert deployed(x).shape == want.shape
        assert spread(deployed(x) - want, want) < 1e-9


@pytest.mark.parametrize("name", SMALL)
def test_float32_on_the_fused_way(name):
    model = small_model(name, 4)
    deployed = deploy_model(model)
    for size in SIZES:
        x = image(2, 3, *size)
        want = copy.deepcopy(model).double()(x.double())
        got = deployed(x)
        assert got.dtype == torch.float32
        assert spread(got - want, want) < 1e-4


def test_this_torch_offers_the_fused_way():
    assert ops.fast(image(1, 3, 4, 4)) == torch.backends.mkldnn.is_available()


def test_the_fused_way_is_found_whatever_the_default_dtype():
    found = ops.fused_operators_work.__wrapped__
    torch.set_default_dtype(torch.float64)
    try:
        assert found() == torch.backends.mkldnn.is_available()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", SMALL)
def test_without_fused_operators(name):
    model, x = small_model(name), image(1, 3, 9, 6)
    want = model(x)
    with torch.backends.mkldnn.flags(enabled=False):
        assert not ops.fast(x)
        assert spread(deploy_model(model)(x) - want, want) < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_halves(name, dtype):
    model = small_model(name)
    deployed = deploy_model(model).to(dtype)
    x = image(1, 3, 19, 21)
    got, want = deployed(x.to(dtype)), model(x)
    assert got.dtype == dtype
    error = (got.float() - want).square().mean().sqrt() / want.std()
    assert error < (0.03 if dtype == torch.bfloat16 else 0.005)


@pytest.mark.parametrize("name", SMALL)
def test_under_autocast(name):
    model, x = small_model(name), image(1, 3, 9, 8)
    want = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        got = deploy_model(model)(x)
    error = (got.float() - want).square().mean().sqrt() / want.std()
    assert error < 0.03


@pytest.mark.parametrize("name", SMALL)
def test_with_the_torch_of_web_uis(name, monkeypatch):
    """Forge has 2.3, A1111 2.1: neither knows these two questions yet."""

    def enabled() -> bool:
        return False

    monkeypatch.delattr(torch.compiler, "is_exporting")
    monkeypatch.setattr(torch, "is_autocast_enabled", enabled)
    monkeypatch.setattr(torch, "is_autocast_cpu_enabled", enabled)
    model, x = small_model(name), image(1, 3, 9, 8)
    error = spread(deploy_model(model)(x) - model(x), model(x))
    assert error < 1e-5


def test_values_beyond_half_are_computed_again_in_float32(caplog):
    model = small_model("resshuffle")
    # Beyond 65504 in the middle; every weight is a normal float16 number.
    model.conv_input.weight.mul_(2e3)
    model.conv_input.bias.mul_(2e3)
    model.conv_mid.weight.mul_(100)
    model.upsample[0].conv.weight.div_(300)
    model.conv_output.weight.div_(600)
    want = model(image(1, 3, 7, 9))
    x, made = image(1, 3, 7, 9).half(), []

    def deploy(network):
        made.append(deploy_model(network))
        return made[-1]

    call, halved = DeployCall(deploy), copy.deepcopy(model).half()
    with caplog.at_level(logging.WARNING):
        for _ in range(PATIENCE + 2):
            got = call(halved, x)
            assert got.dtype == torch.float16
            assert spread(got.float() - want, want) < 0.05
    assert len(made) == 2  # one in half precision, one in float32
    assert caplog.text.count("again in float32") == PATIENCE


@pytest.mark.parametrize("name", ["realtime", "photo"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_video(name, dtype):
    model = small_model(name).to(dtype)
    deployed = deploy_model(model)
    width = model.hyperparameters["num_feat"]
    x, before = image(2, 3, 6, 5, dtype=dtype), image(2, width, 6, 5, dtype=dtype)
    for arguments in ((True,), (True, before, 0.3), (False, before)):
        wanted = model(x, *arguments)
        got = deployed(x, *arguments)
        pairs = zip(got, wanted, strict=True) if arguments[0] else [(got, wanted)]
        for have, want in pairs:
            torch.testing.assert_close(have, want, rtol=0, atol=1e-5)


def test_deploying_leaves_the_model_alone_and_takes_a_descriptor():
    model = small_model("paragonsr")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    deployed = deploy_model(model)
    assert model.training
    assert not deployed.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(p.requires_grad for p in deployed.parameters())
    assert isinstance(deployed, DeployNetwork)
    assert deployed.scale == 2
    x = image(1, 3, 8, 8)
    descriptor = load_model(before)
    torch.testing.assert_close(deploy_model(descriptor)(x), deployed(x))
    torch.testing.assert_close(deploy_model(deployed)(x), deployed(x))


def test_a_shifted_image_keeps_its_norm():
    """Features far from zero must not cost the group norm its digits."""
    model = small_model("paragonsr")
    model.conv_in.bias.add_(300)
    x = image(1, 3, 16, 16)
    want = copy.deepcopy(model).double()(x.double())
    assert spread(deploy_model(model)(x) - want, want) < 1e-4


@pytest.mark.parametrize("offset", [0, 30])
def test_face_network_s_norms_keep_their_digits(offset):
    """At high resolution, where torch's own kernel errs by 1e-4 in this layout."""
    torch.manual_seed(0)
    model = paragon_archs.create("facesr", 4).eval()
    state = model.state_dict()
    for name in (n for n in state if n.startswith("refine") and "conv1.bias" in n):
        state[name].add_(offset)
    x = image(1, 3, 48, 40)
    want = copy.deepcopy(model).double()(x.double())
    own = spread(model(x) - want, want)  # 3e-4 where the features lie far from zero
    assert spread(deploy_model(model)(x) - want, want) < max(5e-5, 2 * own)


@pytest.mark.parametrize("seed", [0, 3])
def test_pro_errs_as_float32_does(seed):
    """Random weights can make this deep network ill-conditioned: of seeds 0 to 5, 3
    does, where every float32 form errs by about 1e-4, which of them the most depending
    on the processor. Measured in float64: what becomes of the picture when each weight
    is off by a float32's rounding, as every operation's result is in the deploy form
    (which in float64 is exact, above)."""
    model = randomise(paragon_archs.create("paragonsr2_pro", 4), seed)
    x = image(1, 3, 33, 20, seed=seed)
    exact = copy.deepcopy(model).double()
    want = exact(x.double())
    rounding = []
    for draw in range(4):
        generator = torch.Generator().manual_seed(draw)
        rounded = copy.deepcopy(exact)
        for p in rounded.parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            p.data.mul_(1 + 2**-24 * noise)
        rounding.append(spread(rounded(x.double()) - want, want))
    assert spread(deploy_model(model)(x) - want, want) < max(1e-5, 3 * max(rounding))


@pytest.mark.parametrize("name", [n for n in SMALL if n != "facesr"])
def test_published_form_is_the_network(name):
    model = small_model(name, 4)
    x = image(1, 3, 17, 19)
    want = model(x)
    assert spread(PublishedForm(model)(x) - want, want) < 1e-4


@pytest.mark.parametrize("variant", ["paragonsr_tiny", "paragonsr2_stream"])
def test_whole_variants_against_the_published_form(variant):
    model = randomise(paragon_archs.create(variant, 4))
    x = image(1, 3, 33, 20)
    want = PublishedForm(model)(x)
    assert spread(deploy_model(model)(x) - want, want) < 1e-4


def test_a_descriptor_s_call_runs_the_deploy_form_of_its_model():
    trained = small_model("realtime")
    descriptor = load_model(trained.state_dict())
    model, x = descriptor.model, image(1, 3, 9, 8)
    parameter = model.conv_in.weight

    def agrees(bound=1e-5):
        dtype = next(model.parameters()).dtype
        want = model(x.to(dtype)).clamp(0, 1)
        got = descriptor(x.to(dtype))
        return got.dtype == want.dtype and float((got - want).abs().max()) < bound

    assert type(model) is type(trained)
    call = descriptor._call_fn
    assert isinstance(call, DeployCall)
    form = call.form(model)
    assert isinstance(form, DeployNetwork)
    assert agrees()
    assert call.form(model) is form  # made once
    parameter.mul_(1.5)
    assert agrees()
    parameter.data.mul_(0.5)  # no version counter sees this one
    assert agrees()
    model.load_state_dict(small_model("realtime").state_dict())
    assert agrees()
    descriptor.half()
    assert agrees(1e-2)
    descriptor.float()
    assert agrees()
    model.train()
    descriptor(x)
    assert not model.training
    twin = copy.deepcopy(descriptor)
    twin.model.conv_in.weight.zero_()
    twin(x)
    assert agrees()
