"""Weak segments that nobody named: where the candidate does worse than elsewhere.

A shallow tree over the slice columns is grown on one half of the units, and what it finds is tested
on the other half, so that a segment is not believed for being the worst of many. Reported, never
a gate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tasks.judge.comparison import Comparison, Where
from tasks.judge.groups import Side, least
from tidemill.kit.metrics.classes import right

DEPTH = 3
MOST_VALUES = 50  # of a column; the rest are one value
MOST_SEGMENTS = 5  # that are tested, the worst ones first


@dataclass(frozen=True)
class WeakSegment:
    """Rows that were found to be weak, and what the other half of the rows says of them."""

    words: str
    rows: int
    figure: float  # share of right answers there, in the half that did not find it
    rest: float  # and elsewhere
    least: float  # by so much at least it is worse, with an error of alpha over all segments

    def __str__(self) -> str:
        return (
            f"weak where {self.words}: accuracy {self.figure:.4f} of {self.rows} rows, "
            f"{self.rest:.4f} elsewhere, worse by {self.least:.4f} at least"
        )


def weak(comparison: Comparison) -> list[WeakSegment]:
    """Segments that are shown to be worse than the rest, the worst first.

    None where answers are not right or wrong, or rows have no slices.
    """
    frame = comparison.frame("candidate", comparison.all)
    hits = None if frame is None else right(frame)
    columns = list(comparison.settings.slices)
    if hits is None or not columns:
        return []
    finding = _half(comparison.rows["unit"])
    min_rows = comparison.settings.min_rows
    if min(finding.sum(), (~finding).sum()) < 2 * min_rows:
        return []
    table = _indicators(comparison.rows, columns)
    found = list(_leaves(table, hits, finding, min_rows))[:MOST_SEGMENTS]
    told = [
        segment
        for words, inside in found
        if (segment := _tested(comparison, words, inside, ~finding, len(found), hits))
    ]
    return sorted(told, key=lambda segment: -segment.least)


def _half(units: pd.Series) -> np.ndarray:
    """Which rows find: half of the units, by hash."""
    hashes = pd.util.hash_array(units.astype(str).to_numpy(dtype=object))
    return np.asarray(hashes % 2 == 0)


def _indicators(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """A column for each value of a slice column that is not too rare."""
    table = {}
    for column in columns:
        values = rows[column].astype(str)
        for value in values.value_counts().index[:MOST_VALUES]:
            table[f"{column}={value}"] = (values == value).to_numpy()
    return pd.DataFrame(table)


def _leaves(
    table: pd.DataFrame, hits: np.ndarray, finding: np.ndarray, min_rows: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Leaves of the tree that are worse than the whole, the worst first: words and rows (n,)."""
    from sklearn.tree import DecisionTreeRegressor

    tree = DecisionTreeRegressor(max_depth=DEPTH, min_samples_leaf=min_rows, random_state=1)
    names = [str(name) for name in table.columns]
    tree.fit(table[finding].to_numpy(), hits[finding])
    leaf = tree.apply(table.to_numpy())
    shares = {node: hits[finding & (leaf == node)].mean() for node in np.unique(leaf[finding])}
    whole = hits[finding].mean()
    paths = dict(_paths(tree.tree_, names))
    for node in sorted(shares, key=lambda node: shares[node]):
        if shares[node] < whole and paths[node]:
            yield " and ".join(paths[node]), leaf == node


def _paths(
    tree: Any, names: list[str], node: int = 0, so_far: tuple[str, ...] = ()
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each leaf with the conditions that lead to it."""
    left, right = tree.children_left[node], tree.children_right[node]
    if left < 0:
        yield node, so_far
        return
    column, _, value = names[tree.feature[node]].partition("=")
    yield from _paths(tree, names, left, (*so_far, f"{column} is not {value}"))
    yield from _paths(tree, names, right, (*so_far, f"{column} is {value}"))


def _tested(
    comparison: Comparison,
    words: str,
    inside: np.ndarray,
    testing: np.ndarray,
    segments: int,
    hits: np.ndarray,
) -> WeakSegment | None:
    """What the half that did not find a segment says; None where that is nothing."""
    here, rest = (
        Where(words, np.flatnonzero(testing & part), small=True) for part in (inside, ~inside)
    )
    sides = []
    for where in (rest, here):
        if comparison.units(where).effective < comparison.settings.min_units:
            return None
        sides.append(Side.of(comparison, where, comparison.share(hits[where.rows], where)))
    worse_by = least(sides[0], sides[1], comparison.settings.alpha / segments)
    if worse_by <= 0:
        return None
    elsewhere, inside_it = (side.estimate.figure for side in sides)
    return WeakSegment(words, len(here.rows), inside_it, elsewhere, worse_by)
