"""Classification: right or wrong, and how much was staked on it. Weights (R, n) give (R,)."""

import numpy as np
import pandas as pd
from scipy import sparse


def right(frame: pd.DataFrame) -> np.ndarray | None:
    """Which rows of a score frame are answered right (n,), 0 or 1.

    None where answers are not right or wrong: where there is no `target` or no `answer`.
    """
    if not {"target", "answer"} <= set(frame.columns):
        return None
    target, answer = frame["target"], frame["answer"]
    if isinstance(target.dtype, pd.CategoricalDtype) and target.dtype == answer.dtype:
        return (target.cat.codes == answer.cat.codes).to_numpy(float)
    return (target.astype(object) == answer.astype(object)).to_numpy(float)


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
        (np.ones(known.sum(), dtype=weights.dtype), (codes[known], np.flatnonzero(known))),
        shape=(classes, rows),
    )
    return picks @ weights.T


def _codes(target: pd.Series, answer: pd.Series) -> tuple[int, np.ndarray, np.ndarray]:
    """How many classes, and each row's target and answer as a number.

    At once where both are one categorical.
    """
    if isinstance(target.dtype, pd.CategoricalDtype) and target.dtype == answer.dtype:
        return len(target.cat.categories), target.cat.codes.to_numpy(), answer.cat.codes.to_numpy()
    classes = pd.Index(sorted(set(target)))
    return len(classes), classes.get_indexer(target), classes.get_indexer(answer)


def macro_f1(target: pd.Series, answer: pd.Series, weights: np.ndarray) -> np.ndarray:
    """F1 averaged over the classes that occur among the (weighted) targets, each alike.

    The definition is scikit-learn's `f1_score(average="macro", labels=sorted(set(target)))`. A
    class that a resample leaves out takes no part in that resample's average.
    """
    classes, wanted, given = _codes(target, answer)
    hits = np.where(wanted == given, wanted, -1)
    targets = _sums(wanted, classes, weights)
    answers = _sums(given, classes, weights)
    right = _sums(hits, classes, weights)
    there = targets > 0
    f1 = np.divide(2 * right, targets + answers, out=np.zeros_like(right), where=there)
    return f1.sum(axis=0) / there.sum(axis=0)


def log_loss_rows(chance: np.ndarray) -> np.ndarray:
    """Each row's log loss in nats (n,), of the probability given to the right class.

    Its mean is scikit-learn's `log_loss`.
    """
    return -np.log(np.clip(chance, np.finfo(float).eps, 1.0))


def brier_rows(chances: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Each row's Brier score (n,), 0 to 2.

    Squared distance of probabilities (n, C) from the right class (n,) (Brier 1950).

    scikit-learn's `brier_score_loss` of two classes is half its mean.
    """
    wanted = np.zeros_like(chances)
    wanted[np.arange(len(right)), right] = 1.0
    return ((chances - wanted) ** 2).sum(axis=1)


def roc_auc(target: np.ndarray, chances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The area under the ROC curve of each class against the others, averaged over the classes.

    `target` (n,) are columns of `chances` (n, C). It is scikit-learn's `roc_auc_score` with
    `multi_class="ovr", average="macro"`; of two classes both areas are one. A class of which a
    resample has no row, or no other row, takes no part in that resample's average.
    """
    classes = [0] if chances.shape[1] == 2 else range(chances.shape[1])
    areas = np.stack([_area(target == one, chances[:, one], weights) for one in classes])
    known = np.isfinite(areas)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.where(known, areas, 0.0).sum(axis=0) / known.sum(axis=0)
    return mean


def _area(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How often a positive row has the higher score than another row; ties count half. (R,)."""
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    weights, positive = weights[:, order].astype(float), positive[order]
    ours = np.add.reduceat(np.where(positive, weights, 0.0), starts, axis=1)
    theirs = np.add.reduceat(np.where(positive, 0.0, weights), starts, axis=1)
    below = theirs.cumsum(axis=1) - theirs / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        area: np.ndarray = (ours * below).sum(axis=1) / (ours.sum(axis=1) * theirs.sum(axis=1))
    return area
