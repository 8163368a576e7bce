"""An optimiser for matrices, and AdamW for all else."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Matrices by Muon (Jordan et al. 2024): momentum, orthogonalised; everything else by AdamW.

    One optimiser for both, since Lightning steps one. `muon` groups move as far as AdamW at the
    same rate would (0.2 sqrt(max(rows, columns)), Liu et al. 2025), so one learning rate serves
    both.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        super().__init__(
            groups, {"lr": lr, "decay": 0.0, "momentum": 0.95, "betas": (0.9, 0.95), "muon": False}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["decay"])
                    weight.add_(
                        self._turned(weight, group) if group["muon"] else self._adam(weight, group),
                        alpha=-group["lr"],
                    )
        return loss

    def _turned(self, weight: Tensor, group: dict[str, Any]) -> Tensor:
        gradient, state = whole(weight), self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        looked = gradient.lerp(state["momentum"], group["momentum"])
        return orthogonal(looked) * (0.2 * math.sqrt(max(weight.shape)))

    def _adam(self, weight: Tensor, group: dict[str, Any]) -> Tensor:
        gradient, state = whole(weight), self.state[weight]
        if not state:
            state |= {
                "step": 0,
                "mean": torch.zeros_like(gradient),
                "square": torch.zeros_like(gradient),
            }
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        scale = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(1e-8)
        return state["mean"] / (1 - first ** state["step"]) / scale


def whole(weight: Tensor) -> Tensor:
    """The gradient at 32 bits: at 16, squares of small ones and the 1e-8 beside them are zero."""
    assert weight.grad is not None
    return weight.grad.float()


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values about one.

    By five quintic Newton-Schulz steps (coefficients: Jordan et al. 2024).
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    turned_ = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        square = turned_ @ turned_.T
        turned_ = 3.4445 * turned_ + (-4.7750 * square + 2.0315 * square @ square) @ turned_
    return turned_ if matrix.shape[0] <= matrix.shape[1] else turned_.T
