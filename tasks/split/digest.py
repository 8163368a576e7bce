"""What a snapshot is called: the digest of its rows, whatever parts and files they lie in.

Rows lie in 4,096 logical buckets by their id. Each bucket has a digest of its own, which is kept,
so two snapshots differ in the buckets that differ.
"""

import hashlib
import json
import zlib
from collections import Counter

import pandas as pd
import pyarrow as pa

from tidemill.records.tables import BUCKETS, WEIGHT
from tidemill.runtime.errors import Fault

COUNT = 4096
COLUMNS = ("example_id", "split", "inputs", "target", "slices")


def bucket(example_id: str) -> int:
    """The bucket of an example: 12 bits of a checksum of its id."""
    return zlib.crc32(example_id.encode()) % COUNT


class Buckets:
    """The digests of the buckets of rows that come in the order of their ids.

    A payload counts by its sha256, a weight where there are any. Times and positions do not count.
    """

    def __init__(self) -> None:
        self.digests: dict[int, hashlib._Hash] = {}
        self.counts: Counter[int] = Counter()
        self.last = ""
        self.lines: list[bytes] = []  # of the rows with the last id

    def add(self, rows: pd.DataFrame) -> None:
        """Further rows, with a column `split`. Raises Fault where they are not in order."""
        weight = [WEIGHT.name] if WEIGHT.name in rows else []
        payloads = rows["payload"] if "payload" in rows else [None] * len(rows)
        table = rows[[*COLUMNS, *weight]].itertuples(index=False, name=None)
        for row, payload in zip(table, payloads, strict=True):
            values = list(row) if payload is None else [*row, hashlib.sha256(payload).hexdigest()]
            line = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
            if row[0] != self.last:
                self._flush(row[0])
            self.lines.append(line)

    def _flush(self, following: str) -> None:
        """Take in the rows of the last id, whose lines are sorted; ids themselves are in order."""
        if following < self.last:
            raise Fault(
                f"examples are not in the order of their ids: {following} is after "
                f"{self.last}; run label again"
            )
        number = bucket(self.last)
        for line in sorted(self.lines):
            if number in self.digests:
                self.digests[number].update(b"\n")
            self.digests.setdefault(number, hashlib.sha256()).update(line)
        self.counts[number] += len(self.lines)
        self.last, self.lines = following, []

    def table(self) -> pa.Table:
        """A row for each bucket that has any: its number, its rows, and their digest."""
        self._flush(self.last)
        numbers = sorted(self.digests)
        digests = [self.digests[number].hexdigest() for number in numbers]
        counts = [self.counts[number] for number in numbers]
        return pa.table([numbers, counts, digests], schema=BUCKETS)


def snapshot(table: pa.Table) -> str:
    """The digest of a snapshot, of its buckets' digests."""
    pairs = zip(table["bucket"].to_pylist(), table["digest"].to_pylist(), strict=True)
    return hashlib.sha256(json.dumps(list(pairs)).encode()).hexdigest()
