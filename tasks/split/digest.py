"""What a snapshot is called: the digest of its rows, whatever parts and files they lie in.

Rows lie in 4,096 logical buckets by their id. Each bucket has a digest of its own, which is kept,
so two snapshots differ in the buckets that differ.
"""

import hashlib
import json
import zlib
from collections import defaultdict

import pandas as pd
import pyarrow as pa

from tidemill.records.tables import BUCKETS, WEIGHT

COUNT = 4096
COLUMNS = ("example_id", "split", "inputs", "target", "slices")


def bucket(example_id: str) -> int:
    """The bucket of an example: 12 bits of a checksum of its id."""
    return zlib.crc32(example_id.encode()) % COUNT


def buckets(rows: pd.DataFrame) -> pa.Table:
    """A row for each bucket that has any: its number, its rows, and their digest.

    The rows are those of all splits, with a column `split`; a payload counts by its sha256, a
    weight where there are any. Times, positions and the order of the rows do not count.
    """
    lines: dict[int, list[bytes]] = defaultdict(list)
    weight = [WEIGHT.name] if WEIGHT.name in rows else []
    payloads = rows["payload"] if "payload" in rows else [None] * len(rows)
    table = rows[[*COLUMNS, *weight]].itertuples(index=False, name=None)
    for row, payload in zip(table, payloads, strict=True):
        values = list(row) if payload is None else [*row, hashlib.sha256(payload).hexdigest()]
        line = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
        lines[bucket(row[0])].append(line)
    numbers = sorted(lines)
    digests = [hashlib.sha256(b"\n".join(sorted(lines[number]))).hexdigest() for number in numbers]
    counts = [len(lines[number]) for number in numbers]
    return pa.table([numbers, counts, digests], schema=BUCKETS)


def snapshot(table: pa.Table) -> str:
    """The digest of a snapshot, of its buckets' digests."""
    pairs = zip(table["bucket"].to_pylist(), table["digest"].to_pylist(), strict=True)
    return hashlib.sha256(json.dumps(list(pairs)).encode()).hexdigest()
