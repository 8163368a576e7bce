"""Rows of train and valid that are copies of test rows.

They would make a model look better than it is. What is in memory of each row is some tens of bytes;
texts are read where they may be copies.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from tasks.split.facts import COLUMNS, Compared, Question, RowFacts, joined
from tasks.split.rules import SPLITS
from tasks.split.runs import RunFiles
from tidemill.kit import pictures
from tidemill.records.groups import Grouped
from tidemill.text import duplicates
from tidemill.text.duplicates import Alike, Sets
from tidemill.text.lsh import BandTable, shape

ALIKE_BITS = 3  # of 64 of a perceptual hash
HASH_BANDS = ALIKE_BITS + 1  # hashes that differ in so few bits agree in one of these parts
ALIKE_GREY = 4.0  # of 255: mean difference of pictures that are one picture, saved anew
NEIGHBOURS = 32  # pictures of a bucket that one is compared with

Prose = Callable[[Sequence[int]], Sequence[str]]  # gives the prose of some rows


def prose_in(examples: Grouped, compared: Compared) -> Prose:
    """The prose of rows of a table, read where they lie."""
    columns = [name for name in COLUMNS if name in ("inputs", "target")]

    def prose(rows: Sequence[int]) -> list[str]:
        wanted = np.unique(np.array(rows, dtype=np.int64))
        texts: dict[int, str] = {}
        for group in examples.groups:
            inside = (wanted >= group.start) & (wanted < group.start + group.rows)
            start = group.start
            for frame in group.frames(columns) if inside.any() else ():
                mine = wanted[(wanted >= start) & (wanted < start + len(frame))]
                some = frame.iloc[mine - start]
                rows_of = zip(mine.tolist(), some["inputs"], some["target"], strict=True)
                for row, inputs, target in rows_of:
                    asked = Question.of(inputs, target, None, compared.prose, compared.many_answers)
                    texts[row] = asked.prose
                start += len(frame)
        return [texts[row] for row in rows]

    return prose


def leaks(
    rank: np.ndarray, facts: Iterable[RowFacts], prose: Prose, compared: Compared, folder: Path
) -> tuple[np.ndarray, list[str], RowFacts]:
    """Why a row of train or valid is left out: (N,) places in the reasons, or -1; the reasons.

    `rank`, (N,): the place in SPLITS of each row, or -1 for one that is in none. `facts` are those
    of all rows, some at a time. A row is left out that is an exact copy of a row of a stricter
    split, in one cluster of near copies with one, or shares words in a row with one. Where answers
    are classes, only rows of one class are compared. A cluster is everything that near copies lead
    to, one after the other. Last come the facts of all rows, without bands and runs, which lie in
    files in `folder` meanwhile.
    """
    bands, _ = shape(compared.threshold)
    with BandTable.beside(folder, bands) as table, RunFiles.beside(folder) as runs:
        whole = _gathered(facts, table, runs)
        exact = _strictest_of(duplicates.firsts(whole.exact, _one_group(rank)), rank)
        near = _strictest_near(whole, rank, table, prose, compared.threshold)
        shared = runs.strictest(rank)
    reasons = [
        *(f"exact duplicate of a {part} row" for part in SPLITS),
        *(f"near duplicate of a {part} row" for part in SPLITS),
        *(f"{compared.ngram} words in a row with a {part} row" for part in SPLITS),
    ]
    why = np.full(len(rank), -1, dtype=np.int8)
    for number, strictest in reversed([*enumerate((exact, near, shared))]):
        stricter = (rank >= 0) & (rank < strictest)
        why[stricter] = number * len(SPLITS) + strictest[stricter]
    return why, reasons, whole


def _gathered(facts: Iterable[RowFacts], table: BandTable, runs: RunFiles) -> RowFacts:
    """All facts in one, with bands and runs in files."""
    small, start = [], 0
    for each in facts:
        table.add(each.bands)
        runs.add(each.runs.after(start))
        start += len(each.exact)
        small.append(each.without_large())
    return joined(small)


def _one_group(rank: np.ndarray) -> np.ndarray:
    """(N,) uint64: rows that are in no split are compared with none, so each is its own group."""
    apart = np.arange(1, len(rank) + 1, dtype=np.uint64)
    return np.where(rank < 0, apart, np.uint64(0))


def _strictest_of(head: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """(N,): the strictest split that a row of the same set is in; a set is known by its head."""
    strictest = np.full(len(rank), -1, dtype=rank.dtype)
    np.maximum.at(strictest, head, rank)
    return strictest[head]


def _strictest_near(
    whole: RowFacts, rank: np.ndarray, table: BandTable, prose: Prose, threshold: float
) -> np.ndarray:
    """(N,): the strictest split that a row of the same cluster of near copies is in."""
    sets = Sets(len(rank))
    first = duplicates.firsts(whole.exact, _one_group(rank))
    linked = np.flatnonzero(first != np.arange(len(first)))
    for row in linked.tolist():
        sets.join(int(first[row]), row)
    counts = np.flatnonzero(rank[whole.places] >= 0)
    rows, table.order = whole.places[counts], counts
    alike = Alike(lambda some: prose(rows[list(some)].tolist()), threshold, whole.sizes[counts])
    copies = duplicates.joined(whole.words[counts], table, whole.group[rows], alike)
    pairs = [(rows[head], rows[row]) for row, (head, _) in copies.items()]
    pairs += _alike_pictures(
        [(row, look) for row, look in whole.looks if rank[row] >= 0], whole.group
    )
    for left, right in pairs:
        sets.join(int(left), int(right))
    head = np.arange(len(rank))
    ends = [row for pair in pairs for row in pair]
    for row in np.unique(np.concatenate([linked, first[linked], np.array(ends, np.int64)])):
        head[row] = sets.find(int(row))
    return _strictest_of(head, rank)


def _alike_pictures(
    looks: Sequence[tuple[int, pictures.Look]], group: np.ndarray
) -> list[tuple[int, int]]:
    """Pairs of rows of a group whose pictures look the same.

    By a perceptual hash, and then pixel by pixel.
    """
    buckets: dict[tuple[int, int], list[tuple[int, pictures.Look]]] = defaultdict(list)
    pairs = []
    for row, look in looks:
        for band in range(HASH_BANDS):
            bucket = buckets[band, look.hash >> (16 * band) & 0xFFFF]
            for other, before in bucket[-NEIGHBOURS:]:
                if group[row] == group[other] and _looks_alike(look, before):
                    pairs.append((other, row))
            bucket.append((row, look))
    return pairs


def _looks_alike(one: pictures.Look, other: pictures.Look) -> bool:
    if (one.hash ^ other.hash).bit_count() > ALIKE_BITS:
        return False
    return float(np.abs(one.grey.astype(int) - other.grey).mean()) <= ALIKE_GREY
