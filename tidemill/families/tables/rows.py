"""The splits' rows as cells and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tidemill.families.tables.columns import Cell, Column, Kind
from tidemill.runtime.errors import Refused

TELLS = "label"


@dataclass(frozen=True)
class LabelledRows:
    """Cells of rows, each by its column, and the label of each."""

    cells: list[dict[str, Cell]]
    labels: list[str]

    def __add__(self, other: LabelledRows) -> LabelledRows:
        return LabelledRows(self.cells + other.cells, self.labels + other.labels)

    def head(self, count: int) -> LabelledRows:
        return LabelledRows(self.cells[:count], self.labels[:count])


def part(splits: Path, name: str) -> LabelledRows:
    """The rows of train, valid or test."""
    return of(pd.read_parquet(splits / f"{name}.parquet", columns=["inputs", "target"]))


def of(examples: pd.DataFrame) -> LabelledRows:
    """Examples as cells and labels."""
    cells = [json.loads(item)["row"] for item in examples["inputs"]]
    return LabelledRows(cells, [json.loads(item)[TELLS] for item in examples["target"]])


def columns_of(rows: Sequence[Mapping[str, Cell]]) -> list[Column]:
    """The columns of examples, in the order of the first row, by what the label step made of them.

    There a number is a float, and a date was written as one.
    """
    return [Column(name=name, kind=_kind([row[name] for row in rows])) for name in rows[0]]


def _kind(cells: Sequence[Cell]) -> Kind:
    known = [cell for cell in cells if cell is not None]
    if known and all(isinstance(cell, float | int) for cell in known):
        return "number"
    from tidemill.families.tables.columns import found

    kind = found("", known).kind
    return "category" if kind == "number" else kind


def ordered(labels: Sequence[str], positive: str) -> list[str]:
    """The labels by name, the positive one last. Raises Refused where no row has it."""
    names = sorted(set(labels))
    if not positive:
        return names
    if positive not in names:
        raise Refused(
            f"model.positive={positive!r} is the label of no training row; there are "
            f"{', '.join(names)[:200]}"
        )
    return [*(name for name in names if name != positive), positive]
