"""An interpolated character n-gram with Witten and Bell's smoothing (1991, method C): what a network must beat.

p(c | h) = (count(hc) + types(h) p(c | h')) / (count(h) + types(h)), where h' leaves out the first character
of h. Below the single character lies an even share of all that may come: every character of the training
text, the end, and one way out, which every other Unicode scalar value shares alike. So each text
has a probability, of unseen characters too, and they sum to one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SCALARS = 0x110000 - 0x800  # Unicode's code points less the surrogates
START, END = 0, 1           # a text begins in START, which is never predicted, and ends with END


class WittenBell:
    """Counts of `order`-grams over training texts; `order` 1 looks at no context."""

    def __init__(self, texts: Sequence[str], order: int) -> None:
        self.order = order
        self.characters = np.unique(_points("".join(texts)))
        self.symbols = len(self.characters) + 3     # START, END, the characters, and the way out
        codes, predicted = self._coded(texts)
        self.known: list[np.ndarray] = []           # per length: the grams that occur, sorted, as (place of the shorter one) * symbols + last
        self.counts: list[np.ndarray] = []          # per length: how often each was predicted
        self.totals: list[np.ndarray] = []          # per context length: predictions made after it
        self.types: list[np.ndarray] = []           # per context length: how many different symbols came after it
        before = np.zeros(len(codes), dtype=np.int64)  # the place of the context that ends before each position; the empty one is 0
        contexts = 1
        for _ in range(order):
            keys = before * self.symbols + codes
            known, where = np.unique(keys, return_inverse=True)
            counts = np.bincount(where[predicted], minlength=len(known))
            self.known.append(known)
            self.counts.append(counts)
            self.totals.append(np.bincount(known // self.symbols, counts, minlength=contexts))
            self.types.append(np.bincount(known // self.symbols, counts > 0, minlength=contexts))
            before, contexts = np.concatenate([[0], where[:-1]]), len(known)

    def _coded(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All texts in a row, each after order - 1 (one at least) STARTs and before an END, and which positions are predicted."""
        lead = max(1, self.order - 1)
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        ends = np.cumsum(lengths + lead + 1)
        codes = np.full(int(ends[-1]), START, dtype=np.int64)
        predicted = np.ones(len(codes), dtype=bool)
        starts = ends - lengths - lead - 1
        predicted[(starts[:, None] + np.arange(lead)).ravel()] = False
        codes[ends - 1] = END
        inside = predicted.copy()
        inside[ends - 1] = False
        points = _points("".join(texts))
        where = np.searchsorted(self.characters, points)
        there = where < len(self.characters)
        there[there] = self.characters[where[there]] == points[there]
        codes[inside] = np.where(there, where + 2, self.symbols - 1)
        return codes, predicted

    def nats(self, texts: Sequence[str]) -> np.ndarray:
        """-ln p of each text and its end: (n,)."""
        codes, predicted = self._coded(texts)
        chance = np.full(len(codes), 1.0 / (self.symbols - 1))
        chance[codes == self.symbols - 1] /= SCALARS - len(self.characters)
        before = np.zeros(len(codes), dtype=np.int64)       # -1: a context that training never saw
        for known, counts, totals, types in zip(self.known, self.counts, self.totals, self.types, strict=True):
            keys = np.where(before >= 0, before * self.symbols + codes, -1)
            where = np.searchsorted(known, keys).clip(0, len(known) - 1)
            where = np.where(known[where] == keys, where, -1)
            seen = before >= 0
            seen[seen] = totals[before[seen]] > 0           # else the shorter context's word stands
            hits = np.where(where >= 0, counts[where], 0)
            chance[seen] = (hits[seen] + types[before[seen]] * chance[seen]) / (totals[before[seen]] + types[before[seen]])
            before = np.concatenate([[0], where[:-1]])
        rows = np.repeat(np.arange(len(texts)), [len(text) + 1 for text in texts])
        return np.bincount(rows, -np.log(chance[predicted]), minlength=len(texts))


def _points(text: str) -> np.ndarray:
    """Code points (n,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
