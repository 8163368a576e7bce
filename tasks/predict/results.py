"""The answers' file, made of finished parts: JSON lines, CSV or parquet, in the order of the rows.

Parts are JSON lines beside the file that is to be; what a table cannot hold (a list, a mapping)
stands in it as JSON.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidemill.runtime.errors import Refused
from tidemill.runtime.files import aside

FORMS = (".jsonl", ".csv", ".parquet")
ROWS_AT_ONCE = 10_000
EXACT = 2**53  # up to here a float holds every integer

Row = dict[str, Any]


def check(out: Path, overwrite: bool) -> None:
    """Refuse a file of another form, and one that is there already. Raises Refused."""
    if out.suffix.lower() not in FORMS:
        raise Refused(f"--out {out}: written are {', '.join(FORMS)}")
    if out.is_dir() or (out.exists() and not overwrite):
        raise Refused(f"--out {out} exists; name another file, or say --overwrite")
    if not out.absolute().parent.is_dir():
        raise Refused(f"--out {out}: no folder {out.absolute().parent}; make it first")


def joined(parts: list[Path], out: Path) -> None:
    """Write `out` at once from its parts."""
    with aside(out) as part:
        form = out.suffix.lower()
        if form == ".jsonl":
            with part.open("wb") as file:
                for path in parts:
                    file.write(path.read_bytes())
        elif form == ".csv":
            _csv(parts, part)
        else:
            _parquet(parts, part)


def _rows(parts: list[Path]) -> Iterator[Row]:
    for path in parts:
        with path.open("rb") as file:
            yield from map(json.loads, file)


class _WideInt:
    """The type of an integer that a float does not hold, and 64 bits do."""


def _kind(value: Any) -> type:
    """A value's type; an integer of over 64 bits is text in a table."""
    if type(value) is not int or abs(value) <= EXACT:
        return type(value)
    return _WideInt if -(2**63) <= value < 2**63 else str


def _columns(parts: list[Path]) -> dict[str, set[type]]:
    """Every column in the order of its first row, with the types of its values."""
    columns: dict[str, set[type]] = {}
    for row in _rows(parts):
        for name, value in row.items():
            kinds = columns.setdefault(name, set())
            if value is not None:
                kinds.add(_kind(value))
    return columns


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _csv(parts: list[Path], to: Path) -> None:
    with to.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(_columns(parts)), restval="")
        writer.writeheader()
        for row in _rows(parts):
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _parquet(parts: list[Path], to: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, _type(kinds)) for name, kinds in _columns(parts).items()])
    with pq.ParquetWriter(to, schema) as writer:
        held: list[Row] = []
        for row in _rows(parts):
            held.append({field.name: _fit(row.get(field.name), field.type) for field in schema})
            if len(held) == ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(held, schema))
                held = []
        writer.write_table(pa.Table.from_pylist(held, schema))


def _type(kinds: set[type]) -> Any:
    """The Arrow type of a column: text wherever its values are of several kinds."""
    import pyarrow as pa

    if kinds == {bool}:
        return pa.bool_()
    if kinds and kinds <= {int, _WideInt}:
        return pa.int64()
    if kinds and kinds <= {int, float}:
        return pa.float64()
    return pa.string()


def _fit(value: Any, kind: Any) -> Any:
    import pyarrow as pa

    if value is None or kind != pa.string() or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
