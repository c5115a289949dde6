"""Discriminators and the GAN model."""

from __future__ import annotations

import pytest
import torch
from common import image
from torch import nn

from paragon_archs.archs.msd_arch import MSD
from paragon_archs.utils.registry import ARCH_REGISTRY


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
    net = MSD(num_feat=8, num_scales=1).train()
    for _ in range(30):  # one power iteration per forward
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
    pytest.importorskip("basicsr")
    import basicsr.archs

    net = basicsr.archs.build_network(
        {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}
    )
    assert type(net).__module__ == "basicsr.archs.discriminator_arch"
    assert ARCH_REGISTRY.get("MSD") is MSD
