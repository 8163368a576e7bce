"""Pairs of models that are equal, or differ by a known amount, over rows and units of unequal size."""

import numpy as np
import pandas as pd

from tasks.judge import permutation
from tasks.judge.comparison import Estimate
from tasks.judge.resample import Draws, Units
from tidemill.engines.config.schema import Score

FEW = Score.model_fields["few_units"].default


def answers(
    random: np.random.Generator, rows: int, count: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Units (n,) and two models' right answers (n,): equally good, each with easy and hard units of its own."""

    def sigmoid(values: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-values))

    difficulty = random.normal(1.2, 1.2, rows)
    if count is None:
        return np.arange(rows), *(
            (random.random(rows) < sigmoid(difficulty)).astype(float) for _ in range(2)
        )  # type: ignore[return-value]
    sizes = random.dirichlet(np.ones(count))
    units = np.concatenate([np.arange(count), random.choice(count, rows - count, p=sizes)])
    difficulty += random.normal(0, 0.8, count)[units]
    return units, *(
        (random.random(rows) < sigmoid(difficulty + random.normal(0, 0.5, count)[units])).astype(
            float
        )
        for _ in range(2)
    )  # type: ignore[return-value]


def difference(
    units: Units, ours: np.ndarray, theirs: np.ndarray, resamples: int, seed: int
) -> Estimate:
    """As the bench measures it."""
    one = np.ones(len(ours))
    if units.effective < FEW:
        return permutation.paired(
            permutation.of_ratio((ours, one), (theirs, one), units), units, seed
        )
    found = Draws(units, resamples, seed).ratios(
        {"ours": {"m": (ours, one)}, "theirs": {"m": (theirs, one)}}
    )["m"]
    return found["ours"] - found["theirs"]


def promoted(
    rows: int, count: int | None, pairs: int, resamples: int, alpha: float = 0.05
) -> float:
    """How often one of two equal models is called better."""
    random = np.random.default_rng([rows, count or 0])
    hits = 0
    for pair in range(pairs):
        codes, ours, theirs = answers(random, rows, count)
        hits += (
            difference(Units(pd.Series(codes)), ours, theirs, resamples, pair).p_at_most(0.0)
            <= alpha
        )
    return hits / pairs


def noise(pairs: int, share: float = 0.05) -> float:
    """Three Monte Carlo standard errors of a share."""
    return 3 * float(np.sqrt(share * (1 - share) / pairs))
