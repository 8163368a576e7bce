"""Regression and series: how far off, in what unit. Weights (R, n) give (R,)."""

import numpy as np


def rmse(error: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Root mean squared error in the target's unit, lower is better.

    Scikit-learn's `root_mean_squared_error`.
    """
    return np.sqrt(weights @ error**2 / weights.sum(axis=1))


def mase(error: np.ndarray, naive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean absolute scaled error, lower is better.

    1 is as good as the naive forecast (Hyndman and Koehler 2006).

    `naive` (n,) is each row's scale: the in-sample mean absolute error of the naive forecast of its
    series, or the naive forecast's own error on the row, which makes it the relative error of the
    same rows.
    """
    return weights @ np.abs(error) / (weights @ np.abs(naive))


def pinball_rows(target: np.ndarray, answer: np.ndarray, quantile: float) -> np.ndarray:
    """Each row's pinball loss (n,) in the target's unit.

    Its mean is scikit-learn's `mean_pinball_loss`.
    """
    off = target - answer
    return np.maximum(quantile * off, (quantile - 1) * off)


def direction_rows(target: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Whether the sign of a change was foreseen (n,), 0 or 1; NaN where nothing changed.

    Its mean is directional accuracy.
    """
    return np.where(target == 0, np.nan, (np.sign(target) == np.sign(answer)).astype(float))
