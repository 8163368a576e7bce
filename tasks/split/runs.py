"""Words in a row that rows of two splits share, found in files: there are as many as words.

A run is known by 64 bits of its words and its group, so one in some 10^11 pairs of runs would be
taken for another.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Self

import numpy as np

from tidemill.text import normal

BASE = np.uint64(0x9E3779B97F4A7C15)  # odd
FILES = 64  # a run lies in the file of its first bits; one file is in memory at a time


@dataclass(frozen=True)
class Runs:
    """Runs (r,) uint64, and the row (r,) int64 that each stands in."""

    run: np.ndarray
    row: np.ndarray

    def after(self, rows: int) -> "Runs":
        """The same where so many rows stand before them."""
        return Runs(self.run, self.row + rows)

    @classmethod
    def joined(cls, some: Sequence["Runs"]) -> "Runs":
        return cls(
            np.concatenate([each.run for each in some]), np.concatenate([each.row for each in some])
        )


def runs_of(texts: Sequence[str], rows: np.ndarray, groups: np.ndarray, size: int) -> Runs:
    """Every `size` words in a row of each text; twice as many letters where words have no spaces.

    Each text is in a row of `rows`, (p,), and of a group of `groups`, (p,) uint64. None for a
    `size` of 0.
    """
    spaced: list[int] = []
    unspaced: list[int] = []
    words = [normal.same(text).split() if size else [] for text in texts]
    for place, mine in enumerate(words):
        (unspaced if mine and normal.unspaced(mine) else spaced).append(place)
    letters = [list("".join(words[place])) for place in unspaced]
    some = [
        _windows([words[place] for place in spaced], np.array(spaced, dtype=np.int64), size),
        _windows(letters, np.array(unspaced, dtype=np.int64), 2 * size),
    ]
    run, text = (np.concatenate([each[at] for each in some]) for at in (0, 1))
    return Runs(run + groups[text] * BASE, rows[text])


class _Numbers(dict[str, int]):
    """64 bits of each word's hash, made when a word is first seen."""

    def __missing__(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = self[word] = int.from_bytes(digest, "little")
        return number


def _windows(
    words: Sequence[Sequence[str]], texts: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of all windows of `size` words of each text: a hash of the words, and the text."""
    lengths = np.array(list(map(len, words)), dtype=np.int64)
    many = np.maximum(lengths - size + 1, 0) if size else np.zeros_like(lengths)
    if not many.sum():
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    number = _Numbers()
    flat = np.fromiter(
        map(number.__getitem__, chain.from_iterable(words)), np.uint64, lengths.sum()
    )
    starts = np.repeat(np.cumsum(lengths) - lengths, many)
    starts += np.arange(len(starts)) - np.repeat(np.cumsum(many) - many, many)
    hashes = np.zeros(len(starts), dtype=np.uint64)
    for at in range(size):
        hashes = hashes * BASE + flat[starts + at]
    return hashes, np.repeat(texts, many)


class RunFiles:
    """The runs of all rows, in files; `add` them in any order."""

    def __init__(self, files: list[IO[bytes]]) -> None:
        self.files = files

    @classmethod
    @contextmanager
    def beside(cls, folder: Path) -> Iterator[Self]:
        """Files in a folder, which are gone when the block ends."""
        with ExitStack() as stack:
            yield cls(
                [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in range(FILES)]
            )

    def add(self, runs: Runs) -> None:
        file = (runs.run >> np.uint64(58)).astype(np.int64)
        order = np.argsort(file, kind="stable")
        edges = np.searchsorted(file[order], np.arange(FILES + 1))
        pairs = np.stack([runs.run[order], runs.row[order].astype(np.uint64)], axis=1)
        for number in np.unique(file).tolist():
            self.files[number].write(pairs[edges[number] : edges[number + 1]].tobytes())

    def strictest(self, rank: np.ndarray) -> np.ndarray:
        """(N,): the highest rank of a row that shares a run with each; -1 where none does.

        `rank`, (N,): of the rows, or -1 for one that does not count.
        """
        highest = np.full(len(rank), -1, dtype=rank.dtype)
        for file in self.files:
            file.seek(0)
            pairs = np.frombuffer(file.read(), dtype=np.uint64).reshape(-1, 2)
            row = pairs[:, 1].astype(np.int64)
            counts = rank[row] >= 0
            run, row = pairs[counts, 0], row[counts]
            order = np.argsort(run, kind="stable")
            run, row = run[order], row[order]
            if len(run):
                first = np.flatnonzero(np.concatenate(([True], run[1:] != run[:-1])))
                most = np.maximum.reduceat(rank[row], first)
                sizes = np.diff([*first.tolist(), len(run)])
                np.maximum.at(highest, row, np.repeat(most, sizes))
        return highest
