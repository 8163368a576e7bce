"""The columns of a table: which type each has, and how its cells are read.

A cell is text, as a CSV has it. A number's cell may have a decimal comma, where that is asked for;
an empty cell is missing in every column. Words such as NA are missing in numbers and dates alone:
in a column of categories NA may be a country, and stays.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["number", "category", "date", "text"]
Cell = float | int | bool | str | None
Row = Mapping[str, Cell]

MISSING_WORDS = frozenset({"na", "n/a", "nan", "null", "none", "?", "-", "."})
PROSE_CHARS = 40  # the mean length of a column of text
COMMA = re.compile(r"[-+]?\d*,\d+")
LEADING_ZERO = re.compile(r"[-+]?0\d+")  # of a postcode or an article's number


class Column(BaseModel):
    """A column of a table, by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    kind: Kind


class BadCell(ValueError):
    """A cell that is not of its column's type."""


def is_missing(cell: Cell, kind: Kind) -> bool:
    """Whether nothing stands in a cell; words for it count in numbers and dates alone."""
    if cell is None:
        return True
    if isinstance(cell, float) and math.isnan(cell):
        return True
    if not isinstance(cell, str):
        return False
    word = cell.strip()
    return not word or (kind in ("number", "date") and word.lower() in MISSING_WORDS)


def number(cell: Cell, decimal: str = ".") -> float:
    """A cell as a finite number. Raises BadCell."""
    if isinstance(cell, bool | int | float):
        value = float(cell)
    else:
        text = str(cell).strip()
        if "_" in text:  # which Python reads as a number
            raise BadCell(f"{text!r} is no number")
        try:
            value = float(text.replace(",", ".") if decimal == "," else text)
        except ValueError:
            hint = "; is its comma decimal?" if COMMA.fullmatch(text) else ""
            raise BadCell(f"{text[:40]!r} is no number{hint}") from None
    if not math.isfinite(value):
        raise BadCell(f"{value} is no finite number")
    return value


def day(cell: Cell) -> date:
    """A cell as a day, of a date or a time in ISO 8601. Raises BadCell."""
    text = str(cell).strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadCell(f"{text[:40]!r} is no date such as 2026-11-24") from None
    return (moment.astimezone(UTC) if moment.tzinfo else moment).date()


def read(column: Column, cell: Cell, decimal: str = ".") -> Cell:
    """A cell as its column's type: a float, text, an ISO date, or None where it is missing.

    Raises BadCell.
    """
    if is_missing(cell, column.kind):
        return None
    if column.kind == "number":
        return number(cell, decimal)
    if column.kind == "date":
        return day(cell).isoformat()
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))  # 1.0 of a JSON is the category 1 of a CSV
    return str(cell).strip()


def read_row(columns: Sequence[Column], row: Row, decimal: str = ".") -> dict[str, Cell]:
    """The cells of the columns, each as its type. Raises BadCell with the column's name."""
    cells: dict[str, Cell] = {}
    for column in columns:
        if column.name not in row:
            raise BadCell(f"no column {column.name}")
        try:
            cells[column.name] = read(column, row[column.name], decimal)
        except BadCell as error:
            raise BadCell(f"column {column.name}: {error}") from None
    return cells


def unfit(columns: Sequence[Column], row: Row) -> str:
    """Why a row cannot be asked of a model of these columns, by the column's name; "" if it can."""
    known = [column.name for column in columns]
    missing = [name for name in known if name not in row]
    unknown = sorted(set(row) - set(known))
    problems = []
    if missing:
        problems.append(f"no column {_listed(missing)}; say null where its value is not known")
    if unknown:
        problems.append(f"unknown column {_listed(unknown)}")
    if problems:
        return f"{'; '.join(problems)}; the model's columns are {_listed(known, 40)}"
    try:
        read_row(columns, row)
    except BadCell as error:
        return str(error)
    return ""


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name[:60] for name in names[:most]) + more


# Types that are found ------------------------------------------------------------------------


def found(name: str, cells: Sequence[Cell], decimal: str = ".") -> Column:
    """A column with the type that all its cells have."""
    if _all(number, cells, "number", decimal) and not _has_leading_zeros(cells):
        return Column(name=name, kind="number")
    if _all(lambda cell, decimal: day(cell), cells, "date", decimal):
        return Column(name=name, kind="date")
    texts = [str(cell) for cell in cells if not is_missing(cell, "text")]
    is_prose = sum(map(len, texts)) > PROSE_CHARS * max(1, len(texts))
    return Column(name=name, kind="text" if is_prose else "category")


def _all(reads: object, cells: Iterable[Cell], kind: Kind, decimal: str) -> bool:
    """Whether there is a cell that is not missing, and each such one can be read."""
    assert callable(reads)
    some = False
    for cell in cells:
        if is_missing(cell, kind):
            continue
        try:
            reads(cell, decimal)
        except BadCell:
            return False
        some = True
    return some


def _has_leading_zeros(cells: Iterable[Cell]) -> bool:
    return any(isinstance(cell, str) and LEADING_ZERO.fullmatch(cell.strip()) for cell in cells)


def has_decimal_commas(cells: Sequence[Cell]) -> bool:
    """Whether a column is of numbers once its commas are taken as decimal ones, and not before."""
    return (
        any(isinstance(cell, str) and COMMA.fullmatch(cell.strip()) for cell in cells)
        and not _all(number, cells, "number", ".")
        and _all(number, cells, "number", ",")
    )


# Columns that say too much ---------------------------------------------------------------------


LEAST_ROWS = 20  # of a table in which a column may be suspected


def telling(columns: Sequence[Column], rows: Sequence[Row], labels: Sequence[str]) -> list[str]:
    """The columns that alone tell every row's label: probably it under another name.

    A number does so where the rows sorted by it come in one run a label; a category where each
    value has one label and stands in two rows or more on average.
    """
    if len(rows) < LEAST_ROWS or len(set(labels)) < 2:
        return []
    return [
        column.name
        for column in columns
        if _tells([row[column.name] for row in rows], labels, column.kind)
    ]


def _tells(cells: Sequence[Cell], labels: Sequence[str], kind: Kind) -> bool:
    if kind == "text":
        return False
    by_value: dict[Cell, set[str]] = {}
    for cell, label in zip(cells, labels, strict=True):
        by_value.setdefault(cell, set()).add(label)
    if any(len(some) > 1 for some in by_value.values()):
        return False
    if kind == "category":
        return 2 * len(by_value) <= len(cells)
    order = sorted(by_value, key=lambda value: (value is None, value))
    runs = [next(iter(by_value[value])) for value in order]
    changes = sum(one != two for one, two in itertools.pairwise(runs))
    return changes < len(set(labels))


def names_rows(cells: Sequence[Cell], kind: Kind) -> bool:
    """Whether a column of categories has another value in each row: a name or a number of it."""
    return kind == "category" and len(cells) >= LEAST_ROWS and len(set(cells)) == len(cells)
