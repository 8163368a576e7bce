"""Rows of the splits as numbers, and the score frame of forecasts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from recipes.stocks.features import QUANTILES, TARGETS, adjusted
from recipes.stocks.schema import NUMBERS

if TYPE_CHECKING:
    import pandas as pd


def tables(examples: pd.DataFrame) -> list[np.ndarray]:
    """The questions' days, each (days, 5), as they are asked."""
    found = []
    for item in examples["inputs"]:
        question = json.loads(item)
        table = np.array([question[name] for name in NUMBERS], dtype=float).T
        found.append(
            adjusted(table, np.array(question["adjusted"])) if question.get("adjusted") else table
        )
    return found


def answers(examples: pd.DataFrame) -> np.ndarray:
    """What the days brought: (n, 4) returns."""
    return np.array(
        [[json.loads(item)["returns"][name] for name in TARGETS] for item in examples["target"]]
    )


def frame(examples: pd.DataFrame, found: np.ndarray) -> pd.DataFrame:
    """A score frame from quantiles of returns (n, 4, 3).

    Errors, those of the last close, pinball, and what the band held.
    """
    import pandas as pd

    true = answers(examples)
    errors, naive = np.abs(true - found[:, :, 1]), np.abs(true)
    levels = np.array(QUANTILES)
    missed = true[:, :, None] - found
    pinball = np.maximum(levels * missed, (levels - 1) * missed).mean(axis=(1, 2))
    inside = ((true >= found[:, :, 0]) & (true <= found[:, :, 2])).mean(axis=1)
    return pd.DataFrame(
        {
            "series": examples["part"].to_numpy(),
            "day": examples["unit"].to_numpy(),
            **{f"error_{name}": errors[:, at] for at, name in enumerate(TARGETS)},
            **{f"naive_{name}": naive[:, at] for at, name in enumerate(TARGETS)},
            "pinball": pinball,
            "inside": inside,
            **{
                f"{name}_{level}": found[:, at, number]
                for at, name in enumerate(TARGETS)
                for number, level in enumerate(QUANTILES)
            },
            **{f"true_{name}": true[:, at] for at, name in enumerate(TARGETS)},
        }
    )
