"""Networks of others: strips where they can be followed, tiles without seams else."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from common import image, randomise
from spandrel import ImageModelDescriptor, ModelTiling, SizeRequirements
from spandrel.architectures.Compact import CompactArch
from spandrel.architectures.SwinIR import SwinIRArch
from torch import nn

from paragon_archs.checkpoint import load_model
from paragon_archs.inference import Upscaler
from paragon_archs.inference.tiles import run_tiles


def foreign(network, architecture, scale):
    return ImageModelDescriptor(
        network,
        network.state_dict(),
        architecture=architecture,
        purpose="SR",
        tags=[],
        supports_half=True,
        supports_bfloat16=True,
        scale=scale,
        input_channels=3,
        output_channels=3,
        size_requirements=SizeRequirements(),
        tiling=ModelTiling.SUPPORTED,
    )


def test_foreign_networks_that_can_be_followed_are_exact(tmp_path):
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    net = randomise(SRVGGNetCompact(num_feat=8, num_conv=3, upscale=2))
    torch.save(net.state_dict(), tmp_path / "compact.pth")
    assert isinstance(load_model(tmp_path / "compact.pth").architecture, CompactArch)
    array = np.random.default_rng(0).integers(0, 256, (80, 50, 3), dtype=np.uint8)
    whole = Upscaler(tmp_path / "compact.pth", "cpu").image(array)
    bounded = Upscaler(tmp_path / "compact.pth", "cpu", memory="1M").image(array)
    assert np.abs(whole.astype(int) - bounded).max() <= 1


def test_other_foreign_networks_run_in_tiles_which_is_logged(caplog):
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    net = SwinIR(
        img_size=16,
        embed_dim=12,
        depths=[2],
        num_heads=[2],
        window_size=8,
        mlp_ratio=2,
        upscale=2,
        upsampler="pixelshuffledirect",
    )
    upscaler = Upscaler(foreign(net.eval(), SwinIRArch(), 2), "cpu", memory="1M")
    array = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    with caplog.at_level(logging.WARNING):
        out = upscaler.image(array)
    assert out.shape == (140, 180, 3)
    assert "tiles" in caplog.text


@pytest.mark.parametrize("size", [(33, 70), (64, 64), (100, 41)])
def test_tiles_of_a_local_function_have_no_seams(size):
    conv = nn.Conv2d(3, 12, 5, padding=2)
    net = nn.Sequential(conv, nn.PixelShuffle(2)).eval()
    x = image(1, 3, *size)
    with torch.inference_mode():
        wanted = net(x)
        got = torch.full_like(wanted, torch.nan)
        tiles = run_tiles(net, lambda a, b: x[:, :, a:b], size, 2, tile=32, halo=8)
        for low, high, rows in tiles:
            assert torch.isnan(got[:, :, low * 2 : high * 2]).all()
            got[:, :, low * 2 : high * 2] = rows
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fine", [0, 3])
def test_tiles_that_do_not_fit_are_halved_and_none_is_pasted_twice(fine, caplog):
    """Refused from the start, or in the middle of the image."""
    net = nn.Conv2d(3, 3, 5, padding=2).eval()
    x = image(1, 3, 150, 110)
    runs = []

    def forward(tile):
        runs.append(tile.shape)
        if len(runs) > fine and max(tile.shape[2:]) > 60:
            torch.empty(2**56, dtype=torch.uint8)  # a real refusal
        return net(tile)

    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        got = torch.full_like(x, torch.nan)
        tiles = run_tiles(forward, lambda a, b: x[:, :, a:b], (150, 110), 1, 64, 8)
        for low, high, rows in tiles:
            assert torch.isnan(got[:, :, low:high]).all()
            got[:, :, low:high] = rows
        torch.testing.assert_close(got, net(x), rtol=0, atol=1e-5)
    assert caplog.text.count("out of memory") == 1
