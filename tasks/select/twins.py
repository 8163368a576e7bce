"""Exact and near duplicates: MinHash signatures in bands, candidates verified by their shingles.

Word 3-grams, 20 bands of 5: finds every copy with 2 to 5 % of its words edited and nine of ten with
10 %. A text too short for a shingle has exact copies only. The result does not depend on the order.
"""

from collections.abc import Sequence

import numpy as np

from tasks import text

BANDS, ROWS, SEED = 20, 5, 7


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


def copies(texts: Sequence[str], groups: Sequence[str], threshold: float) -> dict[int, tuple[int, str]]:
    """Which rows to leave out: row to (the row it is a copy of, how). The first of each set stays.

    Sort the rows by something that does not change, and the result does not either.
    """
    parent = list(range(len(texts)))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    how: dict[int, str] = {}
    for left, right, kind in pairs(texts, groups, threshold):
        a, b = find(left), find(right)
        if a != b:
            parent[max(a, b)] = min(a, b)
        how[right] = kind if how.get(right) != "exact" else "exact"
    return {index: (find(index), how.get(index, "near")) for index in range(len(texts)) if find(index) != index}
