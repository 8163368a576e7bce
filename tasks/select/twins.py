"""Exact and near duplicates: MinHash signatures in bands, candidates verified by their shingles.

Word 3-grams, 20 bands of 5: finds every copy with 2 to 5 % of its words edited and nine of ten with
10 %. A text too short for a shingle has exact copies only. The result does not depend on the order.
`pairs` names every pair; `copies`, which only needs to know what hangs together, leaves out pairs that are
joined already, so a million pages that are nearly the same cost a million comparisons and not their square.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tasks import text
from tasks.select.bands import Bands

BANDS, ROWS, SEED = 20, 5, 7
MOST_HELD = 20_000_000      # shingles in memory while candidates are compared, as numbers of eight bytes


def signatures(shingled: Sequence[list[str]]) -> np.ndarray:
    """MinHash signatures (N, 100) of N non-empty lists of shingles."""
    import rensa

    found = rensa.RMinHash.digests_from_token_sets(list(shingled), num_perm=BANDS * ROWS, seed=SEED)
    return np.asarray([item.digest() if hasattr(item, "digest") else item for item in found], dtype=np.uint64)


def pairs(texts: Sequence[str], groups: Sequence[str], threshold: float) -> list[tuple[int, int, str]]:
    """Pairs (i, j, how) of the same group, i < j, where `how` is exact or near.

    Of a set of exact copies, each is paired with the first; near pairs have a Jaccard similarity
    of at least `threshold`.
    """
    found: list[tuple[int, int, str]] = []
    first: dict[tuple[str, str], int] = {}
    alone = []
    for index, (body, group) in enumerate(zip(texts, groups, strict=True)):
        key = (group, text.same(body) or body)
        if key in first:
            found.append((first[key], index, "exact"))
        else:
            first[key] = index
            alone.append(index)
    shingled = {index: text.shingles(texts[index]) for index in alone}
    long = [index for index in alone if shingled[index]]
    if not long:
        return found
    signed = signatures([shingled[index] for index in long])
    sets: dict[int, frozenset[str]] = {}
    names = {group: number for number, group in enumerate(dict.fromkeys(groups[index] for index in long))}
    group_of = np.array([names[groups[index]] for index in long], dtype=np.uint64)
    seen: set[tuple[int, int]] = set()
    for band in range(BANDS):
        for bucket in _buckets(group_of, signed[:, band * ROWS : (band + 1) * ROWS]):
            for position, left in enumerate(bucket):
                for right in bucket[position + 1 :]:
                    pair = (long[left], long[right])
                    if pair in seen:
                        continue
                    seen.add(pair)
                    for index in pair:
                        if index not in sets:
                            sets[index] = frozenset(shingled[index])
                    if _alike(sets[pair[0]], sets[pair[1]]) >= threshold:
                        found.append((*pair, "near"))
    return found


def _buckets(group_of: np.ndarray, band: np.ndarray) -> list[list[int]]:
    """Rows of the same group whose signatures agree in a whole band, two or more at a time."""
    key = group_of.copy()
    for column in range(band.shape[1]):
        key = key * np.uint64(1_000_003) + band[:, column]
    order = np.argsort(key, kind="stable")
    edges = np.flatnonzero(np.diff(key[order])) + 1
    return [part.tolist() for part in np.split(order, edges) if len(part) > 1]


def _alike(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard similarity."""
    both = len(left & right)
    return both / (len(left) + len(right) - both)


def folded(signed: np.ndarray) -> np.ndarray:
    """Signatures (N, 100) as bands (N, 20): one number a band."""
    found = np.zeros((len(signed), BANDS), dtype=np.uint64)
    for row in range(ROWS):
        found = found * np.uint64(1_000_003) + signed[:, row::ROWS]
    return np.maximum(found, np.uint64(1))   # all zeros means: no shingle


def copies(texts: Sequence[str], groups: Sequence[str], threshold: float, bands: Bands | None = None) -> dict[int, tuple[int, str]]:
    """Which rows to leave out: row to (the row it is a copy of, how). The first of each set stays.

    Sort the rows by something that does not change, and the result does not either.
    """
    sets = Sets(len(texts))
    find, join = sets.find, sets.join
    words, signed = (bands or Bands()).of(texts)
    exact: set[int] = set()
    first: dict[tuple[str, bytes], int] = {}
    for index, (said, group) in enumerate(zip(words, groups, strict=True)):
        one = first.setdefault((group, said), index)
        if one != index:
            exact.add(index)
            join(one, index)
    alone = np.array([index for index in sorted(first.values()) if signed[index].any()], dtype=np.int64)
    signed = signed[alone]
    names = {group: number for number, group in enumerate(dict.fromkeys(groups[index] for index in alone))}
    group_of = np.array([names[groups[index]] for index in alone], dtype=np.uint64)
    alike = Alike(texts, threshold)
    for band in range(BANDS):
        for bucket in _buckets(group_of, signed[:, band : band + 1]):
            _join_bucket([int(alone[place]) for place in bucket], find, join, alike)
    return {index: (find(index), "exact" if index in exact else "near") for index in range(len(texts)) if find(index) != index}


class Sets:
    """Rows that hang together (union-find); a set is known by its first row."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

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
    """Whether two texts are nearly the same, by their shingles; each pair is compared once, and few shingles are held."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self.texts, self.threshold = texts, threshold
        self.held: dict[int, np.ndarray] = {}
        self.numbers = 0
        self.unlike: set[tuple[int, int]] = set()

    def __call__(self, left: int, right: int) -> bool:
        pair = (min(left, right), max(left, right))
        if pair in self.unlike:
            return False
        one, other = self._shingles(pair[0]), self._shingles(pair[1])
        both = len(np.intersect1d(one, other, assume_unique=True))
        if both / (len(one) + len(other) - both) >= self.threshold:
            return True
        self.unlike.add(pair)
        return False

    def _shingles(self, index: int) -> np.ndarray:
        """A text's shingles as 64-bit numbers, sorted."""
        found = self.held.get(index)
        if found is None:
            if self.numbers > MOST_HELD:
                self.held.clear()
                self.numbers = 0
            shingled = text.shingles(self.texts[index])
            found = self.held[index] = np.unique(np.fromiter(map(hash, shingled), dtype=np.int64, count=len(shingled)))
            self.numbers += len(found)
        return found


def _join_bucket(bucket: list[int], find: Callable[[int], int], join: Callable[[int, int], None], alike: Alike) -> None:
    """Join what is alike in a bucket; two that hang together already are not compared."""
    sets: dict[int, list[int]] = {}
    for index in bucket:
        sets.setdefault(find(index), []).append(index)
    heads: list[list[int]] = []
    for members in sets.values():
        whole = members
        apart = []
        for other in heads:
            if any(alike(left, right) for left in whole for right in other):
                join(whole[0], other[0])
                whole = other + whole
            else:
                apart.append(other)
        heads = [*apart, whole]
