"""The logistic regression that a table's trees begin from.

A linear model wins on small tables and trees on large ones. Trees that begin from a linear model's
scores learn what it leaves, so that neither case has to be known beforehand.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # scikit-learn's C
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Linear:
    """Scores of features (B, F): of the second of two labels, or of each of more.

    `weights` (F, K) and `offsets` (K,), float64; K is 1 for two labels.
    """

    weights: np.ndarray
    offsets: np.ndarray

    def scores(self, x: np.ndarray) -> np.ndarray:
        """(B, K)."""
        scores: np.ndarray = x.astype(np.float64) @ self.weights + self.offsets
        return scores


def nothing(features: int, labels: int) -> Linear:
    """Scores of 0."""
    outputs = 1 if labels == 2 else labels
    return Linear(np.zeros((features, outputs)), np.zeros(outputs))


def chances(scores: np.ndarray) -> np.ndarray:
    """Probabilities (B, labels) of scores (B, K)."""
    from scipy.special import expit, softmax

    if scores.shape[1] > 1:
        probabilities: np.ndarray = softmax(scores, axis=1)
        return probabilities
    second = expit(scores)
    return np.concatenate([1 - second, second], axis=1)


def log_loss(probabilities: np.ndarray, classes: np.ndarray) -> float:
    """The mean log loss in nats of probabilities (n, labels) for the right classes (n,)."""
    right = probabilities[np.arange(len(classes)), classes]
    return float(-np.log(np.maximum(right, LEAST_PROBABILITY)).mean())


def tuned(
    x: np.ndarray,
    y: np.ndarray,
    valid_x: np.ndarray,
    valid_y: np.ndarray,
    weights: np.ndarray | None,
    directions: Sequence[int],
) -> Linear:
    """The logistic regression of least validation loss over strengths.

    `x` (n, F) has every class of `y`. A feature whose weight would go against its direction (1 up,
    -1 down) is left out.
    """
    models = [_fitted(x, y, strength, weights, directions) for strength in STRENGTHS]
    return min(models, key=lambda model: log_loss(chances(model.scores(valid_x)), valid_y))


def _fitted(
    x: np.ndarray,
    y: np.ndarray,
    strength: float,
    weights: np.ndarray | None,
    directions: Sequence[int],
) -> Linear:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    used = np.ones(x.shape[1], dtype=bool)
    signs = np.array(directions)
    while True:
        model = LogisticRegression(C=strength, max_iter=2_000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(np.where(used, x, 0.0), y, sample_weight=weights)
        linear = Linear(np.asarray(model.coef_, float).T.copy(), np.asarray(model.intercept_))
        against = used & (signs * linear.weights[:, 0] < 0)
        if not against.any():
            return linear
        used &= ~against
