"""Texts as shingles, many texts at once: 64-bit numbers of word 3-grams, or of character 9-grams where words are not spaced.

numpy goes over the characters of a whole batch, so no string is made of a shingle: its number is a polynomial in its
characters, the difference of two prefix sums. It depends on the shingle alone, not on the process or what stands around it.
"""

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

SIZE, LETTERS = 3, 9  # words and characters of a shingle
SPACED = 12  # letters a word: from there on a text is one without spaces between words
CHARS_AT_ONCE = 250_000  # a batch; some 50 bytes each while it is worked on, and more are slower
BASE = 0x9E3779B97F4A7C15  # odd, of order 2**62
SPACE = 32

_kept = np.zeros(
    0x110000, dtype=np.uint8
)  # by character: 1 for letters and marks, 2 for all else, 0 where nobody asked yet
_powers: np.ndarray = np.zeros((2, 0), dtype=np.uint64)  # of BASE and of its inverse


@dataclass(frozen=True)
class Shingled:
    """Of each text the digest of its words, and its shingles: those of text i are numbers[edges[i] : edges[i + 1]], as often as they occur."""

    words: list[bytes]
    numbers: np.ndarray
    edges: np.ndarray

    def of(self, place: int) -> np.ndarray:
        """One text's shingles, sorted and each once."""
        found = np.sort(self.numbers[self.edges[place] : self.edges[place + 1]])
        return (
            found[np.concatenate(([True], found[1:] != found[:-1]))] if len(found) else found
        )  # np.unique takes five times as long


def batches(sizes: Sequence[int]) -> Iterator[slice]:
    """Texts of these sizes, so many at a time as memory is meant to hold."""
    start = chars = 0
    for place, size in enumerate(sizes):
        if chars and chars + size >= CHARS_AT_ONCE:
            yield slice(start, place)
            start, chars = place, 0
        chars += size + 1
    if start < len(sizes):
        yield slice(start, len(sizes))


def shingled(texts: Sequence[str]) -> Shingled:
    """All of them at once, so no more than memory is meant to hold: see `batches`."""
    if not texts:
        return Shingled([], np.zeros(0, dtype=np.uint64), np.zeros(1, dtype=np.int64))
    folded = [body.casefold() for body in texts]
    said = np.frombuffer(
        "".join(f"{body} " for body in folded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32
    )
    said, edges = _words(said, np.cumsum([0, *(len(body) + 1 for body in folded)]))
    ends = np.flatnonzero(said == SPACE)  # of words, each of which has one space behind it
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    first = np.searchsorted(ends, edges)  # each text's first word
    count, length = (
        np.diff(first),
        np.diff(edges),
    )  # of words, and of characters with each word's space
    by_words = (count >= SIZE) & (count * SPACED > length - count)
    by_letters = ~by_words & (length > 3 * LETTERS)
    many = np.where(by_words, count - SIZE + 1, np.where(by_letters, length - LETTERS, 0))
    bounds = np.concatenate(([0], np.cumsum(many)))
    spaced = np.repeat(by_words, many)
    begin = np.repeat(np.where(by_words, first[:-1], edges[:-1]) - bounds[:-1], many) + np.arange(
        bounds[-1]
    )  # a word or a character
    end = begin + LETTERS
    begin[spaced], end[spaced] = starts[begin[spaced]], ends[begin[spaced] + SIZE - 1]
    whole = said.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    words = [
        whole[start : max(start, stop - 1)] or body
        for body, start, stop in zip(texts, edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
    return Shingled(
        [
            hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            for body in words
        ],
        _numbers(said, begin, end),
        bounds,
    )


def _words(said: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Letters and marks, with one space behind every word, and where each text begins in what is left."""
    kind = _kept[said]
    if not kind.all():
        for code in np.unique(said[kind == 0]).tolist():
            _kept[code] = 1 if unicodedata.category(chr(code))[0] in "LM" else 2
        kind = _kept[said]
    letter = kind == 1
    stays = letter.copy()
    stays[1:] |= letter[:-1]  # the first of what is between two words
    where = np.flatnonzero(stays)
    return np.where(letter[where], said[where], np.uint32(SPACE)), np.searchsorted(where, edges)


def _numbers(said: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A number for each said[begin:end]."""
    global _powers
    if _powers.shape[1] < len(said):
        bases = np.array([[BASE], [pow(BASE, -1, 2**64)]], dtype=np.uint64)
        _powers = np.cumprod(np.broadcast_to(bases, (2, len(said))), axis=1)
    sums = np.zeros(len(said) + 1, dtype=np.uint64)
    np.cumsum(said * _powers[0, : len(said)], out=sums[1:])
    found = (sums[end] - sums[begin]) * _powers[1, begin]
    for shift, factor in (
        (30, 0xBF58476D1CE4E5B9),
        (27, 0x94D049BB133111EB),
    ):  # Stafford's thirteenth mixer: low bits of the sum know little
        found = (found ^ (found >> np.uint64(shift))) * np.uint64(factor)
    return found ^ (found >> np.uint64(31))
