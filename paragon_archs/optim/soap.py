"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

Written from the paper's Algorithm 3 (Vyas et al., "SOAP: Improving and Stabilizing
Shampoo using Adam", 2024). Networks of ten thousand weights cost far more in their
activations than in their weights, so a better direction per step is nearly free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class SOAP(torch.optim.Optimizer):
    """SOAP for convolutions and vectors; vectors get plain Adam.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay of the mean and of the square of the gradient.
        basis_beta: Decay of the two covariances that the basis comes from.
        every: Steps between updates of the basis.
        largest: Longest side of a weight matrix that gets a basis.
        eps: Added to the root of the square.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        basis_beta: float = 0.95,
        every: int = 10,
        largest: int = 512,
        eps: float = 1e-8,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "basis_beta": basis_beta,
            "every": every,
            "largest": largest,
            "eps": eps,
            "differentiable": False,  # torch adds it to what a state is loaded into
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Moves every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, p.grad, group)
        return loss

    def _move(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        shape = p.shape
        matrix = p.ndim > 1 and p.numel() > max(shape)  # (1, C, 1, 1) is a vector
        g = gradient.reshape(shape[0], -1) if matrix else gradient.reshape(-1)
        if not state:
            state["step"] = 0
            state["mean"] = torch.zeros_like(g)
            state["square"] = torch.zeros_like(g)
            if matrix:
                for side, n in zip("lr", g.shape, strict=True):
                    if n <= group["largest"]:
                        state[f"{side}_cov"] = torch.zeros(n, n, device=g.device)
                        state[f"{side}_basis"] = torch.eye(n, device=g.device)
        state["step"] += 1
        step = state["step"]
        for side, product in (("l", lambda: g @ g.mT), ("r", lambda: g.mT @ g)):
            if f"{side}_cov" in state:
                state[f"{side}_cov"].lerp_(product(), 1 - group["basis_beta"])
        if step == 1 or step % group["every"] == 0:
            _turn(state, first=step == 1)
        beta1, beta2 = group["betas"]
        state["mean"].lerp_(g, 1 - beta1)
        turned = _into(state, g)
        state["square"].mul_(beta2).addcmul_(turned, turned, value=1 - beta2)
        mean = _into(state, state["mean"]) / (1 - beta1**step)
        root = (state["square"] / (1 - beta2**step)).sqrt_().add_(group["eps"])
        p.sub_(_out_of(state, mean / root).reshape(shape), alpha=group["lr"])


def _into(state: dict[str, Any], g: Tensor) -> Tensor:
    """Returns `g` in the eigenbasis."""
    if "l_basis" in state:
        g = state["l_basis"].mT @ g
    return g @ state["r_basis"] if "r_basis" in state else g


def _out_of(state: dict[str, Any], g: Tensor) -> Tensor:
    """Returns what is in the eigenbasis as it was before."""
    if "l_basis" in state:
        g = state["l_basis"] @ g
    return g @ state["r_basis"].mT if "r_basis" in state else g


def _turn(state: dict[str, Any], first: bool) -> None:
    """Updates the eigenbases: exactly at first, then by one power iteration."""
    for side, axis in (("l", 0), ("r", 1)):
        if f"{side}_cov" not in state:
            continue
        cov, basis = state[f"{side}_cov"], state[f"{side}_basis"]
        if first:
            basis.copy_(torch.linalg.eigh(cov).eigenvectors.flip(-1))
            continue
        # Keep the columns in order of their eigenvalues, and the squares with them.
        order = torch.einsum("ij,ik,kj->j", basis, cov, basis).argsort(descending=True)
        state["square"].copy_(state["square"].index_select(axis, order))
        basis.copy_(torch.linalg.qr(cov @ basis[:, order]).Q)
