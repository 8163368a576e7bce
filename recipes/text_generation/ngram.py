"""Character n-grams with Witten and Bell's (1991) smoothing.

What a network must beat to be worth its upkeep.

P(c | h) = (n(h c) + t(h) P(c | h')) / (n(h) + t(h)), where n counts, t(h) is how many different
characters followed h, and h' is h without its oldest character. At the end stands a uniform
distribution over the characters of training, an end of text and an escape; what escapes is spelt in
UTF-8 bytes, each of 256 at equal chance. So every text has a probability, all of them add up to
one, and bits are comparable with a network's over bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

END, ESCAPE, START = 0, 1, 2  # START is only ever context
FIRST = 3


class WittenBell:
    """Order 5 looks at four characters before; order 1 is the unigram model."""

    def __init__(self, texts: Iterable[str], order: int = 5) -> None:
        texts = list(texts)
        self.order = order
        self.places = {
            character: number
            for number, character in enumerate(
                sorted({one for text in texts for one in text}), FIRST
            )
        }
        self.alphabet = len(self.places) + 2
        histories, following = self._grams(texts)
        # By length of history: each (history, character) once with its count, and each history with
        # n and t.
        self.pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self.heads: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for history in histories:
            joined, first, counts = np.unique(
                _mix(history, following), return_index=True, return_counts=True
            )
            heads, totals = np.unique(history, return_counts=True)
            self.pairs.append((joined, counts))
            self.heads.append((heads, totals, np.unique(history[first], return_counts=True)[1]))

    def _codes(self, text: str) -> np.ndarray:
        return np.fromiter(
            (self.places.get(one, ESCAPE) for one in text), dtype=np.int64, count=len(text)
        )

    def _grams(self, texts: Sequence[str]) -> tuple[list[np.ndarray], np.ndarray]:
        """For each character and end of each text: hashes of the 0, 1, ...

        Order - 1 characters before it, and itself.
        """
        pad = np.full(self.order - 1, START, dtype=np.int64)
        parts = [np.concatenate([pad, self._codes(text), [END]]) for text in texts]
        stream = np.concatenate(parts) if parts else np.array([], dtype=np.int64)
        own = (
            np.concatenate([np.arange(len(part)) >= self.order - 1 for part in parts])
            if parts
            else np.array([], dtype=bool)
        )
        at = np.flatnonzero(own)
        histories = [np.zeros(len(at), dtype=np.uint64)]
        for back in range(1, self.order):
            histories.append(_mix(histories[-1], stream[at - back]))
        return histories, stream[at]

    def chances(self, texts: Sequence[str]) -> np.ndarray:
        """The probability of each character and each text's end, texts one after the other."""
        histories, following = self._grams(texts)
        chance = np.full(len(following), 1.0 / self.alphabet)
        for history, (joined, counts), (heads, totals, kinds) in zip(
            histories, self.pairs, self.heads, strict=True
        ):
            n, t = _look(heads, totals, history), _look(heads, kinds, history)
            here = _look(joined, counts, _mix(history, following))
            chance = np.where(n + t > 0, (here + t * chance) / np.maximum(n + t, 1), chance)
        return chance

    def nats(self, texts: Sequence[str]) -> np.ndarray:
        """Each text's negative log-likelihood, its end included: (n,)."""
        lost = -np.log(self.chances(texts))
        sizes = np.array([len(text) + 1 for text in texts])
        ends = sizes.cumsum()
        sums = np.add.reduceat(lost, ends - sizes) if len(texts) else np.array([])
        spelt = np.array(
            [sum(spelling(one) for one in text if one not in self.places) for text in texts]
        )
        return sums + spelt


def spelling(character: str) -> float:
    """Nats to spell a character that training never saw.

    Its UTF-8 bytes, the first of which tells how many they are.
    """
    return len(character.encode("utf-8", "surrogatepass")) * float(np.log(256))


def _mix(history: np.ndarray, character: np.ndarray) -> np.ndarray:
    """A 64-bit hash of a history and one more character (splitmix64, Steele et al. 2014).

    Of a million, none collide but by a chance of 1e-7.
    """
    mixed = history * np.uint64(0x9E3779B97F4A7C15) + character.astype(np.uint64) + np.uint64(1)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _look(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Each wanted key's value, 0 where there is none."""
    if not len(keys):
        return np.zeros(len(wanted))
    at = np.searchsorted(keys, wanted).clip(0, len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
