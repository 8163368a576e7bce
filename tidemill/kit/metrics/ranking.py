"""Recommendation: a row is one person's ranked list. Higher is better. Weights (R, n) give (R,)."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse


def ndcg_rows(gains: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    """Normalised discounted cumulative gain of each list (n,), 0 to 1.

    See Järvelin and Kekäläinen 2002.

    `gains` (n, k): the worth of what was shown, best guess first; `ideal` (n, k): the k highest
    worths there were, highest first. Discount log2(1 + place). NaN where nothing was worth
    anything. scikit-learn's `ndcg_score`.
    """
    discount = 1 / np.log2(np.arange(gains.shape[1]) + 2)
    best = ideal @ discount
    return np.divide(gains @ discount, best, out=np.full(len(gains), np.nan), where=best > 0)


def recall_rows(hits: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The share (n,) of what a person wanted that is in the list.

    `hits` (n, k) of 0 and 1, `wanted` (n,) how many; NaN for none.
    """
    return np.divide(hits.sum(axis=1), wanted, out=np.full(len(hits), np.nan), where=wanted > 0)


def coverage(shown: Sequence[Sequence[int]], catalogue: int, weights: np.ndarray) -> np.ndarray:
    """The share of a catalogue that somebody is shown: items by number, a list a row.

    A resample leaves people out and so shows less, always: an interval of this one is of the size
    of the crowd too.
    """
    lengths = np.array([len(items) for items in shown])
    rows = np.repeat(np.arange(len(lengths)), lengths)
    items = np.fromiter(
        (item for row in shown for item in row), dtype=int, count=int(lengths.sum())
    )
    picks = sparse.csr_matrix(
        (np.ones(len(items), dtype=np.float32), (items, rows)), shape=(catalogue, len(lengths))
    )
    return np.asarray(
        (picks @ (weights > 0).T.astype(np.float32) > 0).sum(axis=0) / catalogue, dtype=float
    )
