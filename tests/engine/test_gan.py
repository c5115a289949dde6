"""Discriminators and the GAN model."""

from __future__ import annotations

import copy

import engine_common as common
import pytest
import torch
from common import image
from engine_common import GAN
from torch import nn

from paragon_archs.archs.msd_arch import MSD
from paragon_archs.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, HAS_BASICSR

if not HAS_BASICSR:
    pytest.skip("needs BasicSR", allow_module_level=True)

from basicsr.models import build_model

from paragon_archs.cli.session import arguments_of, prepare


def test_msd_judges_every_scale_and_all_of_it_learns():
    net = MSD(num_feat=8)
    logits = net(image(2, 3, 48, 40))
    assert [tuple(x.shape) for x in logits] == [
        (2, 1, 6, 5),
        (2, 1, 3, 2),
        (2, 1, 1, 1),
    ]
    torch.stack([x.square().mean() for x in logits]).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_msd_convolutions_are_lipschitz():
    torch.manual_seed(0)
    net = MSD(num_feat=8, num_scales=1).train()
    for _ in range(200):  # one power iteration per forward
        net(image(1, 3, 32, 32))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight.detach()
            norm = torch.linalg.matrix_norm(weight.flatten(1), 2)
            assert float(norm) == pytest.approx(1, abs=0.02)
    plain = MSD(num_feat=8, spectral_norm=False)
    assert not any("parametrizations" in name for name in plain.state_dict())


def test_msd_refuses_what_it_cannot_judge():
    with pytest.raises(ValueError, match="at least 32 pixels"):
        MSD(num_feat=4)(image(1, 3, 31, 64))
    with pytest.raises(ValueError, match="num_scales to be at least 1"):
        MSD(num_scales=0)
    with pytest.raises(TypeError, match="num_feet"):
        MSD(num_feet=3)


def test_the_hosts_discriminator_stays_under_its_type():
    from basicsr.archs import build_network

    net = build_network({"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4})
    assert type(net).__module__ == "basicsr.archs.discriminator_arch"
    assert ARCH_REGISTRY.get("MSD") is MSD


# The model -----------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common.write_images(tmp_path / "data", count=4, side=80)
    return tmp_path


def train(here, changes=None, *flags, **more):
    return common.train(here, {**GAN, **(changes or {}), **more}, *flags)


def model_of(here, changes=None):
    """The model of an option file, as the command builds it."""
    common.write_options(here / "o.yml", {**GAN, **(changes or {})})
    options = prepare(arguments_of("train", ["-opt", "o.yml"]), True, here)
    given = {"dist": False, "rank": 0, "world_size": 1}
    return build_model({**options.values, **given})


def states(here):
    file = here / "experiments/run/training_states/4.state"
    return torch.load(file, weights_only=True)["networks"]


def test_both_discriminators_train_and_are_logged(here):
    assert train(here) == 0
    losses = common.losses_of(common.log_of(here))
    for name in ("l_l1", "l_g_gan", "l_g_gan2", "l_d_real", "l_d_fake2", "out_d_real"):
        assert f"{name}:" in losses[4]
    models = {p.name for p in (here / "experiments/run/models").iterdir()}
    assert {f"net_{n}_4.safetensors" for n in ("g", "d", "d2")} <= models
    assert set(states(here)) == {"net_d", "net_d2", "net_g", "net_g_ema"}


@pytest.mark.parametrize("degraded", [False, True])
def test_resume_is_exact(here, degraded):
    changes = {"train:total_iter": 4}
    if degraded:
        changes |= DEGRADED | {"degradation": {"queue_size": 4}}
    assert train(here, changes) == 0
    straight, log = states(here), common.losses_of(common.log_of(here))
    (here / "experiments").rename(here / "first")
    assert train(here, {**changes, "logger:save_checkpoint_freq": 2}) == 0
    for path in (here / "experiments/run").rglob("*4.*"):
        path.unlink()
    (here / "experiments/run/models/net_g_latest.safetensors").unlink()
    for old in (here / "experiments/run").glob("train_*.log"):
        old.unlink()
    assert (
        train(here, {**changes, "logger:save_checkpoint_freq": 2}, "--auto_resume") == 0
    )
    resumed = common.losses_of(common.log_of(here))
    assert sorted(resumed) == [3, 4]
    for n in (3, 4):
        assert resumed[n] == log[n]
    for name, state in states(here).items():
        for key, value in state.items():
            assert torch.equal(value, straight[name][key]), (name, key)


def test_generator_gradient_is_that_of_the_formula(here):
    model = model_of(here, {"train:losses": [{"type": "L1Loss", "weight": 0.7}]})
    data = {"lq": image(2, 3, 16, 16), "gt": image(2, 3, 32, 32, seed=1)}
    before = {k: v.clone() for k, v in model.net_g.state_dict().items()}
    d_before = {k: v.clone() for k, v in model.net_d.named_parameters()}
    model.feed_data(data)
    net, d, d2 = (copy.deepcopy(n) for n in (model.net_g, model.net_d, model.net_d2))
    out = net(data["lq"])
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    opinion = [bce(m, torch.ones_like(m)) for m in d2(out)]
    first = d(out)
    loss = 0.7 * (out - data["gt"]).abs().mean()
    loss = loss + 0.1 * bce(first, torch.ones_like(first))
    loss = loss + 0.5 * 0.1 * torch.stack(opinion).mean()
    wanted = torch.autograd.grad(loss, list(net.parameters()))
    model.optimizer_g.zero_grad()
    for _, discriminator in model.discriminators():
        discriminator.requires_grad_(False)
    model.backward(1)
    for have, want in zip(model.net_g.parameters(), wanted, strict=True):
        torch.testing.assert_close(have.grad, want, rtol=1e-4, atol=1e-7)
    assert all(p.grad is None for p in model.net_d.parameters())
    for _, discriminator in model.discriminators():
        discriminator.requires_grad_(True)
    model.optimize_parameters(1)
    after = model.net_g.state_dict()
    assert any(not torch.equal(after[k], v) for k, v in before.items())
    moved = dict(model.net_d.named_parameters())
    assert any(not torch.equal(moved[k], v) for k, v in d_before.items())


@pytest.mark.parametrize("kind", ["MSD", "UNetDiscriminatorSN"])
def test_accumulation_gives_the_gradient_of_the_whole_batch(here, kind):
    """Spectral norm included: its estimate moves as it does with the whole batch."""
    gradients, estimates = [], []
    net = {"type": kind, "num_feat": 4}
    net |= {"num_in_ch": 3} if kind == "UNetDiscriminatorSN" else {"num_scales": 2}
    for parts in (1, 4):
        torch.manual_seed(0)
        model = model_of(
            here,
            {
                "train:accum_iter": parts,
                "network_d": net,
                "network_d2": ...,
                "train:gan_weights": ...,
            },
        )
        model.feed_data({"lq": image(4, 3, 16, 16), "gt": image(4, 3, 32, 32, seed=1)})
        fakes = []
        model.backward(1, fakes)
        model.net_d.zero_grad()
        model.backward_d("d", model.net_d, fakes)
        networks = (model.net_g, model.net_d)
        gradients.append([p.grad for n in networks for p in n.parameters()])
        estimates.append(list(model.net_d.buffers()))
        assert all(module.training for module in model.net_d.modules())
    assert estimates[0]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    for one, other in zip(*estimates, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_discriminator_only_iterations_leave_the_generator_alone(here):
    model = model_of(here, {"train:net_d_init_iters": 1, "train:net_d_iters": 2})
    start = {k: v.clone() for k, v in model.net_g.state_dict().items()}

    def moved():
        now = model.net_g.state_dict()
        return any(not torch.equal(now[k], v) for k, v in start.items())

    data = {"lq": image(2, 3, 16, 16), "gt": image(2, 3, 32, 32, seed=1)}
    for iteration, expected in ((1, False), (2, True)):
        model.feed_data(data)
        model.optimize_parameters(iteration)
        assert moved() is expected
        assert ("l_g_gan" in model.log_dict) is expected
        assert "l_d_real" in model.log_dict


def test_a_discriminator_that_is_never_finite_stops_the_run(here, capsys):
    guard = {"restore_after": 2, "stop_after": 3}
    broken = {"type": "GANLoss", "gan_type": "lsgan", "fake_label_val": 1e30}
    changes = {"train:gan_opt": broken, "train:nonfinite": guard}
    assert train(here, changes, **{"train:total_iter": 10}) == 1
    error = capsys.readouterr().err
    assert "loss l_d_fake non-finite in 3 iterations in a row" in error
    assert not list((here / "experiments/run").rglob("*.state"))


def test_what_cannot_train_is_said_before_the_first_iteration(here, capsys):
    cases = {
        "no network_d": {"network_d": ..., "network_d2": ...},
        "'train:gan_opt' to be given": {"train:gan_opt": ...},
        "out of d, d2, but got 'd3'": {"train:gan_weights": {"d3": 1.0}},
        "wants a multiple of 8": {"datasets:train:gt_size": 36},
        "crop_size' to be a multiple of scale (2), but got 81": (
            DEGRADED | {"datasets:train:crop_size": 81}
        ),
        "is downscaled to 6": DEGRADED | {"datasets:train:crop_size": 40},
        "ema_decay over 0": {"train:ldl_opt": {"type": "L1Loss"}, "train:ema_decay": 0},
        "'train:optim_d' to be given": {"train:optim_d": ...},
    }
    for number, (text, changes) in enumerate(cases.items()):
        assert train(here, {**changes, "name": f"run{number}"}) == 2, text
        assert text in capsys.readouterr().err


def test_ldl_and_the_hosts_losses_run(here):
    assert (
        train(
            here,
            {
                "train:ldl_opt": {"type": "L1Loss", "loss_weight": 1.0},
                "train:gan_opt": {"type": "MultiScaleGANLoss", "gan_type": "hinge"},
                "train:total_iter": 2,
                "train:precision": "bf16",
                "train:grad_clip": 1.0,
                "train:accum_iter": 2,
            },
        )
        == 0
    )
    assert "l_ldl" in common.losses_of(common.log_of(here))[2]


# Real-ESRGAN's degradations --------------------------------------------------------

DEGRADED = {
    "datasets:train:type": "DegradedImageDataset",
    "datasets:train:crop_size": 80,
    "degradation": {"queue_size": 4},
}


def test_degraded_pairs_have_the_shapes_and_levels_of_files(here):
    model = model_of(here, DEGRADED)
    data = DATASET_REGISTRY.get("DegradedImageDataset")(model.opt["datasets"]["train"])
    cpu = torch.device("cpu")
    batch = data.batch([0, 1], [5, 6], cpu)
    assert batch["kernel1"].shape == batch["sinc_kernel"].shape == (2, 21, 21)
    for name in ("kernel1", "kernel2", "sinc_kernel"):
        torch.testing.assert_close(batch[name].sum((1, 2)), torch.ones(2))
    again = data.batch([1], [6], cpu)
    for name in ("gt", "kernel1", "kernel2", "sinc_kernel"):
        assert torch.equal(again[name][0], batch[name][1])
    model.feed_data(batch)
    assert model.lq.shape == (2, 3, 16, 16)
    assert model.gt.shape == model.gan_gt.shape == (2, 3, 32, 32)
    levels = model.lq * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)
    assert not torch.equal(model.gt, model.gan_gt)  # sharpened for the losses alone


def test_the_hosts_real_esrgan_data_trains_too(here):
    (here / "meta.txt").write_text("\n".join(f"{n}.png" for n in range(4)))
    second = {k + "2": v for k, v in BLUR.items()}
    section = {
        "name": "few",
        "type": "RealESRGANDataset",
        "dataroot_gt": "data/hr",
        "meta_info": "meta.txt",
        "io_backend": {"type": "disk"},
        "use_hflip": True,
        "use_rot": False,
        "batch_size_per_gpu": 1,
        "final_sinc_prob": 0.8,
        **BLUR,
        **second,
    }
    changes = {"datasets:train": section, "degradation": {"queue_size": 2}}
    changes |= {"train:total_iter": 1}
    assert train(here, changes) == 2  # that set has no crop of its own
    assert train(here, {**changes, "degradation:gt_size": 32}) == 0


BLUR = {
    "blur_kernel_size": 21,
    "kernel_list": ["iso", "aniso"],
    "kernel_prob": [0.5, 0.5],
    "sinc_prob": 0.1,
    "blur_sigma": [0.2, 3],
    "betag_range": [0.5, 4],
    "betap_range": [1, 2],
}
