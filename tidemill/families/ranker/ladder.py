"""What a good engineer tries first: popularity, item-kNN, and matrix factorisation.

All learn from the training rows, and are tuned and compared on the validation rows; the gates'
`baseline` is the one of the highest NDCG there. They may weigh histories by age as the model does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from tidemill.families.ranker.catalogue import (
    Catalogue,
    KnownHistory,
    Weighting,
    known_history,
    matrix,
)
from tidemill.families.ranker.rows import UserRow, catalogue_of, interactions, rows_of, user_rows
from tidemill.families.ranker.scores import frame_of

NEIGHBOURS = (50, 100, 200)
SHRINKAGE = 10.0  # users who must share two items before they are taken to be alike
MEMORIES = (0.0, 5.0, 10.0)
FACTORS = ((16, 10.0), (32, 30.0))  # of ALS: how many, and the penalty of large ones
CONFIDENCE = 2.0  # of ALS: how much more a rated item counts than one that is not
SWEEPS = 8
SEED = 1

Scorer = Callable[[np.ndarray], np.ndarray]  # weights of histories (n, items) to scores


@dataclass(frozen=True)
class LadderRanker:
    """A model of the ladder, how it weighs histories, and its NDCG on the validation rows."""

    scores: Scorer
    weighting: Weighting
    ndcg: float


def frames(splits: Path, examples: pd.DataFrame, least: int) -> dict[str, pd.DataFrame]:
    """The ladder's frames of test rows: `trivial`, `item-kNN`, `ALS`, and the best: `baseline`."""
    train, valid, test = rows_of(splits, "train"), rows_of(splits, "valid"), user_rows(examples)
    catalogue = catalogue_of(train, least)
    seen = interactions(train, catalogue)
    rungs = {
        "trivial": _best([popularity(catalogue)], valid, catalogue, MEMORIES[:1]),
        "item-kNN": _best(neighbours(seen), valid, catalogue, MEMORIES),
        "ALS": _best(factorised(seen), valid, catalogue, MEMORIES),
    }
    rungs["baseline"] = max(rungs.values(), key=lambda rung: rung.ndcg)
    return {name: _judged(rung, test, catalogue) for name, rung in rungs.items()}


def _judged(rung: LadderRanker, rows: Sequence[UserRow], catalogue: Catalogue) -> pd.DataFrame:
    histories = _histories(rows, catalogue, rung.weighting)
    return frame_of(rows, histories, rung.scores(matrix(catalogue, histories)), catalogue)


def _histories(
    rows: Sequence[UserRow], catalogue: Catalogue, weighting: Weighting
) -> list[KnownHistory]:
    return [
        known_history(catalogue, weighting, row.question.history, row.question.ratings)
        for row in rows
    ]


def _best(
    models: Iterator[Scorer] | list[Scorer],
    valid: Sequence[UserRow],
    catalogue: Catalogue,
    memories: Sequence[float],
) -> LadderRanker:
    """The model and the memory of the highest NDCG on the validation rows."""
    rungs = []
    weightings = [Weighting(memory=one, floor=0.1, liked=0, disliked=1) for one in memories]
    for scores in models:
        for weighting in weightings:
            frame = _judged(LadderRanker(scores, weighting, 0.0), valid, catalogue)
            rungs.append(LadderRanker(scores, weighting, float(frame["ndcg"].mean())))
    return max(rungs, key=lambda rung: rung.ndcg)


def popularity(catalogue: Catalogue) -> Scorer:
    """What most training users rated, for everybody."""
    return lambda weights: np.tile(catalogue.popularity, (len(weights), 1))


def neighbours(seen: sparse.csr_matrix) -> Iterator[Scorer]:
    """Item-kNN (Sarwar et al. 2001): the cosine of who rated two items, of the nearest ones."""
    together = (seen.T @ seen).toarray()
    norms = np.sqrt(np.diag(together))
    cosine = together / (norms[:, None] * norms[None] + SHRINKAGE)
    np.fill_diagonal(cosine, 0)
    for count in dict.fromkeys(min(one, len(cosine)) for one in NEIGHBOURS):
        least = -np.partition(-cosine, count - 1, axis=1)[:, count - 1 : count]
        yield _linear(np.where(cosine >= least, cosine, 0).T)


def _linear(near: np.ndarray) -> Scorer:
    return lambda weights: weights @ near


def factorised(seen: sparse.csr_matrix) -> Iterator[Scorer]:
    """Implicit ALS (Hu, Koren and Volinsky 2008)."""
    of_items = seen.T.tocsr()
    for count, penalty in FACTORS:
        items = np.random.default_rng(SEED).normal(0, 0.1, (seen.shape[1], count))
        for _ in range(SWEEPS):
            users = solved(seen, items, penalty)
            items = solved(of_items, users, penalty)

        def scores(
            weights: np.ndarray, items: np.ndarray = items, penalty: float = penalty
        ) -> np.ndarray:
            users = solved(sparse.csr_matrix(weights), items, penalty)
            scored: np.ndarray = users @ items.T
            return scored

        yield scores


def solved(rated: sparse.csr_matrix, others: np.ndarray, penalty: float) -> np.ndarray:
    """The factors (n, f) of rows that rated what has the factors `others` (m, f)."""
    whole = others.T @ others + penalty * np.eye(others.shape[1])
    factors = np.zeros((rated.shape[0], others.shape[1]))
    for at, (start, end) in enumerate(zip(rated.indptr[:-1], rated.indptr[1:], strict=True)):
        own, weights = others[rated.indices[start:end]], CONFIDENCE * rated.data[start:end]
        pull = whole + (own * weights[:, None]).T @ own
        factors[at] = np.linalg.solve(pull, (own * (1 + weights)[:, None]).sum(axis=0))
    return factors
