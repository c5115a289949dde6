"""SOAP, by its name in an option file."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from paragon_archs.optim.optimizers import (
    build_optimizer,
    extra_optimizers,
    find_optimizer,
)
from paragon_archs.optim.soap import SOAP


def test_soap_is_adam_in_a_turned_space():
    torch.manual_seed(0)
    # A badly conditioned least-squares problem, turned away from the axes.
    turn = torch.linalg.qr(torch.randn(12, 12)).Q
    x = torch.randn(256, 12) * torch.logspace(0, -2, 12) @ turn
    y = x @ torch.randn(12, 6)

    def after(kind: str) -> float:
        weight = nn.Parameter(torch.zeros(6, 12))
        optimizer = build_optimizer(kind, [weight], lr=0.03, betas=(0.95, 0.95))
        loss = torch.tensor(0.0)
        for _ in range(300):
            optimizer.zero_grad()
            loss = (x @ weight.T - y).square().mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    assert after("SOAP") < after("Adam") / 3


def test_a_vector_gets_plain_adam_step_by_step():
    start = torch.randn(5, generator=torch.Generator().manual_seed(0))
    ends = []
    for kind in ("SOAP", "Adam"):
        p = nn.Parameter(start.clone())
        optimizer = build_optimizer(kind, [p], lr=0.01, betas=(0.9, 0.99))
        for _ in range(10):
            optimizer.zero_grad()
            (p**2 * torch.arange(5)).sum().backward()
            optimizer.step()
        ends.append(p.detach())
    torch.testing.assert_close(*ends)


def test_pytorch_optimizer_s_names_follow_torch_s_and_ours():
    pytest.importorskip("pytorch_optimizer")
    assert find_optimizer("SOAP") is SOAP
    assert find_optimizer("AdamW") is torch.optim.AdamW
    names = extra_optimizers()
    assert {"Lion", "Adan", "ADOPT"} <= set(names)
    assert not {"SAM", "Lookahead", "ScheduleFreeAdamW"} & set(names)
    with pytest.raises(ValueError, match="SOAP, but got 'Adamm'"):
        find_optimizer("Adamm")


@pytest.mark.parametrize("kind", ["Lion", "Adan", "ADOPT", "Prodigy", "MARS", "SOAP"])
def test_they_go_on_exactly(kind):
    pytest.importorskip("pytorch_optimizer")

    def after(stop):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3))
        optimizer = build_optimizer(kind, net.parameters(), lr=1e-3)
        for step in range(6):
            if step == stop:
                state = torch.load(_saved(net, optimizer), weights_only=True)
                net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3))
                optimizer = build_optimizer(kind, net.parameters(), lr=1e-3)
                net.load_state_dict(state[0])
                optimizer.load_state_dict(state[1])
            x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        return net.state_dict()

    for (name, a), b in zip(after(3).items(), after(None).values(), strict=True):
        assert torch.equal(a, b), name


def _saved(net, optimizer):
    file = io.BytesIO()
    torch.save([net.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    return file


@pytest.mark.parametrize("kind", ["AliG", "Muon", "SophiaH"])
def test_what_needs_more_than_a_gradient_is_one_sentence(kind):
    pytest.importorskip("pytorch_optimizer")
    if kind in vars(torch.optim):
        kind = "AdaMuon"
    with pytest.raises(ValueError, match=f"trains the weights of conv.*{kind}"):
        build_optimizer(kind, [nn.Parameter(torch.ones(2, 2, 3, 3))])


def test_parameters_of_one_shape_move_at_once_as_they_do_alone():
    # Square matrices: the first gradient leaves the basis of others open.
    shapes = [(4, 1, 2, 2), (4, 1, 2, 2), (4, 4), (6,), (6,), (1, 6, 1, 1)]

    def after(together: bool):
        generator = torch.Generator().manual_seed(0)
        weights = [nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
        groups = [weights] if together else [[w] for w in weights]
        optimizers = [build_optimizer("SOAP", group, lr=0.01) for group in groups]
        for step in range(24):
            for i, w in enumerate(weights):  # one is frozen for a while
                noise = torch.randn(w.shape, generator=generator)
                w.grad = None if i == 1 and 5 <= step < 9 else w.detach() ** 3 + noise
            for optimizer in optimizers:
                optimizer.step()
            if step == 12:
                optimizers[0].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
        return weights

    for alone, at_once in zip(after(False), after(True), strict=True):
        torch.testing.assert_close(alone, at_once)
