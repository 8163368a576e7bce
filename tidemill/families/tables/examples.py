"""Documents that are rows of a table, as examples.

The options, under `label:` in conf/recipe/NAME.yaml:

target   the column of the labels
names    what a label is called, where the table has a code: {"0": malignant}
columns  the type of each column that is asked: number, category, date or text; none: all but
         those of `target` and `leave`, by the types that are found
leave    columns that are not asked, such as a row's number
slices   columns by which rows are judged apart; they need not be asked
decimal  "," where numbers have a decimal comma
trusted  columns that tell the label alone and are known before it all the same
unit     the column of what is resampled together, such as a person; none: a row
"""

from __future__ import annotations

import json
from typing import Literal

import pandas as pd
from pydantic import Field

from tidemill.families.tables import columns as cells
from tidemill.families.tables.columns import BadCell, Cell, Column, Kind
from tidemill.kit.label_options import LabelOptions, options_as
from tidemill.runtime.errors import Refused

MOST_BAD = 0.5  # of the rows may have a cell of another type; more, and the column's type is wrong


class TableOptions(LabelOptions):
    """The options of a table's labels, as the module's head says them."""

    target: str
    names: dict[str, str] = {}
    columns: dict[str, Kind] = {}
    leave: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    decimal: Literal[".", ","] = "."
    trusted: tuple[str, ...] = ()
    unit: str = ""
    min_examples: int = Field(default=2, ge=1)


def options_of(options: dict[str, object]) -> TableOptions:
    """The options. Raises Refused."""
    return options_as(TableOptions, options)


def label(documents: pd.DataFrame, given: dict[str, object], tells: str = "label") -> pd.DataFrame:
    """An example a row: its columns, each as its type, and the label of its target column.

    Raises Refused where a declared column is missing or has another type in most rows, and where a
    column tells the label alone.
    """
    options = options_of(given)
    rows = [json.loads(payload) for payload in documents["payload"]]
    columns = asked_columns(options, rows)
    examples = [_example(options, columns, row) for row in rows]
    _refuse_wrong_types(columns, [reason for _, _, reason in examples])
    labels = [name for _, name, _ in examples]
    usable = [at for at, (_, _, reason) in enumerate(examples) if reason is None]
    suspects = [column for column in columns if column.name not in options.trusted]
    read = [examples[at][0] for at in usable]
    if telling := cells.telling(suspects, read, [labels[at] for at in usable]):
        raise Refused(leak(telling[0], options.target))
    units = [str(row[options.unit]) for row in rows] if options.unit else documents["doc_id"]
    return pd.DataFrame(
        {
            "doc_id": documents["doc_id"].to_numpy(),
            "inputs": [_json({"row": row}) for row, _, _ in examples],
            "target": [_json({tells: name}) for name in labels],
            "confidence": 1.0,
            "votes": [_json({"source": name}) for name in labels],
            "unit": list(units),
            "slices": [_slices(options, row, name) for row, name in zip(rows, labels, strict=True)],
            "dropped": pd.Series([reason for _, _, reason in examples], dtype=object),
        }
    )


def leak(column: str, target: str) -> str:
    """Why a column that tells the label is refused, with what to do."""
    return (
        f"column {column} alone tells {target} in every row, so it is probably the answer under "
        f"another name; put it under label.leave, or under label.trusted where it is known before"
    )


def asked_columns(options: TableOptions, rows: list[dict[str, Cell]]) -> list[Column]:
    """The columns that are asked, in the order in which they are declared, else by name."""
    there = {name: None for row in rows for name in row}
    wanted = [options.target, *options.columns, *options.slices, options.unit]
    missing = [name for name in wanted if name and name not in there]
    if missing:
        raise Refused(
            f"no column {missing[0]!r} in today's rows, which have {', '.join(there)[:200]}; "
            "correct `label` in conf/recipe, or the source"
        )
    if options.target in options.columns:
        raise Refused(
            f"label.columns has {options.target}, which is label.target; leave one of them out"
        )
    if options.columns:
        return [Column(name=name, kind=kind) for name, kind in options.columns.items()]
    left = sorted(set(there) - {options.target, options.unit, *options.leave})
    if not left:
        raise Refused("no column is left to ask; shorten label.leave")
    return [cells.found(name, [row.get(name) for row in rows], options.decimal) for name in left]


def _example(
    options: TableOptions, columns: list[Column], row: dict[str, Cell]
) -> tuple[dict[str, Cell], str, str | None]:
    """A row's cells, its label, and why it cannot be an example, or None."""
    raw = row.get(options.target)
    name = "" if cells.is_missing(raw, "category") else str(raw).strip()
    name = options.names.get(name, name)
    try:
        read = cells.read_row(columns, row, options.decimal)
    except BadCell as error:
        return {}, name, str(error).partition(": ")[0] + _why(error)
    if not name:
        return read, name, f"no {options.target}"
    if options.names and name not in options.names.values():
        return read, name, f"{options.target} is none of label.names"
    return read, name, None


def _why(error: BadCell) -> str:
    """A bad cell's reason without the cell: reasons are counted."""
    words = str(error).partition(": ")[2]
    return f": {words[words.rindex(' is no ') + 1 :]}" if " is no " in words else ""


def _refuse_wrong_types(columns: list[Column], reasons: list[str | None]) -> None:
    for column in columns:
        bad = sum((reason or "").startswith(f"column {column.name}:") for reason in reasons)
        if bad > MOST_BAD * len(reasons):
            raise Refused(
                f"column {column.name} is a {column.kind} in label.columns, and {bad:,} of "
                f"{len(reasons):,} rows have another type there today; correct the table, the "
                "type, or label.decimal"
            )


def _slices(options: TableOptions, row: dict[str, Cell], name: str) -> str:
    """The slice columns of a row."""
    own = {column: str(row.get(column) or "").strip() for column in options.slices}
    return json.dumps({"label": name, **own}, sort_keys=True, ensure_ascii=False)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
