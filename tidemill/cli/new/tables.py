"""What lies in a person's table of numbers and categories, and how a source and a recipe read it.

It is read by the selector that will clean it, so that what is told of it here holds there too.
"""

import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tasks.clean import table_selectors
from tasks.clean.binary_selectors import unpacked
from tasks.clean.part import Unreadable
from tidemill.cli.new.survey import (
    KEY,
    LABEL,
    LEAST,
    SurveyResult,
    check_first_line,
    check_size,
    column_meant,
    doubtful,
    hashed,
    plain_name,
    shown,
    without_encoding,
)
from tidemill.engines.config.schema import Rule
from tidemill.families.tables import columns as cells
from tidemill.families.tables.columns import Cell, Column
from tidemill.runtime.errors import Refused

TARGETS = (*LABEL, "outcome", "y")
EXCEL = (".xlsx", ".xls", ".ods")
MOST_CLASSES = 50
GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?|[-+]?\d{1,3}(\.\d{3})+,\d+")
SEVERAL = re.compile(r",\d{3},|,\d{3}\.|\.\d{3}[.,]")
QUALITY = (0.6, "set it to what your use needs; 0.5 is chance")


def survey_table(path: Path, asked: dict[str, str]) -> SurveyResult:
    """How a table of rows with a label each is read. Refused where it cannot be."""
    if path.is_dir():
        raise Refused(
            f"--data: {path} is a folder; a table is one file, a CSV with a head or parquet"
        )
    if path.suffix.lower() in EXCEL:
        raise Refused(f"--data: {path} is a spreadsheet; save the sheet as CSV UTF-8")
    rule = _rule(path)
    rows = _rows(path, rule)
    head = list(dict.fromkeys(name for row in rows for name in row))
    target = column_meant("label", asked, head, TARGETS)
    key = _key(asked, head, rows)
    if key:
        rule["key"] = [key]
    counts = _counts(path, target, rows)
    return _of_table(path, rule, rows, target, key, counts)


def _rule(path: Path) -> dict[str, object]:
    """The selector's rule."""
    rule: dict[str, object] = {"kind": "rows", "name": "row"}
    check_size(path)
    try:
        body = unpacked(path.read_bytes())
    except Unreadable as error:
        raise Refused(f"--data: {path}: {error}") from error
    if body[:4] == table_selectors.PARQUET:
        return rule
    text = without_encoding(path, body).lstrip()
    if not text:
        raise Refused(f"--data: {path} is empty")
    first = text.splitlines()[0]
    check_first_line(path, first)
    delimiter = max(",;\t|", key=first.count)
    try:
        head = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise Refused(f"--data: {path} is no CSV table: {error}") from error
    if len(head) < 2 or any(_is_number(name) for name in head):
        raise Refused(
            f"--data: the first line of {path} names no columns: {first[:60]!r}; a table has a "
            "head such as age,income,label"
        )
    return rule if delimiter == "," else {**rule, "delimiter": delimiter}


def _is_number(name: str, decimal: str = ".") -> bool:
    try:
        cells.number(name, decimal)
    except cells.BadCell:
        return False
    return True


def _rows(path: Path, rule: dict[str, object]) -> list[dict[str, Cell]]:
    try:
        parts = table_selectors.rows(Rule.model_validate(rule), path.name, path.read_bytes())
        rows = [json.loads(part.payload or b"{}") for part in parts]
    except Unreadable as error:
        raise Refused(f"--data: {path}: {error}") from error
    if not rows:
        raise Refused(f"--data: {path} has a head and no rows")
    return rows


def _key(asked: dict[str, str], head: list[str], rows: list[dict[str, Cell]]) -> str:
    """The column that names a row for ever: the one a person named, else one called so."""
    if "key" in asked and asked["key"] not in head:
        raise Refused(f"--column key={asked['key']}: the table has {', '.join(head)}")
    named = [asked["key"]] if "key" in asked else [one for one in head if one.lower() in KEY]
    for name in named:
        values = [row[name] for row in rows]
        if None not in values and "" not in values and len(set(map(str, values))) == len(values):
            return name
        if "key" in asked:
            raise Refused(f"--column key={name}: two rows have the same one, or a row has none")
    return ""


def _counts(path: Path, target: str, rows: list[dict[str, Cell]]) -> dict[str, int]:
    """How many rows each label has. Refused where they are no classes."""
    values = [row[target] for row in rows]
    named = [str(one).strip() for one in values if not cells.is_missing(one, "category")]
    counts = dict(sorted(Counter(named).items()))
    if len(counts) > MOST_CLASSES:
        kind = cells.found(target, values).kind
        raise Refused(
            f"--data: column {target} of {path} has {len(counts):,} different values"
            + (", numbers: an amount cannot be predicted yet" if kind == "number" else "")
            + "; name the column of classes with --column label=NAME"
        )
    if len(counts) < 2:
        raise Refused(
            f"--data: column {target} of {path} has {len(counts)} "
            f"value{'s' if len(counts) != 1 else ''}; at least two classes are needed"
        )
    if max(counts.values()) < LEAST:
        raise Refused(f"--data: no class of column {target} of {path} has {LEAST} rows")
    return counts


def _of_table(
    path: Path,
    rule: dict[str, object],
    rows: list[dict[str, Cell]],
    target: str,
    key: str,
    counts: dict[str, int],
) -> SurveyResult:
    head = list(dict.fromkeys(name for row in rows for name in row))
    values = {name: [row[name] for row in rows] for name in head}
    _refuse_thousands(path, values)
    decimal = "," if any(map(cells.has_decimal_commas, values.values())) else "."
    columns = [cells.found(name, values[name], decimal) for name in head if name != target]
    odd = _nearly_numbers(columns, values, decimal)
    reasons = _left(columns, rows, values, target, key, decimal)
    reasons |= {name: f"{why}; {odd[name]}" for name, why in reasons.items() if name in odd}
    kept = {column.name: column.kind for column in columns if column.name not in reasons}
    if not kept:
        raise Refused(f"--data: no column of {path} is left to ask; left out: {_told(reasons)}")
    odd = {name: why for name, why in odd.items() if name in kept}
    rare = min(counts, key=lambda name: (counts[name], name))
    label: dict[str, object] = dict.fromkeys(("names", "leave", "slices", "unit", "trusted"))
    label |= {"target": target, "columns": kept, "decimal": "," if decimal == "," else None}
    unlabelled = len(rows) - sum(counts.values())
    return SurveyResult(
        source={"members": "*", "selector": [rule], "clean": {}},
        split=hashed(len(rows)),
        rows=len(rows),
        told=f"{len(rows):,} rows of {len(kept)} columns in {len(counts)} classes: {shown(counts)}"
        + (f"; {unlabelled:,} without a {target} are left out" if unlabelled else "")
        + (f"; columns left out: {_told(reasons)}" if reasons else "")
        + (f"; taken for categories: {_told(odd)}" if odd else "")
        + (f"; {plain_name(rare)} is what is looked for" if len(counts) == 2 else "")
        + doubtful(counts),
        counts=counts,
        summary=f"Says which {target} a row has.",
        label=label,
        model={"positive": rare} if len(counts) == 2 else {},
        gates={"quality": QUALITY},
    )


def _left(
    columns: Sequence[Column],
    rows: list[dict[str, Cell]],
    values: dict[str, list[Cell]],
    target: str,
    key: str,
    decimal: str,
) -> dict[str, str]:
    """Which columns are not asked, and why."""
    reasons: dict[str, str] = {}
    labelled = [row for row in rows if not cells.is_missing(row[target], "category")]
    read = [cells.read_row(columns, row, decimal) for row in labelled]
    telling = cells.telling(columns, read, [str(row[target]).strip() for row in labelled])
    for column in columns:
        if key and column.name == key:
            reasons[column.name] = "names the row"
        elif column.name in telling:
            reasons[column.name] = f"alone tells {target}, as if it were known only afterwards"
        elif cells.names_rows(values[column.name], column.kind):
            reasons[column.name] = "another value in each row"
        elif column.kind == "number" and _counts_on([row[column.name] for row in read]):
            reasons[column.name] = "numbers the rows"
        elif len({str(value) for value in values[column.name]}) == 1:
            reasons[column.name] = "one value in all rows"
    return reasons


def _refuse_thousands(path: Path, values: dict[str, list[Cell]]) -> None:
    """Refuse columns that would be read a thousandth of what they say, or as categories."""
    for name, column in values.items():
        texts = [one.strip() for one in column if isinstance(one, str) and one.strip()]
        grouped = [one for one in texts if GROUPED.fullmatch(one)]
        commas = [one for one in texts if "," in one]
        if grouped and (len(grouped) == len(commas) or any(map(SEVERAL.search, grouped))):
            raise Refused(
                f"--data: column {plain_name(name)} of {path} has {grouped[0]!r}: are its "
                "separators of thousands? write numbers without them, decimals with a point"
            )


def _nearly_numbers(
    columns: Sequence[Column], values: dict[str, list[Cell]], decimal: str
) -> dict[str, str]:
    """Columns of which nine cells in ten are numbers, each with a cell that is none."""
    odd: dict[str, str] = {}
    for column in columns:
        cells_ = [one for one in values[column.name] if not cells.is_missing(one, "number")]
        words = [str(one) for one in cells_ if not _is_number(str(one), decimal)]
        if column.kind in ("category", "text") and 0 < len(words) <= len(cells_) / 10:
            odd[column.name] = (
                f"{len(words):,} of {len(cells_):,} cells no number, as {words[0][:20]!r}"
            )
    return odd


def _counts_on(numbers: Sequence[Cell]) -> bool:
    """Whether each number is one more than the one above it, as an index that was saved too."""
    pairs = itertools.pairwise(numbers)
    return len(numbers) > LEAST and all(
        isinstance(one, float) and isinstance(two, float) and two == one + 1 for one, two in pairs
    )


def _told(reasons: dict[str, str]) -> str:
    shown_ = [
        f"{plain_name(name) or 'one without a name'} ({why})"
        for name, why in [*reasons.items()][:8]
    ]
    return ", ".join(shown_) + (f" and {len(reasons) - 8} more" if len(reasons) > 8 else "")
