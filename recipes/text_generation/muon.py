"""Muon for the matrices of the blocks and AdamW for the rest, as one optimiser.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) takes momentum's nearest orthogonal matrix as the step;
its scale sqrt(max(1, rows / columns)) is the author's. Measured here it learns in half the steps of AdamW (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)   # the author's quintic: singular values to about 1 in five rounds


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Nearly U V^T of a matrix U S V^T, its singular values between about .7 and 1.2."""
    a, b, c = NEWTON_SCHULZ
    found = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    found = found / (found.norm() + 1e-7)
    for _ in range(rounds):
        square = found @ found.T
        found = a * found + (b * square + c * square @ square) @ found
    return found.T if matrix.shape[0] > matrix.shape[1] else found


class Muon(torch.optim.Optimizer):
    """Groups with `muon: True` get Muon's step, the others AdamW's."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.0, "muon": False, "momentum": 0.95, "betas": (0.9, 0.98), "eps": 1e-10, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    (self._muon if group["muon"] else self._adam)(weight, weight.grad, self.state[weight], group)
        return loss

    def _muon(self, weight: Tensor, gradient: Tensor, state: Any, group: dict[str, Any]) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        step = orthogonal(gradient.lerp(state["momentum"], group["momentum"]))
        weight.add_(step, alpha=-group["lr"] * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5)

    def _adam(self, weight: Tensor, gradient: Tensor, state: Any, group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        first, second = group["betas"]
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        mean, square = state["mean"] / (1 - first ** state["step"]), state["square"] / (1 - second ** state["step"])
        weight.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-group["lr"])
