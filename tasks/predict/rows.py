"""Rows of a file of questions: a table (CSV, TSV, parquet), JSON lines, or a folder of files."""

import base64
import csv
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tidemill.runtime.encodable import encodable, parsed
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import sha256

FORMS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
FILE = "file"  # the column that says which file of a folder a row is
READ_ROWS = 1024  # of a parquet file at a time

Row = dict[str, Any]


@dataclass(frozen=True)
class Questions:
    """Where rows come from, and which columns fill which fields of the application's input."""

    path: Path
    kind: type[BaseModel]
    columns: dict[str, str]  # a field of the input to its column, where they differ
    # A field that takes several columns by their names, and which these are.
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def rows(self, first: int = 0) -> Iterator[Row]:
        """The rows from `first` on, each as its columns. Raises Refused."""
        return islice(self._all(), first, None)

    def fingerprint(self) -> str:
        """What tells these rows from others: the bytes of a file, or a folder's names and dates."""
        if self.path.is_file():
            return sha256(self.path)
        listed = [
            (path.relative_to(self.path).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
            for path in self._files()
        ]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    def asked(self, row: Row) -> Row:
        """The fields of the input that a row fills."""
        asked: Row = {}
        for name in self.kind.model_fields:
            column = self.columns.get(name, name)
            if name in self.tables and column not in row:
                asked[name] = {one: row[one] for one in self.tables[name] if one in row}
            elif column in row:
                asked[name] = row[column]
        return asked

    def check(self, row: Row) -> None:
        """Refuse a file whose first row lacks a field that the input must have. Raises Refused."""
        for name, info in self.kind.model_fields.items():
            column = self.columns.get(name, name)
            if name in self.tables and column not in row:
                self._check_table(name, row)
            elif info.is_required() and column not in row:
                there = ", ".join(row)[:200]
                raise Refused(
                    f"{self.path}: no column '{column}' for the input's {name}; it has {there}; "
                    f"name one with --column {name}=COLUMN"
                )
        for name in self.columns:
            if name not in self.kind.model_fields:
                fields = ", ".join(self.kind.model_fields)
                raise Refused(f"--column {name}: the input has no such field; it has {fields}")

    def _check_table(self, table: str, row: Row) -> None:
        missing = [name for name in self.tables[table] if name not in row]
        if missing:
            there = ", ".join(row)[:200]
            raise Refused(
                f"{self.path}: no column '{missing[0]}', which the model is asked; it has {there}"
            )

    def _all(self) -> Iterator[Row]:
        if self.path.is_dir():
            return self._of_folder()
        read = {
            ".csv": self._table,
            ".tsv": self._table,
            ".jsonl": self._lines,
            ".ndjson": self._lines,
            ".parquet": self._parquet,
        }.get(self.path.suffix.lower())
        if read is None:
            raise Refused(f"{self.path}: read are a folder and files {', '.join(FORMS)}")
        if not self.path.is_file():
            raise Refused(f"{self.path}: no such file or folder")
        return read()

    def _table(self) -> Iterator[Row]:
        csv.field_size_limit(64 * 2**20)
        delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                table = csv.DictReader(file, delimiter=delimiter, restval="")
                self._check_head(table.fieldnames or [])
                for row in table:
                    row.pop(None, None)  # cells beyond the head
                    yield row
        except (UnicodeDecodeError, csv.Error) as error:
            raise Refused(f"{self.path}: no table in UTF-8 ({error}); save it as UTF-8") from error

    def _check_head(self, names: Sequence[str]) -> None:
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise Refused(f"{self.path}: two columns are called '{twice[0]}'; rename one of them")

    def _lines(self) -> Iterator[Row]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    line.decode("utf-8")
                    row = parsed(line)
                except (ValueError, RecursionError) as error:
                    raise Refused(f"{self.path} line {number}: no JSON ({error})") from error
                if not isinstance(row, dict):
                    raise Refused(f"{self.path} line {number}: a JSON object is wanted")
                yield row

    def _parquet(self) -> Iterator[Row]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=READ_ROWS):
                    yield from batch.to_pylist()
        except pa.ArrowInvalid as error:
            raise Refused(f"{self.path}: no parquet file ({error})") from error

    def _files(self) -> list[Path]:
        return sorted(path for path in self.path.rglob("*") if path.is_file())

    def _of_folder(self) -> Iterator[Row]:
        """A row a file: its name, and its content as the input's first field wants it."""
        field, info = next(iter(self.kind.model_fields.items()))
        extra = info.json_schema_extra
        binary = isinstance(extra, dict) and extra.get("contentEncoding") == "base64"
        for path in self._files():
            body = path.read_bytes()
            content = base64.b64encode(body).decode() if binary else body.decode("utf-8", "replace")
            yield {FILE: encodable(path.relative_to(self.path).as_posix()), field: content}


def batched(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Rows in lists of `size`, the last one shorter."""
    left = iter(rows)
    while batch := list(islice(left, size)):
        yield batch


def lines(rows: list[Row]) -> bytes:
    """Rows as JSON lines; NaN and infinity, which JSON lacks, as null."""
    out = io.StringIO()
    for row in rows:
        out.write(json.dumps(_finite(row), ensure_ascii=False, default=str) + "\n")
    return out.getvalue().encode("utf-8", "backslashreplace")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
