"""The tables of a split, each written in one go over the examples."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.split.digest import Buckets, snapshot
from tasks.split.rules import SPLITS
from tidemill.engines.config.schema import Score
from tidemill.records.groups import AT_ONCE, Grouped
from tidemill.records.tables import BUCKETS, EXAMPLES, LOST, WEIGHT, TableWriter, save


@dataclass(frozen=True)
class RowTable:
    """One of the tables: of which rows, and where it lies."""

    path: Path
    examples: Grouped
    places: np.ndarray  # (N,) int8: of each row of the examples its place in `names`, or -1
    names: tuple[str, ...]  # splits, or reasons
    slices: tuple[str, ...] = ()  # the names of the slices of these rows

    def kept(self) -> Iterator[tuple[pa.Table, np.ndarray]]:
        """The rows that are in it, as they lie in the examples, and their places in `names`."""
        file = pq.ParquetFile(self.examples.path)
        with file:
            for group in self.examples.groups:
                row = group.start
                for batch in file.iter_batches(AT_ONCE, [group.number], use_threads=False):
                    places = self.places[row : row + batch.num_rows]
                    row += batch.num_rows
                    if (places >= 0).any():
                        table = pa.Table.from_batches([batch])
                        yield table.filter(pa.array(places >= 0)), places[places >= 0]


def rows(table: RowTable) -> None:
    """The rows of a split, with a column for each slice beside the JSON."""
    schema = EXAMPLES.append(WEIGHT) if WEIGHT.name in table.examples.names else EXAMPLES
    own = schema.names
    for name in table.slices:
        schema = schema.append(pa.field(f"slice_{name}", pa.string()))
    with TableWriter(table.path, schema) as writer:
        for some, _ in table.kept():
            some = some.select(own)
            told = [json.loads(item) for item in some["slices"].to_pylist()]
            for name in table.slices:
                values = [None if item.get(name) is None else str(item[name]) for item in told]
                some = some.append_column(f"slice_{name}", pa.array(values, pa.string()))
            writer.add(some)


def lost(table: RowTable) -> None:
    """The rows that are in no split, with why."""
    with TableWriter(table.path, LOST) as writer:
        for some, places in table.kept():
            reasons = [table.names[place] for place in places]
            writer.add(some.append_column("reason", pa.array(reasons, pa.string())))


def buckets(table: RowTable) -> str:
    """The digests of the rows of all splits by bucket; gives the snapshot's."""
    digests = Buckets()
    for group in table.examples.groups:
        row = group.start
        for frame in group.frames([*_digested(table.examples.names)]):
            places = table.places[row : row + len(frame)]
            row += len(frame)
            where = pd.Series([table.names[place] for place in places], index=frame.index)
            digests.add(frame.assign(split=where)[places >= 0])
    whole = digests.table()
    save(table.path, whole, BUCKETS)
    return snapshot(whole)


def _digested(names: Sequence[str]) -> list[str]:
    weight = [WEIGHT.name] if WEIGHT.name in names else []
    return ["example_id", "inputs", "target", "slices", "payload", *weight]


def small(path: Path, score: Score) -> dict[str, list[str]]:
    """The slices of the test rows that are too few to be judged by themselves, by column."""
    columns = [name for name in score.slices if f"slice_{name}" in pq.read_schema(path).names]
    few = {}
    for column in columns:
        units: dict[str, set[str]] = defaultdict(set)
        counts: dict[str, int] = defaultdict(int)
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(AT_ONCE, columns=[f"slice_{column}", "unit"]):
                for name, unit in zip(*(each.to_pylist() for each in batch.columns), strict=True):
                    counts[str(name)] += 1
                    if len(units[str(name)]) < score.min_units:
                        units[str(name)].add(unit)
        names = [
            name
            for name, count in counts.items()
            if count < score.min_rows or len(units[name]) < score.min_units
        ]
        if names:
            few[column] = sorted(names)
    return few


@dataclass(frozen=True)
class Writing:
    """A table and what writes it; the snapshot's digest comes of one of them."""

    write: Callable[[RowTable], str | None]
    table: RowTable


def written(writing: Writing) -> str | None:
    """Write it: processes take work from modules that are none's `__main__`."""
    return writing.write(writing.table)


def in_split(where: np.ndarray, part: str) -> np.ndarray:
    """Places for the rows of one split."""
    return np.where(where == SPLITS.index(part), 0, -1).astype(np.int8)
