"""A student and its teachers.

What a training step is, where somebody teaches (Hinton, Vinyals and Dean 2015).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class Teacher:
    """A trained module that is asked and never trained; no part of the student's weights."""

    def __init__(self, module: Any) -> None:
        self.module = module.eval().requires_grad_(False)

    @torch.no_grad()
    def chances(self, batch: Any, temperature: float) -> Tensor:
        """(N, L): probabilities of the answers, softened."""
        asked = next(tensor for tensor in batch if isinstance(tensor, Tensor))
        if next(self.module.parameters()).device != asked.device:
            self.module.to(asked.device)
        return torch.softmax(self.module.logits(batch).float() / temperature, dim=-1)


def taught(
    teachers: Sequence[Teacher], weight: float, temperature: float
) -> Callable[[Any], Callable[[Any, int], Tensor]]:
    """Gives, for a student's module, its training step.

    `weight` for the teachers' mean answer, the rest for the rows' own targets.
    """

    def step_of(module: Any) -> Callable[[Any, int], Tensor]:
        def step(batch: Any, batch_idx: int) -> Tensor:  # Lightning looks for this name
            logits = module.logits(batch)
            told = torch.stack([teacher.chances(batch, temperature) for teacher in teachers]).mean(
                dim=0
            )
            apart = F.kl_div(
                F.log_softmax(logits.float() / temperature, dim=-1), told, reduction="none"
            ).sum(dim=-1)
            if hasattr(module, "rows"):
                apart = apart[module.rows(batch)]
            # The gradient of softened logits is smaller by the temperature's square, which is put
            # back.
            heard = apart.mean() * temperature**2
            loss = (1 - weight) * module.loss(logits, batch) + weight * heard
            module.log("train_loss", loss)
            return loss

        return step

    return step_of
