"""Text against text: what was heard or translated, and what it should have been.

Weights (R, n) give (R,).

Corpus metrics are ratios of sums and not means of sentences, so each row keeps its counts.
"""

from collections.abc import Sequence

import numpy as np

ORDER = 4  # n-grams of BLEU (Papineni et al. 2002)
CHARACTERS = 6  # n-grams of chrF, beta 2 (Popović 2015)
BETA = 2


def errors(
    references: Sequence[str], answers: Sequence[str], unit: str
) -> tuple[np.ndarray, np.ndarray]:
    """Edits and reference lengths of each row (n,), in `unit` "word" or "character".

    Their sums' ratio is WER or CER, lower is better.

    Levenshtein's insertions, deletions and substitutions (rapidfuzz), words split at white space.
    """
    from rapidfuzz.distance import Levenshtein

    if unit not in ("word", "character"):
        raise ValueError(f"unit={unit!r}: word or character")
    pairs = [
        (one.split(), two.split()) if unit == "word" else (one, two)
        for one, two in zip(references, answers, strict=True)
    ]
    edits = np.array([Levenshtein.distance(one, two) for one, two in pairs], dtype=float)
    return edits, np.array([len(one) for one, _ in pairs], dtype=float)


def bleu_rows(references: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """sacrebleu's counts of each row (n, 10).

    Both lengths, right n-grams and all n-grams of orders 1 to 4 (tokenizer 13a).
    """
    from sacrebleu.metrics import BLEU

    return np.array(
        BLEU()._extract_corpus_statistics(list(answers), [list(references)]), dtype=float
    ).reshape(-1, 2 + 2 * ORDER)


def bleu(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """BLEU, 0 to 100, higher is better.

    Sacrebleu's `corpus_score` with its exponential smoothing.
    """
    sums = weights @ rows
    given, wanted, right, all_ = (
        sums[:, 0],
        sums[:, 1],
        sums[:, 2 : 2 + ORDER],
        sums[:, 2 + ORDER :],
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        brief = np.where(given < wanted, np.exp(1 - wanted / given), 1.0)
        missed = np.cumsum(right == 0, axis=1)  # each order without a hit halves what it is given
        precision = np.where(right > 0, right, 0.5**missed) / all_
        score = 100 * brief * np.exp(np.log(precision).mean(axis=1))
    return np.where((right.sum(axis=1) == 0) | (all_ == 0).any(axis=1), 0.0, score)


def chrf_rows(references: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """sacrebleu's counts of each row (n, 18).

    Character n-grams of the answer, of the reference and shared, orders 1 to 6.
    """
    from sacrebleu.metrics import CHRF

    return np.array(
        CHRF()._extract_corpus_statistics(list(answers), [list(references)]), dtype=float
    ).reshape(-1, 3 * CHARACTERS)


def chrf(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """chrF2, 0 to 100, higher is better: sacrebleu's `corpus_score`."""
    sums = (weights @ rows).reshape(len(weights), CHARACTERS, 3)
    given, wanted, shared = sums[..., 0], sums[..., 1], sums[..., 2]
    there = (given > 0) & (wanted > 0)
    orders = np.maximum(1, there.sum(axis=1))
    precision, recall = (
        np.divide(shared, part, out=np.zeros_like(shared), where=there).sum(axis=1) / orders
        for part in (given, wanted)
    )
    below = BETA**2 * precision + recall
    return 100 * np.divide(
        (1 + BETA**2) * precision * recall, below, out=np.zeros_like(below), where=below > 0
    )
