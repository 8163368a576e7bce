"""Generation: how far what was made lies from what is real. Lower is better.

Weights (R, n) give (R,).
"""

import numpy as np


def frechet(made: np.ndarray, real: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fréchet distance of two Gaussians fitted to features.

    Features are made (n, d), under weights, and real (m, d) (Dowson and Landau 1982; Heusel et al.
    2017).

    Squared distance of the means plus tr(A + B - 2 (A B)^1/2), with the covariances of the weighted
    rows.
    """
    middle, spread = real.mean(axis=0), np.cov(real, rowvar=False)
    values, vectors = np.linalg.eigh(np.atleast_2d(spread))
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    answers = np.empty(len(weights))
    for number, mine in enumerate(weights):
        mean = mine @ made / mine.sum()
        off = made - mean
        cover = (off * mine[:, None]).T @ off / (mine.sum() - 1)
        shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cover @ root), 0, None)).sum()
        answers[number] = ((mean - middle) ** 2).sum() + np.trace(cover) + values.sum() - 2 * shared
    return answers


def histogram_rows(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How often each row's values (n, k) fall between the edges: (n, bins)."""
    return np.stack([np.histogram(row, edges)[0] for row in values]).astype(float)


def total_variation(rows: np.ndarray, real: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Half the absolute difference of two histograms, 0 to 1.

    Of weighted rows (n, bins) and of `real` (bins,).
    """
    made = weights @ rows
    return np.abs(made / made.sum(axis=1, keepdims=True) - real / real.sum()).sum(axis=1) / 2
