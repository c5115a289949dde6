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
        self._stacks: dict[tuple[int, ...], dict[str, Tensor]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._stacks = {}  # of the states that these replace

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Moves every parameter that has a gradient, those of one shape at once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[object, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p] or self._begin(p, group["largest"])
                    state["step"] += 1
                    key = (*_rows_columns(p), state["step"], p.device)
                    alike.setdefault(key, []).append(p)
            for parameters in alike.values():
                self._move(parameters, group)
        return loss

    def _begin(self, p: Tensor, largest: int) -> dict[str, Any]:
        state = self.state[p]
        shape = _rows_columns(p)
        state.update(step=0, mean=p.new_zeros(shape), square=p.new_zeros(shape))
        for side, n in zip("lr", shape, strict=False):
            if len(shape) == 2 and n <= largest:
                state[f"{side}_cov"] = p.new_zeros(n, n)
                state[f"{side}_basis"] = torch.eye(n, device=p.device)
        return state

    def _stack(self, parameters: list[Tensor]) -> dict[str, Tensor]:
        """Returns the states of parameters as one; their own become views of it."""
        key = tuple(map(id, parameters))
        if key not in self._stacks:
            states = [self.state[p] for p in parameters]
            names = [name for name in states[0] if name != "step"]
            stack = {n: torch.stack([state[n] for state in states]) for n in names}
            for i, state in enumerate(states):
                state.update({name: values[i] for name, values in stack.items()})
            kept = {k: s for k, s in self._stacks.items() if not {*k} & {*key}}
            self._stacks = {**kept, key: stack}
        return self._stacks[key]

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        state, step = self._stack(parameters), self.state[parameters[0]]["step"]
        shape = _rows_columns(parameters[0])
        gradients = [p.grad for p in parameters if p.grad is not None]
        g = torch.stack([gradient.reshape(shape) for gradient in gradients])
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
        moves = _out_of(state, mean / root)
        moves = [
            move.reshape(p.shape) for p, move in zip(parameters, moves, strict=True)
        ]
        torch._foreach_sub_(parameters, moves, alpha=group["lr"])  # type: ignore[attr-defined]


def _rows_columns(p: Tensor) -> tuple[int, ...]:
    """Returns the shape of a parameter's matrix; (1, C, 1, 1) is a vector."""
    if p.ndim > 1 and p.numel() > max(p.shape):
        return p.shape[0], p.numel() // p.shape[0]
    return (p.numel(),)


def _into(state: dict[str, Tensor], g: Tensor) -> Tensor:
    """Returns `g` in the eigenbasis."""
    if "l_basis" in state:
        g = state["l_basis"].mT @ g
    return g @ state["r_basis"] if "r_basis" in state else g


def _out_of(state: dict[str, Tensor], g: Tensor) -> Tensor:
    """Returns what is in the eigenbasis as it was before."""
    if "l_basis" in state:
        g = state["l_basis"] @ g
    return g @ state["r_basis"].mT if "r_basis" in state else g


def _turn(state: dict[str, Tensor], first: bool) -> None:
    """Updates the eigenbases: exactly at first, then by one power iteration."""
    for side, axis in (("l", 2), ("r", 1)):
        if f"{side}_cov" not in state:
            continue
        cov, basis = state[f"{side}_cov"], state[f"{side}_basis"]
        if first:
            basis.copy_(torch.linalg.eigh(cov).eigenvectors.flip(-1))
            continue
        # Keep the columns in order of their eigenvalues, and the squares with them.
        product = cov @ basis
        order = (basis * product).sum(1).argsort(descending=True)
        squares = state["square"].take_along_dim(order.unsqueeze(axis), 3 - axis)
        state["square"].copy_(squares)
        product = product.take_along_dim(order.unsqueeze(1), 2)
        basis.copy_(torch.linalg.qr(product).Q)
