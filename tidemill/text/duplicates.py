"""Exact and near duplicates: MinHash signatures in bands, candidates verified by their shingles.

Bands as lsh.shape says for a threshold; at .8 every copy with 2 to 5 % of its words edited is
found. A text too short for a shingle has exact copies only. The result does not depend on the
order. `pairs` names every pair; `copies`, which only needs to know what hangs together, leaves out
pairs that are joined already, and compares a text of a large bucket with the few that share its
rarest shingles, so cost grows with the texts and not their square.
"""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tidemill.text import shingles
from tidemill.text.lsh import Bands, BandTable

HELD_AT_ONCE, HELD_BYTES = 5_000, 32 * 2**20  # texts that are fetched together, and their bytes
MOST_HELD = 20_000_000  # shingles in memory while candidates are compared, of eight bytes each
SMALL = 32  # texts of a bucket, up to which all are compared with all
SAMPLE = 500  # texts of a large bucket, by which is told which shingles are rare in it
MOST_OF_ONE = 16  # texts that are remembered of a shingle, and that a text is compared with
MOST_UNLIKE = 1_000_000  # pairs that are remembered as no copies

Texts = Callable[[Sequence[int]], Sequence[str]]  # gives the texts of some rows


def pairs(
    texts: Sequence[str], groups: Sequence[str], threshold: float
) -> list[tuple[int, int, str]]:
    """Pairs (i, j, how) of the same group, i < j, where `how` is exact or near.

    Of a set of exact copies, each is paired with the first; near pairs have a Jaccard similarity
    of at least `threshold`.
    """
    words, made = Bands(threshold=threshold).of(texts)
    signed = BandTable.of(made)
    group_of = numbered(groups)
    first = firsts(words, group_of)
    found = [
        (int(first[row]), int(row), "exact")
        for row in np.flatnonzero(first != np.arange(len(first)))
    ]
    alike = Alike(lambda rows: [texts[row] for row in rows], threshold)
    seen: set[tuple[int, int]] = set()
    for some in candidates(first, group_of, signed, alike):
        alike.hold([row for bucket in some for row in bucket])
        for bucket in some:
            for position, left in enumerate(bucket):
                for pair in ((left, right) for right in bucket[position + 1 :]):
                    if pair not in seen:
                        seen.add(pair)
                        if alike(*pair):
                            found.append((*pair, "near"))
    return found


def copies(
    texts: Sequence[str], groups: Sequence[str], threshold: float, bands: Bands | None = None
) -> dict[int, tuple[int, str]]:
    """Which rows to leave out: row to (the row it is a copy of, how). The first of each set stays.

    Sort the rows by something that does not change, and the result does not either.
    """
    words, signed = (bands or Bands(threshold=threshold)).of(texts)
    return joined(
        words,
        BandTable.of(signed),
        numbered(groups),
        Alike(lambda rows: [texts[row] for row in rows], threshold),
    )


def joined(
    words: np.ndarray, signed: BandTable, group_of: np.ndarray, alike: "Alike"
) -> dict[int, tuple[int, str]]:
    """The same of texts whose digests and bands are known, and which lie elsewhere."""
    first = firsts(words, group_of)
    exact = first != np.arange(len(first))
    sets = Sets(len(first))
    for row in np.flatnonzero(exact).tolist():
        sets.join(int(first[row]), row)
    for some in candidates(first, group_of, signed, alike):
        apart = [bucket for bucket in some if len({sets.find(row) for row in bucket}) > 1]
        alike.hold([row for bucket in apart for row in bucket])
        for bucket in apart:
            _join_bucket(bucket, sets, alike)
    return {
        row: (sets.find(row), "exact" if exact[row] else "near")
        for row in range(len(first))
        if sets.find(row) != row
    }


def numbered(groups: Sequence[str]) -> np.ndarray:
    names = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return np.array([names[group] for group in groups], dtype=np.uint64)


def firsts(words: np.ndarray, group_of: np.ndarray) -> np.ndarray:
    """For each row the first of its group that says the same."""
    order = np.lexsort((words[:, 1], words[:, 0], group_of))  # stable
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(group_of[order]) != 0) | (words[order[1:]] != words[order[:-1]]).any(axis=1)
    found = np.empty(len(order), dtype=np.int64)
    found[order] = order[np.flatnonzero(new)[np.cumsum(new) - 1]]
    return found


def candidates(
    first: np.ndarray, group_of: np.ndarray, signed: BandTable, alike: "Alike"
) -> Iterator[list[list[int]]]:
    """Rows of the same group that agree in a whole band and say different words.

    They are given some buckets at a time.

    All are held before the first is compared, as far as memory goes: so texts that lie elsewhere
    are read once.
    """
    alone = np.flatnonzero((first == np.arange(len(first))) & signed.is_signed)
    bands = [
        _agreeing(alone, group_of[alone] * np.uint64(1_000_003) + column[alone])
        for column in signed.columns()
    ]
    alike.hold(
        np.unique(
            np.concatenate([row for buckets in bands for row in buckets] or [alone[:0]])
        ).tolist()
    )
    for buckets in bands:
        some: list[list[int]] = []
        held = 0
        for bucket in buckets:
            some.append(np.sort(bucket).tolist())
            held += len(bucket)
            if held >= HELD_AT_ONCE:
                yield some
                some, held = [], 0
        if some:
            yield some


def _agreeing(rows: np.ndarray, key: np.ndarray) -> list[np.ndarray]:
    """Rows with the same key, two or more at a time."""
    order = np.argsort(key)
    edges = (
        np.flatnonzero(np.concatenate(([True], np.diff(key[order]) != 0, [True])))
        if len(order)
        else np.zeros(1, dtype=np.int64)
    )
    return [rows[order[edges[run] : edges[run + 1]]] for run in np.flatnonzero(np.diff(edges) > 1)]


class Sets:
    """Rows that hang together (union-find); a set is known by its first row."""

    def __init__(self, count: int) -> None:
        self.parent = array("q", range(count))

    def find(self, row: int) -> int:
        parent = self.parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(self, left: int, right: int) -> None:
        one, two = self.find(left), self.find(right)
        self.parent[max(one, two)] = min(one, two)


class Alike:
    """Whether two texts are nearly the same, by their shingles; few of these are held."""

    def __init__(self, texts: Texts, threshold: float, sizes: np.ndarray | None = None) -> None:
        """`sizes`: each text's bytes, about, where texts may be long and many."""
        self.texts, self.threshold, self.sizes = texts, threshold, sizes
        self.held: dict[int, np.ndarray] = {}
        self.numbers = 0
        self.unlike: set[tuple[int, int]] = set()

    def __call__(self, left: int, right: int) -> bool:
        pair = (min(left, right), max(left, right))
        if pair in self.unlike:
            return False
        one, other = self.shingles(pair[0]), self.shingles(pair[1])
        both = np.concatenate((one, other))
        both.sort()
        shared = np.count_nonzero(both[1:] == both[:-1])
        if shared / (len(both) - shared) >= self.threshold:
            return True
        if len(self.unlike) >= MOST_UNLIKE:
            self.unlike.clear()
        self.unlike.add(pair)
        return False

    def hold(self, rows: Sequence[int]) -> None:
        """Have at hand what is compared next, as far as memory is meant to go."""
        missing = np.array(sorted({row for row in rows if row not in self.held}), dtype=np.int64)
        total = np.cumsum(self.sizes[missing]) if self.sizes is not None else np.zeros(len(missing))
        start = 0
        while start < len(missing) and not (start and self.numbers > MOST_HELD):
            most = int(
                np.searchsorted(
                    total, (total[start - 1] if start else 0) + HELD_BYTES, side="right"
                )
            )
            stop = max(start + 1, min(start + HELD_AT_ONCE, most))
            self._fetch(missing[start:stop].tolist())
            start = stop

    def shingles(self, row: int) -> np.ndarray:
        """A text's shingles, sorted."""
        if row not in self.held:
            self._fetch([row])
        return self.held[row]

    def _fetch(self, rows: Sequence[int]) -> None:
        if self.numbers > MOST_HELD:
            self.held.clear()
            self.numbers = 0
        texts = self.texts(rows)
        for part in shingles.batches([len(body) for body in texts]):
            found = shingles.shingled(texts[part])
            for place, row in enumerate(rows[part]):
                self.held[row] = found.of(place)
                self.numbers += len(self.held[row])


def _join_bucket(bucket: list[int], sets: Sets, alike: Alike) -> None:
    """Join what is alike in a bucket; two that hang together already are not compared."""
    if len(bucket) > SMALL:
        _join_large(bucket, sets, alike)
        return
    members: dict[int, list[int]] = {}
    for row in bucket:
        members.setdefault(sets.find(row), []).append(row)
    heads: list[list[int]] = []
    for whole in members.values():
        apart = []
        for other in heads:
            if any(alike(left, right) for left in whole for right in other):
                sets.join(whole[0], other[0])
                whole = other + whole
            else:
                apart.append(other)
        heads = [*apart, whole]


def _join_large(bucket: list[int], sets: Sets, alike: Alike) -> None:
    """The same where many agree in a band, as pages from one template do.

    Of two texts that are alike by the threshold t, one has one of its rarest (1 - t) |x| + 1
    shingles in common with the other's (prefix filter: Chaudhuri, Ganti and Kaushik 2006; Bayardo,
    Ma and Srikant 2007). So a text is compared with the few that share most of them. What a
    template repeats is not rare, and points at nobody.
    """
    sample = np.concatenate([alike.shingles(row) for row in bucket[:: -(-len(bucket) // SAMPLE)]])
    known, times = np.unique(sample, return_counts=True)
    rows_of: dict[int, list[int]] = {}
    for row in bucket:
        prefix = _rarest(alike.shingles(row), known, times, alike.threshold)
        shared = Counter(other for number in prefix for other in rows_of.get(number, ()))
        for other, _ in shared.most_common(MOST_OF_ONE):
            if sets.find(row) != sets.find(other) and alike(row, other):
                sets.join(row, other)
        for number in prefix:
            rows = rows_of.setdefault(number, [])
            if len(rows) < MOST_OF_ONE:
                rows.append(row)


def _rarest(
    numbers: np.ndarray, known: np.ndarray, times: np.ndarray, threshold: float
) -> list[int]:
    """A text's shingles that are rarest in its bucket, as many as a copy must share one of."""
    place = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    frequency = np.where(known[place] == numbers, times[place], 0)
    most = len(numbers) - math.ceil(threshold * len(numbers)) + 1
    rarest: list[int] = numbers[np.lexsort((numbers, frequency))[:most]].tolist()
    return rarest
