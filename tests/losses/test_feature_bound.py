"""The bound on features: what it costs, which pictures it looks at, what it keeps."""

from __future__ import annotations

import pytest
import torch
from common import image
from torch import nn

from paragon_archs import create
from paragon_archs.losses.feature_bound_loss import FeatureBoundLoss, full_contrast
from paragon_archs.utils.registry import HAS_BASICSR

if not HAS_BASICSR:
    pytest.skip("needs BasicSR", allow_module_level=True)

from paragon_archs.engine.bounds import blocks_of, bounded


def test_it_costs_only_what_photographs_never_have():
    loss = FeatureBoundLoss()
    calm = torch.linspace(-1, 1, 60).view(2, 3, 2, 5)
    drawn = calm.clone().requires_grad_()
    assert loss([drawn, drawn], drawn).tolist() == [0, 0]
    for place in (lambda f: ([calm, f], calm), lambda f: ([calm], f)):
        mild, wild = (loss(*place(f * drawn)) for f in (100, 100_000))
        assert (0 < mild).all() and (mild < wild).all()
        assert (wild < 10 * mild).all()  # not a thousand times
        (gradient,) = torch.autograd.grad(wild.sum(), drawn)
        assert (gradient * drawn >= 0).all()  # downhill is inwards
        assert (gradient.flatten(1) != 0).any(1).all()


@pytest.mark.parametrize(
    ("name", "count"),
    [("paragonsr2_stream", 6), ("paragonsr_nano", 6), ("paragonsr2_realtime", 3)],
)
def test_it_sees_every_block(name, count):
    assert len(list(blocks_of(create(name, 2)))) == count


def test_pictures_follow_the_iteration_and_have_full_contrast():
    loss = FeatureBoundLoss(fresh=4)
    lq = image(2, 3, 48, 48)
    first, again, other = (loss.pictures(lq, i) for i in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (4, 3, 40, 40) and first.min() == 0 and first.max() == 1
    assert set(full_contrast(lq[0]).unique().tolist()) == {0, 1}


def test_the_worst_picture_comes_again():
    class Wild(nn.Module):
        """Answers with the sum of a picture; blocks only have to be there."""

        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(1e4))
            self.blocks = nn.Sequential(FeatureBoundLoss(), FeatureBoundLoss())

        def forward(self, x):
            return self.gain * x.mean((1, 2, 3), keepdim=True)

    net, loss, lq = Wild(), FeatureBoundLoss(), image(1, 3, 40, 40)
    means, cost = [], torch.tensor(0.0)
    for iteration in range(1, 8):
        shown = loss.pictures(lq, iteration)
        cost = bounded(net, loss, lq, iteration)
        means.append(float(shown.mean((1, 2, 3)).max()))
        assert float(loss.worst.mean()) == pytest.approx(means[-1])
    assert means == sorted(means) and means[0] < means[-1]  # never a milder one
    cost.backward()
    assert net.gain.grad is not None and net.gain.grad > 0
    with pytest.raises(ValueError, match="repeated blocks"):
        bounded(nn.Conv2d(3, 3, 1), loss, lq, 1)
