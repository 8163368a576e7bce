"""A learning rate that is found: the range test of Smith 2017, on a network that is thrown away."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from tidemill.learners.lightning.resume import loss_of

LOW, HIGH, STEPS = 1e-6, 1.0, 100
SMOOTH = 0.9  # of the loss, from step to step
TOO_HIGH = 3.0  # times the best loss: beyond it nothing is learned of rates


class Test(Callback):
    """The rate grows by the same factor each step.

    The smoothed losses are noted until they run away.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.mean = 0.0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        loss = float(loss_of(trainer, outputs))
        self.mean = SMOOTH * self.mean + (1 - SMOOTH) * loss
        smoothed = self.mean / (1 - SMOOTH ** (len(self.losses) + 1))
        if not math.isfinite(smoothed) or (
            self.losses and smoothed > TOO_HIGH * abs(min(self.losses)) + 1e-9
        ):
            trainer.should_stop = True
            return
        self.losses.append(smoothed)


def steepest(losses: list[float]) -> float:
    """The rate at which the loss fell most in a step.

    The middle of the range where it never fell.
    """
    falls = [
        after - before for before, after in pairwise(losses[5:])
    ]  # the first ones are few to average
    at = falls.index(min(falls)) + 5 if falls and min(falls) < 0 else STEPS // 2
    return float(f"{LOW * (HIGH / LOW) ** (at / STEPS):.3g}")


def find(module: Any, data: Any, hardware: Mapping[str, Any]) -> float:
    """A rate for this module's own optimiser, on this hardware, as Lightning's Trainer takes it.

    The module has learned from it afterwards and is of no more use.
    """
    own = module.configure_optimizers

    def growing() -> Any:
        told = own()
        optimiser = told["optimizer"] if isinstance(told, dict) else told
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] = LOW
        grow = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: (HIGH / LOW) ** (step / STEPS)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": grow, "interval": "step"}}

    module.configure_optimizers = growing
    test = Test()
    lightning.Trainer(
        **hardware,
        max_steps=STEPS,
        max_epochs=-1,
        logger=False,
        callbacks=[test],
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(module, data)
    return steepest(test.losses)
