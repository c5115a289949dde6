"""SOAP, by its name in an option file."""

from __future__ import annotations

import torch
from torch import nn

from paragon_archs.optim.optimizers import build_optimizer


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
