"""The examples of a recipe where they lie: row groups of data/labels/RECIPE/examples.parquet.

They are read some rows at a time, so a row group may be larger than the memory is meant to be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from tidemill.records import blobs
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused

AT_ONCE = 2_000  # rows


@dataclass(frozen=True)
class RowGroup:
    """Some rows of the table: the `number`-th row group of `path`, from row `start` on."""

    path: Path
    number: int
    start: int
    rows: int

    def frames(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """These columns, some rows at a time; with payloads and `inputs` as a client asks."""
        file = pq.ParquetFile(self.path, memory_map=True)
        try:
            asks = {"payload", "inputs"} & set(columns)
            read = [*dict.fromkeys([*columns, "blob", "source"])] if asks else list(columns)
            groups = file.iter_batches(AT_ONCE, [self.number], read, use_threads=False)
            for batch in groups:
                frame = batch.to_pandas()
                yield (blobs.filled(frame, self.path.parent) if asks else frame)[list(columns)]
        finally:
            file.close()


@dataclass(frozen=True)
class Examples:
    """The table as a whole."""

    path: Path
    groups: tuple[RowGroup, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, recipe: str) -> "Examples":
        """A recipe's examples. Raises Refused where there are none, or of an earlier form."""
        path = paths.data("labels", recipe) / "examples.parquet"
        missing = Refused(
            f"data/labels/{recipe} has no examples; run python -m tasks.label {recipe}"
        )
        if not path.is_file():
            raise missing
        with pq.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            sizes = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
        if not sum(sizes):
            raise missing
        if "blob" not in names:
            raise blobs.earlier(f"data/labels/{recipe}", f"label@{recipe}")
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
