"""The loss of a causal model, without the logits of all its positions in memory at once.

Shapes: N positions, D width, V tokens of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.text_generation.data import NO_TARGET
from recipes.text_generation.size import positions_at_once


@dataclass(frozen=True)
class Head:
    """How logits are made of states: by a matrix (V, D) and a bias (V,), scaled, then capped."""

    weight: Tensor
    bias: Tensor | None = None
    factor: float = 1.0
    cap: float | None = None  # as Gemma 2 has it (Gemma Team 2024)

    def logits(self, states: Tensor) -> Tensor:
        logits = F.linear(states, self.weight, self.bias)
        if self.factor != 1:
            logits = logits * self.factor
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits

    def cast(self, dtype: torch.dtype) -> Head:
        bias = None if self.bias is None else self.bias.to(dtype)
        return Head(self.weight.to(dtype), bias, self.factor, self.cap)


def precise(logits: Tensor) -> Tensor:
    """At 32 bits or more."""
    return logits if logits.dtype == torch.float64 else logits.float()


def nats_of(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum of the targets' negative log-likelihoods, of logits (N, V)."""
    return F.cross_entropy(precise(logits), targets, ignore_index=NO_TARGET, reduction="sum")


def summed_nats(head: Head, states: Tensor, targets: Tensor) -> Tensor:
    """The same of states (N, D); where logits are many, some positions' at a time are made.

    Positions without a target have none made.
    """
    at_once = positions_at_once(len(head.weight))
    if len(targets) <= at_once:
        return nats_of(head.logits(states), targets)
    asked = targets != NO_TARGET
    total: Tensor = _ChunkedNats.apply(
        states[asked],
        head.weight,
        head.bias,
        head,
        targets[asked],
        at_once,
        torch.is_grad_enabled(),
    )
    return total


class _ChunkedNats(torch.autograd.Function):
    """The gradient is made with the loss, while a chunk's logits are there (Hsu et al. 2024).

    So no logits are made twice, and none are kept.
    """

    @staticmethod
    def forward(
        context: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: Head,
        targets: Tensor,
        at_once: int,
        learning: bool,
    ) -> Tensor:
        kind = states.device.type
        mixed = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if mixed else weight.dtype
        needed = tuple(learning and one for one in context.needs_input_grad[:3])
        gradients = Gradients(states, head, needed)
        cast = head.cast(dtype)
        total = precise(states.new_zeros(()))
        for begin in range(0, len(targets), at_once):
            part = slice(begin, begin + at_once)
            total += gradients.chunk(cast, states[part].to(dtype), targets[part], part)
        context.gradients = gradients
        return total

    @staticmethod
    def backward(context: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        gradients: Gradients = context.gradients
        del context.gradients
        return (*gradients.scaled(outer[0]), None, None, None, None)


class Gradients:
    """Those of states (N, D), weight (V, D) and bias (V,), None where nobody needs one."""

    def __init__(self, states: Tensor, head: Head, needed: tuple[bool, ...]) -> None:
        # Sums over chunks, at 32 bits or more whatever the weights have.
        inputs = (states, head.weight, head.bias)
        self.states, self.weight, self.bias = (
            torch.zeros_like(precise(tensor)) if tensor is not None and one else None
            for tensor, one in zip(inputs, needed, strict=True)
        )
        self.dtypes = states.dtype, head.weight.dtype
        self.learning = any(needed)

    def chunk(self, head: Head, states: Tensor, targets: Tensor, part: slice) -> Tensor:
        """Add those of some positions; the sum of their negative log-likelihoods."""
        with torch.autocast(states.device.type, enabled=False):
            logits = precise(head.logits(states))
            slope = None
            if head.cap is not None and self.learning:
                slope = 1 - (logits / head.cap) ** 2
            # In place: they are the largest of all there is.
            logits -= logits.amax(dim=1, keepdim=True)
            at = targets[:, None]
            chosen = logits.gather(1, at)
            chances = logits.exp_()
            sums = chances.sum(dim=1, keepdim=True)
            if self.learning:
                wrong = chances.div_(sums)
                wrong.scatter_add_(1, at, torch.full_like(chosen, -1.0))
                if slope is not None:
                    wrong *= slope
                self._add(head, states, wrong, part)
            return (sums.log() - chosen).sum()

    def _add(self, head: Head, states: Tensor, wrong: Tensor, part: slice) -> None:
        if head.factor != 1:
            wrong *= head.factor
        if self.bias is not None:
            self.bias += wrong.sum(dim=0)
        wrong = wrong.to(states.dtype)
        if self.states is not None:
            self.states[part] = wrong @ head.weight
        if self.weight is None:
            return
        if self.weight.dtype == wrong.dtype:
            self.weight.addmm_(wrong.T, states)
        else:
            self.weight += wrong.T @ states

    def scaled(self, outer: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """By the gradient of what is made of the sum; asked once."""
        of_states, of_weight = self.dtypes
        return (
            None if self.states is None else self.states.mul_(outer).to(of_states),
            None if self.weight is None else self.weight.mul_(outer).to(of_weight),
            None if self.bias is None else self.bias.mul_(outer).to(of_weight),
        )
