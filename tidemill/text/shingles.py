"""Texts as shingles, many texts at once.

Numbers of word 3-grams, or of 4 letters where words are not spaced.

numpy goes over the characters of a whole batch, so no string is made of a shingle: its number is a
polynomial in its characters, the difference of two prefix sums. It depends on the shingle alone,
not on the process or what stands around it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.text import normal

SIZE = 3  # words of a shingle
# of a shingle in a script without spaces: two words, so an edit of 2 % leaves a Jaccard similarity
# of .85
LETTERS = 4
LEAST_LETTERS = 12  # of such a text that has shingles
CHARS_AT_ONCE = 250_000  # a batch; some 50 bytes each while it is worked on, and more are slower
BASE = 0x9E3779B97F4A7C15  # odd, of order 2**62
SPACE = 32

UNKNOWN, SPACED, UNSPACED, BETWEEN, SYMBOL, INVISIBLE = range(6)
_kinds = np.zeros(0x110000, dtype=np.uint8)  # by character; filled as it is asked
_powers: np.ndarray = np.zeros((2, 0), dtype=np.uint64)  # of BASE and of its inverse


@dataclass(frozen=True)
class Shingled:
    """Of each text the digest of its words, and its shingles.

    Those of text i are numbers[edges[i] : edges[i + 1]], as often as they occur.
    """

    words: list[bytes]
    numbers: np.ndarray
    edges: np.ndarray

    def of(self, place: int) -> np.ndarray:
        """One text's shingles, sorted and each once."""
        numbers = np.sort(self.numbers[self.edges[place] : self.edges[place + 1]])
        if not len(numbers):
            return numbers
        # np.unique takes five times as long
        return numbers[np.concatenate(([True], numbers[1:] != numbers[:-1]))]


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
    words = _Words.of(texts)
    by_letters = words.unspaced & (words.letters >= LEAST_LETTERS)
    by_words = ~words.unspaced & (words.count >= SIZE)
    many = np.where(
        by_words, words.count - SIZE + 1, np.where(by_letters, words.letters - LETTERS + 1, 0)
    )
    bounds = np.concatenate(([0], np.cumsum(many)))
    numbers = np.zeros(bounds[-1], dtype=np.uint64)
    is_by_words = np.repeat(by_words, many)
    place = np.arange(
        bounds[-1]
    )  # of each shingle within its text: the word or letter it begins with
    place -= np.repeat(bounds[:-1], many)
    first = (np.repeat(words.first, many) + place)[is_by_words]
    if len(first):
        begin, end = words.starts[first], words.ends[first + SIZE - 1]
        numbers[is_by_words] = _numbers(words.codes, begin, end)
    if not is_by_words.all():
        closed = words.codes != SPACE
        before = np.concatenate(([0], np.cumsum(closed)))
        begin = (np.repeat(before[words.edges[:-1]], many) + place)[~is_by_words]
        numbers[~is_by_words] = _numbers(words.codes[closed], begin, begin + LETTERS)
    return Shingled(_digests(texts, words), numbers, bounds)


def _digests(texts: Sequence[str], words: "_Words") -> list[bytes]:
    """Of each text's `same` form, or of itself where that is empty."""
    whole = words.codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    digests = []
    places = zip(words.edges[:-1].tolist(), words.edges[1:].tolist(), strict=True)
    for text, (start, stop), unspaced in zip(texts, places, words.unspaced.tolist(), strict=True):
        same = whole[start : max(start, stop - 1)]
        same = same.replace(" ", "") if unspaced else same
        body = (same or text).encode("utf-8", "surrogatepass")
        digests.append(hashlib.blake2b(body, digest_size=16).digest())
    return digests


@dataclass(frozen=True)
class _Words:
    """The words of texts, one behind the other. Shapes: C characters, W words, N texts."""

    codes: np.ndarray  # (C,) casefolded, a space behind every word
    edges: np.ndarray  # (N + 1,): where each text begins in codes
    starts: np.ndarray  # (W,): where each word begins in codes
    ends: np.ndarray  # (W,): where its space is
    first: np.ndarray  # (N,): each text's first word
    count: np.ndarray  # (N,): its words
    letters: np.ndarray  # (N,): its characters without spaces
    unspaced: np.ndarray  # (N,): whether most of them are of a script without spaces

    @classmethod
    def of(cls, texts: Sequence[str]) -> "_Words":
        folded = [body.casefold() for body in texts]
        joined = "".join(f"{body} " for body in folded).encode("utf-32-le", "surrogatepass")
        codes = np.frombuffer(joined, dtype=np.uint32)
        codes, kinds, edges = _separated(codes, np.cumsum([0, *(len(body) + 1 for body in folded)]))
        is_letter = codes != SPACE
        letters = np.diff(np.concatenate(([0], np.cumsum(is_letter)))[edges])
        without = np.diff(np.concatenate(([0], np.cumsum(kinds == UNSPACED)))[edges])
        ends = np.flatnonzero(~is_letter)
        starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        first = np.searchsorted(ends, edges)
        return cls(
            codes,
            edges,
            starts,
            ends,
            first[:-1],
            np.diff(first),
            letters,
            2 * without > letters,
        )


def _separated(codes: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Content with one space behind every word.

    Also the kind of each character, and where each text begins in what is left.
    """
    kinds = _kinds_of(codes)
    if (kinds == INVISIBLE).any():
        seen = kinds != INVISIBLE
        edges = np.concatenate(([0], np.cumsum(seen)))[edges]
        codes, kinds = codes[seen], kinds[seen]
    if (kinds == SYMBOL).any():  # a space on both sides of it
        times = np.where(kinds == SYMBOL, 3, 1)
        edges = np.concatenate(([0], np.cumsum(times)))[edges]
        middle = np.cumsum(times)[kinds == SYMBOL] - 2
        codes, kinds = np.repeat(codes, times), np.repeat(kinds, times)
        for beside in (middle - 1, middle + 1):
            codes[beside], kinds[beside] = SPACE, BETWEEN
    between = kinds == BETWEEN
    stays = ~between
    stays[1:] |= ~between[:-1]  # the first of what is between two words
    where = np.flatnonzero(stays)
    spaced = np.where(between[where], np.uint32(SPACE), codes[where])
    return spaced, kinds[where], np.searchsorted(where, edges)


def _kinds_of(codes: np.ndarray) -> np.ndarray:
    kinds = _kinds[codes]
    if not kinds.all():
        for code in np.unique(codes[kinds == UNKNOWN]).tolist():
            _kinds[code] = _kind(chr(code))
        kinds = _kinds[codes]
    return kinds


def _kind(letter: str) -> int:
    if normal.invisible(letter):
        return INVISIBLE
    if normal.is_symbol(letter):
        return SYMBOL
    if not normal.is_content(letter):
        return BETWEEN
    return UNSPACED if normal.has_no_spaces(letter) else SPACED


def _numbers(said: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A number for each said[begin:end]."""
    global _powers
    if _powers.shape[1] < len(said):
        bases = np.array([[BASE], [pow(BASE, -1, 2**64)]], dtype=np.uint64)
        _powers = np.cumprod(np.broadcast_to(bases, (2, len(said))), axis=1)
    sums = np.zeros(len(said) + 1, dtype=np.uint64)
    np.cumsum(said * _powers[0, : len(said)], out=sums[1:])
    numbers = (sums[end] - sums[begin]) * _powers[1, begin]
    # Stafford's thirteenth mixer: low bits of the sum know little.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))
