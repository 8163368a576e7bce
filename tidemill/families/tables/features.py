"""A table's cells as numbers, the same in training, in scoring and in the server.

A number is one feature; a date is three (its day, month and weekday); a category is one for each of
its frequent values, so that one that training never saw is none of them; a text is one for each of
some buckets of words. A missing value takes the median, and where training saw some, a feature of
its own says so.

Trees read the place of a value among the training's values and not the value: places are whole
numbers, on which no rounding makes the exported graph take another branch than the library. Linear
models read the values, with mean 0 and deviation 1 in training.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from datetime import date

import numpy as np
from pydantic import BaseModel, ConfigDict

from tidemill.families.tables.columns import Cell, Column, Row

MOST_LEVELS = 50  # of a category; what is rarer is none of them
LEAST_LEVEL_ROWS = 2
BUCKETS = 32  # of a text's words
FURTHEST = 100.0  # from the mean, in deviations: further, and a value is as far as that
MOST_PLACES = 255  # of a feature's values, as LightGBM's max_bin


class Feature(BaseModel):
    """One column of numbers that a table's column became."""

    model_config = ConfigDict(frozen=True)
    column: str
    name: str
    fill: float = 0.0  # where the value is missing
    mean: float = 0.0
    deviation: float = 1.0
    edges: tuple[float, ...] = ()  # between the values that training saw


class TablePreparation(BaseModel):
    """What was learned of the columns; a package keeps it in tables.json."""

    model_config = ConfigDict(frozen=True)
    columns: tuple[Column, ...]
    levels: dict[str, tuple[str, ...]]  # of each category
    gaps: tuple[str, ...]  # columns in which training saw missing values
    features: tuple[Feature, ...] = ()

    def inputs(self, rows: Sequence[Row]) -> np.ndarray:
        """(B, 2 F) float32: the place of each feature, then its value for a linear model."""
        return self.inputs_of(self.filled(rows))

    def inputs_of(self, filled: np.ndarray) -> np.ndarray:
        """The same, of features without gaps (B, F)."""
        return np.concatenate([self.placed(filled), self.scaled(filled)], axis=1)

    def placed(self, filled: np.ndarray) -> np.ndarray:
        """(B, F) float32 of whole numbers: where each feature lies among training's values."""
        out = np.empty(filled.shape, dtype=np.float32)
        for at, feature in enumerate(self.features):
            out[:, at] = np.searchsorted(np.array(feature.edges), filled[:, at])
        return out

    def scaled(self, filled: np.ndarray) -> np.ndarray:
        """(B, F) float32 with mean 0 and deviation 1 in training."""
        mean = np.array([feature.mean for feature in self.features])
        deviation = np.array([feature.deviation for feature in self.features])
        return ((filled - mean) / deviation).clip(-FURTHEST, FURTHEST).astype(np.float32)

    def filled(self, rows: Sequence[Row]) -> np.ndarray:
        """(B, F) float64 without gaps."""
        raw = self.raw(rows)
        fill = np.array([feature.fill for feature in self.features])
        return np.where(np.isnan(raw), fill, raw)

    def raw(self, rows: Sequence[Row]) -> np.ndarray:
        """(B, F) float64, NaN where a value is missing."""
        blocks = [
            self._block(column, [row[column.name] for row in rows]) for column in self.columns
        ]
        return np.concatenate(blocks, axis=1) if rows else np.zeros((0, len(self.features)))

    def inputs_from(self, column: str) -> list[int]:
        """Which of the inputs a column became, places and values."""
        own = [at for at, feature in enumerate(self.features) if feature.column == column]
        return [*own, *(len(self.features) + at for at in own)]

    def names(self) -> list[tuple[str, str]]:
        """Column and name of each feature, in their order."""
        return [(column.name, name) for column in self.columns for name in self._names(column)]

    def unseen(self, row: Row) -> int:
        """How many categories of a row training never saw, or too rarely."""
        return sum(
            row[name] is not None and row[name] not in levels
            for name, levels in self.levels.items()
        )

    def _names(self, column: Column) -> list[str]:
        name = column.name
        own = {
            "number": [name],
            "date": [f"{name}: {part}" for part in ("day", "month", "weekday")],
            "category": [f"{name} = {level}" for level in self.levels.get(name, ())],
            "text": [f"{name}: length", *(f"{name}: words {at}" for at in range(BUCKETS))],
        }[column.kind]
        return [*own, f"{name} is missing"] if name in self.gaps else own

    def _block(self, column: Column, cells: Sequence[Cell]) -> np.ndarray:
        if column.kind == "number":
            block = np.array([[np.nan if cell is None else cell] for cell in cells], dtype=float)
        elif column.kind == "date":
            block = np.array([_date_parts(cell) for cell in cells], dtype=float)
        elif column.kind == "category":
            levels = self.levels.get(column.name, ())
            block = np.array([[cell == level for level in levels] for cell in cells], dtype=float)
            block = block.reshape(len(cells), len(levels))
        else:
            block = np.array([_word_counts(cell) for cell in cells], dtype=float)
        if column.name not in self.gaps:
            return block
        missing = np.array([[float(cell is None)] for cell in cells])
        return np.concatenate([block, missing], axis=1)


def _date_parts(cell: Cell) -> list[float]:
    if cell is None:
        return [math.nan] * 3
    day = date.fromisoformat(str(cell))
    return [float(day.toordinal()), float(day.month), float(day.weekday())]


def _word_counts(cell: Cell) -> list[float]:
    """The logarithms of a text's length and of how many of its words fall into each bucket."""
    text = "" if cell is None else str(cell)
    counts = [0] * BUCKETS
    for word in text.lower().split():
        counts[zlib.crc32(word.encode()) % BUCKETS] += 1
    return [math.log1p(len(text)), *map(math.log1p, counts)]


def learned(columns: Sequence[Column], rows: Sequence[Row]) -> TablePreparation:
    """The preparation of training rows, which have at least one."""
    levels = {
        column.name: _levels([row[column.name] for row in rows])
        for column in columns
        if column.kind == "category"
    }
    gaps = tuple(column.name for column in columns if any(row[column.name] is None for row in rows))
    bare = TablePreparation(columns=tuple(columns), levels=levels, gaps=gaps)
    names = bare.names()
    raw = bare.raw(rows)
    features = [_feature(*pair, raw[:, at]) for at, pair in enumerate(names)]
    return bare.model_copy(update={"features": tuple(features)})


def _levels(cells: Sequence[Cell]) -> tuple[str, ...]:
    """The frequent values of a category, the most frequent first."""
    counts = Counter(str(cell) for cell in cells if cell is not None)
    often = [level for level, count in counts.items() if count >= LEAST_LEVEL_ROWS]
    return tuple(sorted(often, key=lambda level: (-counts[level], level))[:MOST_LEVELS])


def _feature(column: str, name: str, values: np.ndarray) -> Feature:
    known = values[~np.isnan(values)]
    fill = float(np.median(known)) if len(known) else 0.0
    filled = np.where(np.isnan(values), fill, values)
    deviation = float(filled.std())
    return Feature(
        column=column,
        name=name,
        fill=fill,
        mean=float(filled.mean()),
        deviation=deviation if deviation > 0 else 1.0,
        edges=tuple(_edges(filled)),
    )


def _edges(values: np.ndarray) -> list[float]:
    """Where a feature's values are divided: between all of them, or as many at a time."""
    unique = np.unique(values)
    if len(unique) > MOST_PLACES:
        shares = np.linspace(0, 1, MOST_PLACES)
        unique = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    return [float(edge) for edge in (unique[1:] + unique[:-1]) / 2]
