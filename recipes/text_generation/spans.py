"""Which spans of characters stand in the training texts, by their hashes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

SPAN = 16  # characters; a shorter span in common is no copy
MOST = 10_000_000  # hashes that are kept: 40 MB


class Spans(NamedTuple):
    """Hashes of spans of training texts, sorted: (S,) uint32, of every `every`th hash alone."""

    hashes: np.ndarray
    every: int = 1

    @classmethod
    def of(cls, path: Path) -> Spans:
        with np.load(path) as kept:
            return cls(kept["hashes"], int(kept["every"]) if "every" in kept else 1)

    def has(self, hashes: np.ndarray) -> np.ndarray:
        if not len(self.hashes):
            return np.zeros(len(hashes), bool)
        places = np.searchsorted(self.hashes, hashes).clip(0, len(self.hashes) - 1)
        there: np.ndarray = self.hashes[places] == hashes
        return there


def spans(texts: Iterable[str], size: int = SPAN, most: int = MOST) -> Spans:
    """Hashes of the spans of `size` characters of all texts, at most `most` of them.

    Of more, those that the fewest powers of two divide are left out, whatever the texts' order.
    Two of a million spans differ and hash alike by 2e-4.
    """
    kept, every = np.array([], dtype=np.uint32), 1
    waiting: list[np.ndarray] = []
    for text in texts:
        if len(text) >= size:
            hashes = _hashes(text, size)
            waiting.append(hashes[hashes % every == 0])
        if sum(map(len, waiting)) > most // 4:
            kept, every = _merged(kept, waiting, every, most)
            waiting = []
    return Spans(*_merged(kept, waiting, every, most))


def _merged(
    kept: np.ndarray, more: Sequence[np.ndarray], every: int, most: int
) -> tuple[np.ndarray, int]:
    merged = np.unique(np.concatenate([kept, *more]))
    while len(merged) > most:
        every *= 2
        merged = merged[merged % every == 0]
    return merged, every


def _hashes(text: str, size: int) -> np.ndarray:
    """A polynomial hash of each span of a text: (len - size + 1,) uint32."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(
        np.uint64
    )
    total = np.zeros(len(codes) - size + 1, dtype=np.uint64)
    for at in range(size):
        total = total * np.uint64(0x100000001B3) + codes[at : at + len(total)]
    total ^= total >> np.uint64(32)
    return (total * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)).astype(np.uint32)


def copied(text: str, seen: Spans, size: int = SPAN) -> int:
    """Characters of the longest run of spans that all stand in train texts.

    0 where none is as long as a span. Where not all spans were kept, those that were are asked.
    """
    if len(text) < size or not len(seen.hashes):
        return 0
    hashes = _hashes(text, size)
    places = np.flatnonzero(hashes % seen.every == 0)
    longest = 0
    first: int | None = None
    for place, one in zip(places.tolist(), seen.has(hashes[places]), strict=True):
        if not one:
            first = None
            continue
        first = place if first is None else first
        longest = max(longest, place - first + size)
    return longest
