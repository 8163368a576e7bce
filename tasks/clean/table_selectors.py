"""Selectors of tables whose rows are no texts: each row is a document, its columns a payload.

The payload is the row as JSON. A row is known by its key column, else by its content, so that one
that is put in above it changes nothing.
"""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from tasks.clean import binary_selectors, pickled
from tasks.clean.part import Part, Unreadable
from tidemill.engines.config.schema import Rule

Cell = float | int | bool | str | None
MEDIA = "application/json"
PARQUET = b"PAR1"
MOST_COLUMNS = 2_000


def rows(rule: Rule, uri: str, body: bytes) -> Iterator[Part]:
    """The rows of a CSV or of a parquet file. Raises Unreadable."""
    body = binary_selectors.unpacked(body)
    return _parts(rule, *(_parquet(body) if body[:4] == PARQUET else _csv(rule, body)))


def frame(rule: Rule, uri: str, body: bytes) -> Iterator[Part]:
    """The rows of a pandas frame that was pickled, perhaps as xz. Raises Unreadable."""
    return _parts(rule, *pickled.table(body))


def _parts(rule: Rule, head: Sequence[str], table: Iterable[Sequence[Any]]) -> Iterator[Part]:
    twice = [name for name, times in Counter(head).items() if times > 1]
    if twice:
        raise Unreadable(f"column {twice[0]} stands there twice")
    if len(head) > MOST_COLUMNS:
        raise Unreadable(f"more than {MOST_COLUMNS:,} columns")
    missing = [name for name in (*rule.columns, rule.group, *rule.key) if name and name not in head]
    if missing:
        raise Unreadable(f"no column {', '.join(missing)}; it has {', '.join(head)[:80]}")
    kept = sorted(rule.columns or head)
    key = [rule.group] if rule.group else list(rule.key)
    read = {*kept, *key}
    for number, values in enumerate(table, 1):
        if number > binary_selectors.MOST_ROWS:
            raise Unreadable(f"more than {binary_selectors.MOST_ROWS:,} rows")
        cells = zip(head, values, strict=True)
        row = {name: _cell(name, value) for name, value in cells if name in read}
        payload = _json({name: row[name] for name in kept})
        part = Part(rule.name, "", "", payload=payload, media=MEDIA, place=f"row-{number}")
        part.key = tuple("" if row[name] is None else str(row[name]) for name in key)
        part.known_by = "key" if key else "content"
        yield part


def _json(row: dict[str, Cell]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Unreadable("a text in it is no Unicode: half a surrogate") from error


def _cell(name: str, value: Any) -> Cell:
    """A value as JSON has it; None where it is NaN or the like. Raises Unreadable."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        if abs(value) >= 2**64:
            raise Unreadable(f"a whole number of column {name} has more than 64 bits")
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() else None
    if isinstance(value, date | time):
        return value.isoformat() if value == value else None  # NaT is a date of pandas
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, bytes):
        return _text(name, value)
    raise Unreadable(
        f"a cell of column {name} is a {type(value).__name__}; name the other columns in `columns`"
    )


def _text(name: str, value: bytes) -> str:
    """Text of a parquet file that does not declare it, as some programs write it."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"a cell of column {name} is bytes that are no UTF-8") from error


def _csv(rule: Rule, body: bytes) -> tuple[list[str], Iterator[list[str]]]:
    """The head and the rows.

    Where the rule names the columns (`head`), a first line of another width is no row.
    """
    csv.field_size_limit(binary_selectors.MOST_CELL)
    try:
        text = io.StringIO(body.decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise Unreadable("not a CSV table in UTF-8") from error
    lines = _lines(csv.reader(text, delimiter=rule.delimiter, strict=True))
    first = next(lines, (1, []))
    if not rule.head:
        return first[1], _of_width(lines, len(first[1]))
    before = [first] if len(first[1]) == len(rule.head) else []
    return list(rule.head), _of_width([*before, *lines], len(rule.head))


def _lines(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not empty, each with its number. Raises Unreadable."""
    try:
        for number, values in enumerate(reader, 1):
            if values:
                yield number, values
    except csv.Error as error:
        raise Unreadable(f"not a CSV table: {error}") from error


def _of_width(lines: Iterable[tuple[int, list[str]]], width: int) -> Iterator[list[str]]:
    for number, values in lines:
        if len(values) != width:
            raise Unreadable(f"line {number} has {len(values)} values, the head has {width}")
        yield values


def _parquet(body: bytes) -> tuple[list[str], Iterator[list[Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    damage = (pa.ArrowException, OSError, ValueError, OverflowError)  # dates beyond 9999 too
    try:
        file = pq.ParquetFile(io.BytesIO(body))
    except damage as error:
        raise Unreadable("not a parquet file") from error

    def values() -> Iterator[list[Any]]:
        try:
            for batch in file.iter_batches():
                yield from map(list, zip(*(one.to_pylist() for one in batch.columns), strict=True))
        except damage as error:
            raise Unreadable(f"not a whole parquet file ({type(error).__name__})") from error

    return file.schema_arrow.names, values()
