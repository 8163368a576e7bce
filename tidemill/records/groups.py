"""Tables in parquet as row groups, which are read some rows at a time.

A row group may so be larger than the memory is meant to be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from tidemill.records import blobs

AT_ONCE = 2_000  # rows
WITH_BLOBS = 64  # rows, where pictures or sounds are read too
BLOBS = ("payload", "inputs")  # the columns that blobs are filled in


@dataclass(frozen=True)
class RowGroup:
    """Some rows of a table: the `number`-th row group of `path`, from row `start` on."""

    path: Path
    number: int
    start: int
    rows: int

    def frames(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """These columns, some rows at a time; with payloads and `inputs` as a client asks."""
        is_filled = bool({*BLOBS} & {*columns})
        read = [*dict.fromkeys([*columns, "blob", "source"])] if is_filled else list(columns)
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(AT_ONCE, [self.number], read, use_threads=False):
                frame = batch.to_pandas()
                has_blobs = is_filled and frame["blob"].notna().any()
                step = WITH_BLOBS if has_blobs else AT_ONCE
                for at in range(0, len(frame), step):
                    some = frame.iloc[at : at + step].reset_index(drop=True)
                    filled = blobs.filled(some, self.path.parent) if has_blobs else some
                    yield filled[list(columns)]


@dataclass(frozen=True)
class Grouped:
    """A table as a whole."""

    path: Path
    groups: tuple[RowGroup, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, path: Path) -> "Grouped":
        """The table at a path, of which row groups without rows are left out."""
        with pq.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            sizes = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
        groups = (
            RowGroup(path, number, sum(sizes[:number]), rows)
            for number, rows in enumerate(sizes)
            if rows
        )
        return cls(path, tuple(groups), names)

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)

    @property
    def sizes(self) -> list[int]:
        return [group.rows for group in self.groups]

    @property
    def bytes(self) -> int:
        """What its rows take in memory, about."""
        with pq.ParquetFile(self.path) as file:
            groups = (file.metadata.row_group(group.number) for group in self.groups)
            return sum(group.total_byte_size for group in groups)


def documents(recipe: str) -> Grouped:
    """The documents that were selected for a recipe. Raises Refused."""
    return Grouped.of(blobs.documents_path(recipe))
