"""The documents of a recipe's sources where they lie: in memory is where each one is, and row groups one at a time."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import places
from tasks.errors import Fault, Refused
from tasks.files import aside
from tasks.schema import Use

GROUP_ROWS, GROUP_BYTES = 50_000, 32 * 2**20    # of a row group that is written: whichever is less


class Rows:
    """A row is known by its place: sources as the recipe names them, in each as clean left it."""

    def __init__(self, uses: Sequence[Use]) -> None:
        self.uses = uses
        self.files = [_opened(use.name) for use in uses]
        self.parts = [(number, group) for number, file in enumerate(self.files) for group in range(file.num_row_groups)]
        sizes = [self.files[number].metadata.row_group(group).num_rows for number, group in self.parts]
        self.edges = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
        self.count = int(self.edges[-1])
        self.source = np.repeat([number for number, _ in self.parts], sizes).astype(np.int32)
        self.bytes = np.zeros(self.count, dtype=np.int64)    # of each row's text and payload; filled by `scan`

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[int, Use, pa.Table]]:
        """Every row group: its first row's place, its source, and these columns and uri, text and payload."""
        for part, (number, _) in enumerate(self.parts):
            table = self._read(part, [*dict.fromkeys(["uri", "text", "payload", *columns])])
            sizes = pc.add(pc.binary_length(table["text"]), pc.coalesce(pc.binary_length(table["payload"]), 0))
            self.bytes[self.edges[part] : self.edges[part + 1]] = sizes.to_numpy()
            yield int(self.edges[part]), self.uses[number], table

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
        said: list[str] = self.take(rows, ["text"])["text"].to_pylist()
        return said

    def write(self, path: Path, rows: np.ndarray, schema: pa.Schema, made: Callable[[np.ndarray, pa.Table], pa.Table] = lambda rows, table: table) -> None:
        """Write rows as they are, or what is made of them; equal rows give equal bytes."""
        columns = [name for name in schema.names if name in self.files[0].schema_arrow.names]
        with aside(path) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
            for some in self._groups(rows):
                writer.write_table(made(some, self.take(some, columns)).select(schema.names).cast(schema), row_group_size=GROUP_ROWS)

    def _groups(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        start, total = 0, np.concatenate(([0], np.cumsum(self.bytes[rows])))
        while start < len(rows):
            stop = min(start + GROUP_ROWS, int(np.searchsorted(total, total[start] + GROUP_BYTES, side="right")) - 1, len(rows))
            yield rows[start : max(stop, start + 1)]
            start = max(stop, start + 1)

    def _read(self, part: int, columns: Sequence[str]) -> pa.Table:
        number, group = self.parts[part]
        try:
            return self.files[number].read_row_group(group, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.uses[number].name, error) from error

    def close(self) -> None:
        for file in self.files:
            file.close()


def _opened(source: str) -> pq.ParquetFile:
    path = places.data("clean", source) / "documents.parquet"
    if not path.is_file():
        raise Refused(f"data/clean/{source} has no documents; run python -m tasks.clean {source}")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(source, error) from error


def _damaged(source: str, error: Exception) -> Fault:
    return Fault(f"data/clean/{source}/documents.parquet is damaged ({' '.join(str(error).split())[:120]}); remove it and run python -m tasks.clean {source}")
