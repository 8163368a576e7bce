"""Optimisers and schedules by name, for a training whose `trainer` asks for one.

Without it a recipe's own is used.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tidemill.engines.config.schema import Trainer

Rate = Callable[[int], float]


def optimiser(
    name: str, weights: list[nn.Parameter], lr: float, settings: Trainer
) -> torch.optim.Optimizer:
    """One of torch's, with `l2` as it understands it.

    Decoupled for adamw, added to the gradient for the others.
    """
    l2, momentum = settings.l2, settings.momentum
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(weights, lr, momentum=momentum, weight_decay=l2),
        "adam": lambda: torch.optim.Adam(weights, lr, weight_decay=l2),
        "adamw": lambda: torch.optim.AdamW(weights, lr, weight_decay=l2),
        "rmsprop": lambda: torch.optim.RMSprop(weights, lr, momentum=momentum, weight_decay=l2),
        "adagrad": lambda: torch.optim.Adagrad(weights, lr, weight_decay=l2),
    }
    return makers[name]()


def schedule(name: str, steps: int, warmup: float) -> Rate:
    """What the rate is multiplied with at each step, 0 to 1.

    The warm-up is a share of the steps, and linear.
    """
    warm = round(steps * warmup)

    def rising(step: int) -> float:
        return min(1.0, (step + 1) / warm) if warm else 1.0

    def far(step: int) -> float:
        return min(1.0, max(0, step - warm) / max(1, steps - warm))

    shapes: dict[str, Rate] = {
        "constant": lambda step: 1.0,
        "linear": lambda step: 1 - far(step),
        "cosine": lambda step: (
            0.5 * (1 + math.cos(math.pi * far(step)))
        ),  # Loshchilov and Hutter 2017
        "one_cycle": lambda step: one_cycle(step / max(1, steps)),
    }
    shape = shapes[name]
    return lambda step: shape(step) if name == "one_cycle" else rising(step) * shape(step)


def one_cycle(
    done: float, peak: float = 0.3, first: float = 1 / 25, last: float = 1e-4 / 25
) -> float:
    """Smith and Topin 2018, with the cosines and defaults of torch's OneCycleLR.

    Up over `peak` of the steps, then down.
    """
    low, high, far = (
        (first, 1.0, done / peak) if done < peak else (1.0, last, (done - peak) / (1 - peak))
    )
    return high + (low - high) / 2 * (1 + math.cos(math.pi * min(1.0, far)))


def configure(module: Any, settings: Trainer, lr: float) -> Callable[[], Any]:
    """What replaces a module's `configure_optimizers`."""

    def made() -> Any:
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        chosen = optimiser(settings.optimiser, weights, lr, settings)
        shape = schedule(
            settings.schedule,
            max(1, int(module.trainer.estimated_stepping_batches)),
            settings.warmup,
        )
        return {
            "optimizer": chosen,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.LambdaLR(chosen, shape),
                "interval": "step",
            },
        }

    return made
