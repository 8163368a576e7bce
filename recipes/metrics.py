"""Metrics of weighted rows, for many weightings at once: weights (R, n) give (R,).

One call answers a whole bootstrap: each row of `weights` is one resample.
"""

import numpy as np
import pandas as pd
from scipy import sparse


def accuracy(right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted share of right answers. `right` (n,) of 0 and 1."""
    return weights @ right / weights.sum(axis=1)


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean of `values` (n,)."""
    return weights @ values / weights.sum(axis=1)


def _sums(codes: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """Weight per class: (classes, R)."""
    rows = len(codes)
    known = codes >= 0
    picks = sparse.csr_matrix(
        (np.ones(known.sum(), dtype=weights.dtype), (codes[known], np.flatnonzero(known))), shape=(classes, rows)
    )
    return picks @ weights.T


def macro_f1(target: pd.Series, answer: pd.Series, weights: np.ndarray) -> np.ndarray:
    """F1 averaged over the classes that occur among the (weighted) targets, each alike.

    The definition is scikit-learn's `f1_score(average="macro", labels=sorted(set(target)))`. A class
    that a resample leaves out takes no part in that resample's average.
    """
    classes = pd.Index(sorted(set(target)))
    wanted = classes.get_indexer(target)
    given = classes.get_indexer(answer)
    hits = np.where(wanted == given, wanted, -1)
    targets = _sums(wanted, len(classes), weights)
    answers = _sums(given, len(classes), weights)
    right = _sums(hits, len(classes), weights)
    there = targets > 0
    f1 = np.where(there, 2 * right / np.where(there, targets + answers, 1), 0.0)
    return f1.sum(axis=0) / there.sum(axis=0)
