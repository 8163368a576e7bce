"""From logits to the next token: pure functions in numpy, V tokens of the vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def penalised(logits: np.ndarray, seen: Iterable[int], penalty: float) -> np.ndarray:
    """Tokens that occurred become less likely.

    Positive logits divided, negative ones multiplied (Keskar et al. 2019). (V,)
    """
    if penalty == 1.0:
        return logits
    rows = np.unique(np.fromiter(seen, dtype=np.int64))
    changed = logits.copy()
    changed[rows] = np.where(changed[rows] > 0, changed[rows] / penalty, changed[rows] * penalty)
    return changed


def unrepeated(
    logits: np.ndarray, written: Sequence[int], presence: float, frequency: float
) -> np.ndarray:
    """Tokens that the answer has already become less likely, as OpenAI's penalties do it.

    By `presence` once, and by `frequency` each time it has them. (V,)
    """
    if not written or not (presence or frequency):
        return logits
    tokens, counts = np.unique(np.array(written), return_counts=True)
    changed = logits.copy()
    changed[tokens] -= presence + frequency * counts
    return changed


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities over the last axis, at 64 bits."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    normalised: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised


def chances(
    logits: np.ndarray, temperature: float, top_k: int = 0, top_p: float = 1.0
) -> np.ndarray:
    """The distribution (V,) that is drawn from.

    Temperature 0 puts all on the likeliest token, the first of equals.

    top_k keeps the k likeliest, 0 keeps all; top_p then the fewest of the likeliest that together
    have that share (Holtzman et al. 2020), at least one.
    """
    found = np.zeros(len(logits))
    if temperature == 0:
        found[int(np.argmax(logits))] = 1.0
        return found
    scaled = (logits.astype(np.float64) - float(np.max(logits))) / temperature
    order = np.argsort(-scaled, kind="stable")
    if top_k:
        order = order[:top_k]
    kept = np.exp(scaled[order])
    kept /= kept.sum()
    if top_p < 1:
        few = int(np.searchsorted(kept.cumsum(), top_p)) + 1
        order, kept = order[:few], kept[:few] / kept[:few].sum()
    found[order] = kept
    return found


def drawn(distribution: np.ndarray, random: np.random.Generator) -> int:
    """One token; a token of no chance is never drawn."""
    cumulated = distribution.cumsum()
    return int(
        np.searchsorted(cumulated, random.random() * cumulated[-1], side="right").clip(
            0, np.flatnonzero(distribution)[-1]
        )
    )


def stopped(text: str, stops: Iterable[str]) -> int | None:
    """Where the text ends because of a stop: the place of the first one, or None."""
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return min(found) if found else None
