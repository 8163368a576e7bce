"""How honest a confidence is, measured against how honest it could look at best."""

import numpy as np
from scipy import stats

from tasks.judge.resample import Draws, Units

BINS = 15


def expected_calibration_error(
    confidence: np.ndarray, right: np.ndarray, bins: int = BINS
) -> float:
    """|mean confidence - share right|, averaged over bins of equally many rows (Nixon et al. 2019).

    `confidence` (n,) in 0 to 1, `right` (n,) of 0 and 1.
    """
    return float(_errors(confidence, np.asarray(right, dtype=float)[None, :], bins)[0])


def _errors(confidence: np.ndarray, right: np.ndarray, bins: int) -> np.ndarray:
    """The error for several sets of answers: (S, n) to (S,)."""
    order = np.argsort(confidence, kind="stable")
    gaps = right[:, order] - confidence[order]
    edges = np.linspace(0, len(order), min(bins, len(order)) + 1).astype(int)[:-1]
    return np.abs(np.add.reduceat(gaps, edges, axis=1)).sum(axis=1) / len(order)


def null(confidence: np.ndarray, draws: int, seed: int, bins: int = BINS) -> np.ndarray:
    """The error of a model with these confidences that is perfectly calibrated: (draws,).

    It is not 0: a bin's share of right answers has a sampling error of its own.
    """
    random = np.random.default_rng(seed)
    order = np.sort(confidence)
    found = []
    step = max(1, 4_000_000 // max(1, len(order)))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        found.append(
            _errors(order, (random.random((size, len(order))) < order).astype(float), bins)
        )
    return np.concatenate(found)


def excess(
    confidence: np.ndarray,
    right: np.ndarray,
    units: Units,
    resamples: int,
    draws: int,
    seed: int,
    alpha: float,
) -> tuple[float, float, float, float, float]:
    """The error beyond an honest model's: figure, interval's ends, p-value of "it is honest", an honest model's error.

    The interval is normal, with the standard error of resampled units: resamples of this error are biased
    upwards by their own noise, so their quantiles tell nothing.
    """
    error = expected_calibration_error(confidence, right)
    honest = null(confidence, draws, seed)
    order = np.argsort(confidence, kind="stable")
    gaps = (right - confidence)[order]
    edges = np.linspace(0, len(order), min(BINS, len(order)) + 1).astype(int)[:-1]
    found = []
    for block in Draws(units, resamples, seed).counts():
        weights = block[:, units.codes[order]].astype(np.float32)
        found.append(
            np.abs(np.add.reduceat(weights * gaps, edges, axis=1)).sum(axis=1) / weights.sum(axis=1)
        )
    reach = float(stats.norm.ppf(1 - alpha) * np.concatenate(found).std(ddof=1))
    figure = error - float(honest.mean())
    p_honest = (1 + np.count_nonzero(honest >= error)) / (1 + len(honest))
    return figure, figure - reach, figure + reach, float(p_honest), float(honest.mean())


def curve(
    confidence: np.ndarray, right: np.ndarray, bins: int = BINS
) -> list[tuple[float, float, int]]:
    """A reliability curve: mean confidence, share right and rows of each bin."""
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    return [
        (float(confidence[part].mean()), float(np.mean(right[part])), len(part)) for part in parts
    ]
