"""The losses against independent references, in half precision, and when offline."""

from __future__ import annotations

import urllib.request

import numpy as np
import pytest
import torch
from common import image
from scipy.ndimage import convolve1d

from paragon_archs.utils.registry import LOSS_REGISTRY

pytest.importorskip("basicsr")


def make(name, **options):
    return LOSS_REGISTRY.get(name)(**options)


def pair(*shape, dtype=torch.float64):
    """An image and a disturbed copy of it."""
    x = image(*shape, dtype=dtype)
    x = torch.nn.functional.avg_pool2d(x, 5, 1, 2)  # structure, not bare noise
    return x, (x + 0.1 * image(*shape, seed=1, dtype=dtype)).clamp(0, 1)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No cache, and a proxy that nobody listens on: every download fails at once."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path), raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)


def reference_ms_ssim(x, y, scales, weights):
    """MS-SSIM of one channel in numpy float64, window 11, sigma 1.5, valid area."""
    t = np.arange(11) - 5
    window = np.exp(-(t**2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(a):
        a = convolve1d(convolve1d(a, window, axis=0), window, axis=1)
        return a[5:-5, 5:-5]

    total = 1.0
    for j in range(scales):
        mx, my = blur(x), blur(y)
        vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        cs = (2 * cov + 0.0009) / (vx + vy + 0.0009)
        light = (2 * mx * my + 0.0001) / (mx**2 + my**2 + 0.0001)
        total *= float((light * cs if j == scales - 1 else cs).mean()) ** weights[j]

        def halve(a):
            h, w = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2
            return a[:h, :w].reshape(h // 2, 2, w // 2, 2).mean((1, 3))

        x, y = halve(x), halve(y)
    return total


@pytest.mark.parametrize(("size", "scales"), [(176, 5), (96, 4), (45, 3), (11, 1)])
def test_ms_ssim_equals_a_plain_reference(size, scales):
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    weights /= weights.sum()
    x, y = pair(2, 3, size, size + 3)
    got = make("MSSSIMLoss").double().similarity(x, y)
    for b in range(2):
        for c in range(3):
            a, d = x[b, c].numpy(), y[b, c].numpy()
            wanted = reference_ms_ssim(a, d, scales, weights)
            assert float(got[b, c]) == pytest.approx(wanted, abs=1e-6)
    loss = make("MSSSIMLoss", loss_weight=0.08)(x, y)
    assert float(loss) == pytest.approx(0.08 * (1 - float(got.mean())), abs=1e-6)


def test_ms_ssim_survives_opposite_and_equal_images():
    x, _ = pair(1, 3, 48, 48)
    for target in (x, 1 - x, torch.zeros_like(x)):
        pred = x.clone().requires_grad_()
        loss = make("MSSSIMLoss")(pred, target)
        loss.backward()
        assert pred.grad is not None
        assert torch.isfinite(pred.grad).all()
    assert float(make("MSSSIMLoss")(x, x)) == pytest.approx(0, abs=1e-7)
    with pytest.raises(ValueError, match="at least 11 pixels"):
        make("MSSSIMLoss")(x[..., :9], x[..., :9])


def test_charbonnier_has_gradients_in_half_precision_where_the_hosts_has_nan():
    zero = torch.zeros(1, 3, 4, 4, dtype=torch.float16)
    for name, finite in (("CharbonnierLoss", False), ("StableCharbonnierLoss", True)):
        pred = zero.clone().requires_grad_()
        make(name)(pred, zero).backward()
        assert pred.grad is not None
        assert bool(torch.isfinite(pred.grad).all()) is finite
    x, y = pair(1, 3, 8, 8)
    wanted = ((x - y) ** 2 + 1e-6).sqrt()
    got = make("StableCharbonnierLoss", eps=1e-3, reduction="none")(x, y)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="eps to be over 0"):
        make("StableCharbonnierLoss", eps=0)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_focal_frequency_equals_the_formula(alpha):
    x, y = pair(2, 3, 8, 12)
    gap = np.fft.fft2(x.numpy(), norm="ortho") - np.fft.fft2(y.numpy(), norm="ortho")
    weight = np.abs(gap) ** alpha
    weight /= weight.max(axis=(-2, -1), keepdims=True)
    wanted = (weight * np.abs(gap) ** 2).mean()
    got = make("FocalFrequencyLoss", alpha=alpha)(x, y)
    assert float(got) == pytest.approx(wanted, rel=1e-10)
    if alpha == 0:  # Parseval: with equal weights it is the mean squared error
        assert float(got) == pytest.approx(float(((x - y) ** 2).mean()), rel=1e-10)
    same = x.clone().requires_grad_()
    make("FocalFrequencyLoss", alpha=alpha)(same, x).backward()
    assert same.grad is not None
    assert torch.isfinite(same.grad).all()


def test_focal_frequency_patches():
    x, y = pair(1, 1, 8, 8)
    whole = make("FocalFrequencyLoss", patch_factor=2)(x, y)
    parts = [
        make("FocalFrequencyLoss")(
            x[..., i : i + 4, j : j + 4], y[..., i : i + 4, j : j + 4]
        )
        for i in (0, 4)
        for j in (0, 4)
    ]
    torch.testing.assert_close(whole, torch.stack(parts).mean())
    with pytest.raises(ValueError, match="patch_factor to divide"):
        make("FocalFrequencyLoss", patch_factor=3)(x, y)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("input_norm", [False, True])
def test_vgg_perceptual_is_the_distance_of_torchvisions_features(
    vgg19_file, channels, input_norm
):
    from torchvision.models import vgg

    loss = make(
        "VGGPerceptualLoss",
        weights=str(vgg19_file),
        layers=9,
        input_norm=input_norm,
        loss_weight=0.1,
    )
    features = vgg.make_layers(vgg.cfgs["E"])[:9]
    stored = torch.load(vgg19_file, weights_only=True)
    features.load_state_dict(
        {k: stored[f"features.{k}"].float() for k in features.state_dict()}
    )
    x, y = pair(1, channels, 16, 16, dtype=torch.float32)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) if input_norm else 0
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) if input_norm else 1
    three = [a.repeat(1, 3, 1, 1) if channels == 1 else a[:, :3] for a in (x, y)]
    a, b = (features((t - mean) / std) for t in three)
    torch.testing.assert_close(loss(x, y), 0.1 * (a - b).abs().mean())
    assert not any(p.requires_grad for p in loss.parameters())
    assert not loss.train().training
    pred = x.clone().requires_grad_()
    loss(pred, y).backward()
    assert pred.grad is not None
    assert float(pred.grad.abs().sum()) > 0


def test_vgg_without_weights_says_what_to_do(offline, tmp_path):
    with pytest.raises(ValueError, match="Give a local file as `weights`"):
        make("VGGPerceptualLoss")
    for missing in (str(tmp_path / "none.pth"), "paragonsr2_realtime_x2"):
        with pytest.raises(FileNotFoundError, match=f"there is no file '{missing}'"):
            make("VGGPerceptualLoss", weights=missing)
    other = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(3)}, other)
    with pytest.raises(ValueError, match=r"'features.0.weight' is missing"):
        make("VGGPerceptualLoss", weights=str(other))


@pytest.mark.parametrize("name", ["LPIPSLoss", "DISTSLoss"])
def test_pyiqa_losses_without_weights_say_what_to_do(offline, name):
    pytest.importorskip("pyiqa")
    with pytest.raises(ValueError, match="Run once with a connection"):
        make(name)


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [("LPIPSLoss", {"net": "alex"}, "LPIPS"), ("DISTSLoss", {}, "DISTS")],
)
def test_pyiqa_losses_from_a_local_file(tmp_path, offline, name, options, kind):
    pytest.importorskip("pyiqa")
    file = tmp_path / "whole.pth"
    torch.save({"lin0.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="network whole"):
        make(name, weights=str(file), **options)
    # pyiqa's own class shows which tensors a whole network has; give it random ones.
    from pyiqa.archs import dists_arch, lpips_arch

    from paragon_archs.losses.perceptual_loss import _empty_trunks

    module = lpips_arch if kind == "LPIPS" else dists_arch
    with _empty_trunks(module):
        net = getattr(module, kind)(pretrained=False, **options)
    generator = torch.Generator().manual_seed(0)
    state = {
        k: (torch.rand(v.shape, generator=generator) - 0.3) * 0.1
        if v.is_meta
        else torch.rand(v.shape, generator=generator)  # LPIPS's are not negative
        if k.startswith(("lin", "alpha", "beta"))
        else v
        for k, v in net.state_dict().items()
    }
    torch.save(state, file)
    net.load_state_dict(state, assign=True)
    loss = make(name, weights=str(file), loss_weight=0.5, **options)
    x, y = pair(2, 3, 48, 48, dtype=torch.float32)
    torch.testing.assert_close(loss(x, y), 0.5 * net.eval()(x, y).mean())
    assert float(loss(x, x)) == pytest.approx(0, abs=1e-5)
    assert float(loss(x, y)) > 1e-4
    pred = x.clone().requires_grad_()
    loss(pred, y).backward()
    assert pred.grad is not None
    assert float(pred.grad.abs().sum()) > 0
    assert not any(p.requires_grad for p in loss.parameters())


@pytest.mark.parametrize(
    "name", ["StableCharbonnierLoss", "MSSSIMLoss", "FocalFrequencyLoss"]
)
def test_shapes_must_be_equal_and_autocast_changes_nothing(name):
    x, y = pair(1, 3, 32, 32, dtype=torch.float32)
    loss = make(name)
    with pytest.raises(ValueError, match="images of one shape"):
        loss(x, y[..., :16])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(x, y), loss(x.float(), y))


def test_names_do_not_clash_with_the_hosts():
    import basicsr.losses  # noqa: F401 (registers the host's)

    for name in ("L1Loss", "CharbonnierLoss", "PerceptualLoss", "GANLoss"):
        assert LOSS_REGISTRY.get(name).__module__.startswith("basicsr.")


def test_pyiqas_measures_as_validation_metrics(rng, offline):
    pytest.importorskip("pyiqa")
    from basicsr.metrics import calculate_metric

    a, b = rng.integers(0, 256, (2, 24, 20, 3), dtype=np.uint8)
    wanted = 10 * np.log10(
        255**2 / np.mean((a[2:-2, 2:-2].astype(float) - b[2:-2, 2:-2]) ** 2)
    )
    options = {"type": "calculate_iqa", "metric": "psnr", "crop_border": 2}
    got = calculate_metric({"img": a, "img2": b}, {**options, "better": "higher"})
    assert got == pytest.approx(wanted, abs=1e-3)
    gray = calculate_metric({"img": a[..., 0], "img2": b[..., 0]}, options)
    assert 0 < gray < 20
    with pytest.raises(ValueError, match="Leave it out of val:metrics"):
        calculate_metric({"img": a, "img2": b}, {**options, "metric": "dists"})
