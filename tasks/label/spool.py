"""Examples on their way from the order of documents to that of their ids, in files.

Each part of the documents leaves a file of its examples, in as many batches as there are ranges of
ids; then the examples of one range are read from all files at a time.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.records.tables import EXAMPLES, TEXT

ROW = pa.field("row", pa.int64())  # its number among the examples of its part
SPOOLED = EXAMPLES.append(pa.field("dropped", TEXT)).append(ROW)
RANGE_BYTES = 16 * 2**20  # of examples in memory at a time, about
MOST_RANGES = 4_096


def ranges(size: int) -> int:
    """How many ranges of ids examples of so many bytes are read in."""
    return max(1, min(MOST_RANGES, -(-size // RANGE_BYTES)))


def write(path: Path, examples: pd.DataFrame, count: int) -> None:
    """Leave the examples of a part, whose rows are numbered as they are given."""
    table = pa.Table.from_pandas(
        examples.assign(row=range(len(examples)))[SPOOLED.names], SPOOLED, preserve_index=False
    )
    table = table.take(pc.sort_indices(table["example_id"])).combine_chunks()
    heads = [_head(example) for example in table["example_id"].to_pylist()]
    edges = _edges(heads, count)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, SPOOLED) as writer:
        for start, stop in pairwise(edges):
            batches = table.slice(start, stop - start).combine_chunks().to_batches()
            writer.write_batch(batches[0] if batches else _none())


def _none() -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=SPOOLED)


def _head(example_id: str) -> float:
    """Where in [0, 1) an id of hexadecimal digits lies."""
    return int(example_id[:13], 16) / 16**13


def _edges(heads: Sequence[float], count: int) -> list[int]:
    """Where each of `count` ranges begins among sorted ids, and the end."""
    edges, at = [0], 0
    for number in range(1, count):
        while at < len(heads) and heads[at] < number / count:
            at += 1
        edges.append(at)
    return [*edges, len(heads)]


def read(paths: Sequence[Path], starts: Sequence[int], count: int) -> Iterator[pa.Table]:
    """The examples of each range of ids, in the order of their ids.

    Their `row` is their number among all: `starts` has that of the first of each file.
    """
    for number in range(count):
        tables = []
        for path, start in zip(paths, starts, strict=True):
            with pa.memory_map(str(path)) as file:
                table = pa.Table.from_batches([pa.ipc.open_file(file).get_batch(number)])
            if table.num_rows:
                row = pc.add(table["row"], start)
                tables.append(table.set_column(SPOOLED.get_field_index("row"), ROW, row))
        if tables:
            whole = pa.concat_tables(tables)
            yield whole.take(pc.sort_indices(whole["example_id"]))
