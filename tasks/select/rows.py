"""The documents of a recipe's sources where they lie.

In memory is where each one is, and row groups one at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemill.engines.config.schema import SourceUse
from tidemill.records.tables import CLEANED, DOCUMENTS
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import aside
from tidemill.text import normal

# Of a row group that is written: what comes first. What is in memory for it is some three times as
# large.
GROUP_ROWS, GROUP_BYTES = 50_000, 8 * 2**20
PAYLOADS = ("payload", "blob")  # columns of which a document that is no text has one


class Rows:
    """A row is known by its place: sources as the recipe names them, in each as clean left it."""

    def __init__(self, uses: Sequence[SourceUse]) -> None:
        self.uses = uses
        self.files = [_opened(use.name) for use in uses]
        self.parts = [
            (number, group)
            for number, file in enumerate(self.files)
            for group in range(file.num_row_groups)
        ]
        sizes = [
            self.files[number].metadata.row_group(group).num_rows for number, group in self.parts
        ]
        self.edges = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
        self.count = int(self.edges[-1])
        self.source = np.repeat([number for number, _ in self.parts], sizes).astype(np.int32)
        # Of each row, about: its share of its row group, and its text, which stands there once
        # where many rows have it.
        chars = [
            self._read(part, ["chars"])["chars"].fill_null(0).to_numpy()
            for part in range(len(self.parts))
        ]
        self.bytes = np.repeat(
            [_bytes(self.files[number].metadata.row_group(group)) for number, group in self.parts],
            sizes,
        )
        self.bytes = np.maximum(self.bytes, np.concatenate(chars) if chars else 0)

    def scan(self, columns: Iterable[str]) -> Iterator[tuple[int, SourceUse, pa.Table, np.ndarray]]:
        """Every row group: its first row's place, its source and these columns.

        Also which rows have a payload.
        """
        for part, (number, group) in enumerate(self.parts):
            yield (
                int(self.edges[part]),
                self.uses[number],
                self._read(part, list(dict.fromkeys(columns))),
                self._payloads(part, self.files[number].metadata.row_group(group)),
            )

    def _payloads(self, part: int, group: pq.RowGroupMetaData) -> np.ndarray:
        """Which rows have one; nothing is read where none has, or all do."""
        there = np.zeros(group.num_rows, dtype=bool)
        for name in PAYLOADS:
            counts = group.column(CLEANED.get_field_index(name)).statistics
            nulls = counts.null_count if counts is not None and counts.has_null_count else None
            if nulls not in (0, group.num_rows):
                there |= self._read(part, [name])[name].is_valid().to_numpy()
            elif nulls == 0:
                there[:] = True
        return there

    def take(self, rows: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """These rows in this order."""
        order = np.argsort(rows, kind="stable")
        inside = np.searchsorted(self.edges, rows[order], side="right") - 1
        found = []
        for part in np.unique(inside).tolist():
            table, mine = self._read(part, columns), rows[order][inside == part] - self.edges[part]
            found.append(table if len(mine) == table.num_rows else table.take(pa.array(mine)))
        whole = pa.concat_tables(found)
        if (np.diff(order) != 1).any():
            back = np.empty(len(rows), dtype=np.int64)
            back[order] = np.arange(len(rows))
            whole = whole.take(pa.array(back))
        return whole.combine_chunks()

    def texts(self, rows: np.ndarray) -> list[str]:
        """What is compared of these rows when copies are sought."""
        table = self.take(rows, ["text", *PAYLOADS, "digest"])
        is_text = pc.and_(*(table[name].is_null() for name in PAYLOADS)).to_pylist()
        return [
            text if plain else normal.hexadecimal_in_letters(digest)
            for text, digest, plain in zip(
                table["text"].to_pylist(), table["digest"].to_pylist(), is_text, strict=True
            )
        ]

    def write(
        self,
        path: Path,
        rows: np.ndarray,
        schema: pa.Schema,
        made: Callable[[np.ndarray, pa.Table], pa.Table] = lambda rows, table: table,
    ) -> None:
        """Write rows as they are, or what is made of them; equal rows give equal bytes."""
        columns = [name for name in schema.names if name in DOCUMENTS.names]
        with aside(path) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
            if not len(rows):
                writer.write_table(schema.empty_table())
            for some in self._groups(rows):
                writer.write_table(
                    made(some, self.take(some, columns)).select(schema.names).cast(schema),
                    row_group_size=GROUP_ROWS,
                )

    def _groups(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        start, total = 0, np.concatenate(([0], np.cumsum(self.bytes[rows])))
        while start < len(rows):
            stop = min(
                start + GROUP_ROWS,
                int(np.searchsorted(total, total[start] + GROUP_BYTES, side="right")) - 1,
                len(rows),
            )
            yield rows[start : max(stop, start + 1)]
            start = max(stop, start + 1)

    def _read(self, part: int, columns: Sequence[str]) -> pa.Table:
        number, group = self.parts[part]
        try:
            return self.files[number].read_row_group(
                group, columns=list(columns), use_threads=False
            )
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.uses[number].name, error) from error

    def close(self) -> None:
        for file in self.files:
            file.close()


def _opened(source: str) -> pq.ParquetFile:
    path = paths.data("clean", source) / "documents.parquet"
    if not path.is_file():
        raise Refused(f"data/clean/{source} has no documents; run python -m tasks.clean {source}")
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(source, error) from error
    if file.schema_arrow.names != CLEANED.names:
        raise _damaged(source, "its columns are others")
    return file


def _bytes(group: pq.RowGroupMetaData) -> int:
    """How large a row of a row group is, about.

    Unpacked, but what is the same in many rows counts once.
    """
    return int(
        sum(group.column(place).total_uncompressed_size for place in range(group.num_columns))
        / max(1, group.num_rows)
    )


def _damaged(source: str, error: Exception | str) -> Fault:
    return Fault(
        f"data/clean/{source}/documents.parquet is damaged ({' '.join(str(error).split())[:120]});"
        f" remove it and run python -m tasks.clean {source}"
    )
