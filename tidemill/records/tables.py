"""Documents: the rows of data/clean/SOURCE/documents.parquet, and how tables are written.

What changes with every fetch lies beside them in lineage.parquet, on which select, label and split
do not depend.
"""

import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.runtime.files import aside

TEXT = pa.string()
DOCUMENTS = pa.schema(
    [
        ("doc_id", TEXT),  # hash of its address, its key or its content: tasks/clean/identity.py
        ("uri", TEXT),
        ("source", TEXT),
        ("host", TEXT),
        ("kind", TEXT),  # the selector rule that cut it
        ("part", TEXT),  # its place within the page
        ("media", TEXT),
        ("language", TEXT),  # what the source says
        ("script", TEXT),  # what the source says, else what the letters are (ISO 15924)
        ("original", TEXT),  # what it is a translation of, where it is one
        ("text", TEXT),
        ("payload", pa.binary()),  # a table's row as JSON; null for all else
        ("blob", TEXT),  # sha256 of a picture, a sound or a series, which lies in data/blobs/SOURCE
        ("attributes", TEXT),  # JSON
        ("licence", TEXT),
        ("opt_out", TEXT),
        ("letters", pa.int32()),
        ("chars", pa.int32()),
        ("words", pa.int32()),
        ("letter_script", TEXT),
        ("language_found", TEXT),
        ("language_score", pa.float32()),  # by lid.176, whatever the source says
        ("languages", TEXT),  # JSON: shares of a page whose paragraphs are in several; else ""
        ("quality", TEXT),  # JSON: tasks/clean/quality.py; "" for a text too short to have any
        ("pii", TEXT),  # JSON: how many of each kind were marked; "" where none
    ]
)
CLEANED = DOCUMENTS.append(
    pa.field("digest", TEXT)
)  # of what is sought for copies: only select asks for it, so it goes no further
LINEAGE = pa.schema(
    [
        ("doc_id", TEXT),
        ("uri", TEXT),
        ("fetched", TEXT),
        ("raw_file", TEXT),
        ("raw_locator", TEXT),
        ("raw_digest", TEXT),
        ("place", TEXT),  # its address by where it stands in its record, as row-3
        ("content_id", TEXT),  # its id if it were known by its content; "" where it has an address
    ]
)
DROPPED = pa.schema([("doc_id", TEXT), ("uri", TEXT), ("reason", TEXT), ("text", TEXT)])
EXAMPLES = pa.schema(
    [
        ("example_id", TEXT),
        ("doc_id", TEXT),
        ("inputs", TEXT),
        ("target", TEXT),
        ("confidence", pa.float64()),
        ("votes", TEXT),
        ("unit", TEXT),
        ("slices", TEXT),
        ("source", TEXT),
        ("part", TEXT),
        ("original", TEXT),
        ("payload", pa.binary()),  # what `inputs` is about where that is no text, and no blob
        ("blob", TEXT),  # its sha256 where it lies in a pack: tidemill/records/blobs.py
    ]
)
WEIGHT = pa.field(
    "weight", pa.float64()
)  # how much an example counts in training; only where label.issues is weight
ISSUES = pa.schema(
    [("example_id", TEXT), ("given", TEXT), ("suggested", TEXT), ("quality", pa.float64())]
)
BUCKETS = pa.schema([("bucket", pa.int32()), ("rows", pa.int64()), ("digest", TEXT)])
LOST = pa.schema([("example_id", TEXT), ("doc_id", TEXT), ("reason", TEXT)])


def without_pandas() -> None:
    """For steps that have no use for pandas.

    pyarrow imports it when it first makes an array, which takes a fifth of a second of processor
    time.

    It asks once; what needs pandas later (`to_pandas`) still gets it.
    """
    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, _NoPandas)
        try:
            pa.array([0])
        finally:
            sys.meta_path.remove(_NoPandas)


class _NoPandas:
    """A finder of modules to which there is no pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def save(path: Path, table: pa.Table, schema: pa.Schema) -> None:
    """Write a table; equal rows give equal bytes."""
    with aside(path) as part:
        pq.write_table(table.cast(schema), part, compression="zstd", row_group_size=50_000)


GROUP_ROWS, GROUP_BYTES = 50_000, 32 * 2**20  # of a row group that is written: what comes first
LABEL_BYTES = 8 * 2**20  # of examples: a row group is what one process of split works on


class TableWriter:
    """A table that is written some rows at a time; equal rows in equal parts give equal bytes.

    In memory are the rows of one row group. The file is there when the block ends well.
    """

    def __init__(self, path: Path, schema: pa.Schema, group_bytes: int = GROUP_BYTES) -> None:
        self.path, self.schema, self.group_bytes = path, schema, group_bytes
        self.waiting: list[pa.Table] = []
        self.rows = self.bytes = 0
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        part = self.stack.enter_context(aside(self.path))
        writer = pq.ParquetWriter(part, self.schema, compression="zstd")
        self.writer = self.stack.enter_context(writer)
        self.is_empty = True
        return self

    def add(self, table: pa.Table) -> None:
        table = table.select(self.schema.names).cast(self.schema)
        while table.num_rows:
            some = table.slice(0, GROUP_ROWS - self.rows)
            table = table.slice(some.num_rows)
            self.waiting.append(some)
            self.rows += some.num_rows
            self.bytes += some.nbytes
            if self.rows >= GROUP_ROWS or self.bytes >= self.group_bytes:
                self._write()

    def _write(self) -> None:
        whole = pa.concat_tables(self.waiting).combine_chunks()
        self.writer.write_table(whole, row_group_size=GROUP_ROWS)
        self.waiting, self.rows, self.bytes, self.is_empty = [], 0, 0, False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self.waiting:
            self._write()
        if kind is None and self.is_empty:
            self.writer.write_table(self.schema.empty_table())
        self.stack.__exit__(kind, error, trace)
