"""The tokens of a split's part in files: written once, mapped into memory.

They lie under .tidemill/tokens, named by the part's bytes and the tokenizer's, so a second
training, a trial of a sweep or another process of the same training writes none.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow.parquet as pq

from recipes.text_generation.conversations import ConversationReader, Reading, Row, row
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import digest, locked, sha256, sync_folder

DONE = "tokens.json"  # written last: with it the files are whole
ROWS = 1000  # that are in memory at a time
MAPPED = 32 << 20  # bytes that may have been read before what is mapped of a file is let go
PAGES = 1 << 16  # bytes that the kernel maps around one that is read


class MappedArray:
    """One column of a file, (n,), mapped into memory; a pickle of it is its path.

    What was read is let go now and then, so that a process does not grow to the size of the file.
    The kernel still has it as long as nobody needs the memory.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, np.dtype(kind)
        self._read = 0

    def __reduce__(self) -> tuple[type[MappedArray], tuple[Path, str]]:
        return MappedArray, (self.path, self.kind.str)

    @cached_property
    def _map(self) -> mmap.mmap | None:
        """The file, even once it is removed; None: it has no bytes, and cannot be mapped."""
        with self.path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return None
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._map or b"") // self.kind.itemsize

    def __getitem__(self, places: slice | np.ndarray) -> np.ndarray:
        """A copy of the values at these places."""
        if self._map is None:
            return np.empty(0, self.kind)[places].copy()
        values = np.frombuffer(self._map, self.kind)[places].copy()
        self._read += self._touched(places, values.nbytes)
        if self._read > MAPPED:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._read = 0
        return values

    def _touched(self, places: slice | np.ndarray, size: int) -> int:
        """At most how many bytes the kernel maps for these."""
        if isinstance(places, slice):
            return size + PAGES
        pages = places.ravel() // (PAGES // self.kind.itemsize)
        return PAGES * (1 + int(np.count_nonzero(np.diff(pages))))


Values = MappedArray | np.ndarray


@dataclass(frozen=True)
class Corpus:
    """N rows as T tokens, one row after the other."""

    ids: Values  # (T,)
    starts: Values  # (N + 1,): where each row's tokens begin
    asked: Values | None  # (T,) of 0 and 1: what is learned; None: all but each row's first
    groups: Values  # (N,): which of `sources` each row is of
    hashes: Values  # (N,) uint64 of what each row says
    sources: tuple[str, ...] = ("",)
    targets: int = 0  # tokens that are learned
    chars: int = 0  # characters of what is learned

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, readings: Sequence[Reading], chars: int = 0) -> Corpus:
        """Of rows that are in memory."""
        sizes = [len(one.ids) for one in readings]
        asked = np.concatenate([one.asked for one in readings]).astype(np.uint8)
        return cls(
            ids=np.concatenate([one.ids for one in readings]),
            starts=np.concatenate([[0], np.cumsum(sizes)]),
            asked=asked,
            groups=np.zeros(len(readings), np.uint16),
            hashes=np.arange(len(readings), dtype=np.uint64),
            targets=sum(int(one.asked[1:].sum()) for one in readings),
            chars=chars,
        )

    def sizes(self) -> np.ndarray:
        """How many tokens each row asks for, its first left out (N,)."""
        return np.diff(self.starts[:]) - 1

    def reading(self, number: int) -> Reading:
        """One row's tokens."""
        begin, end = self.starts[number : number + 2]
        ids = self.ids[begin:end].astype(np.int64)
        if self.asked is None:
            return Reading(ids, np.arange(len(ids)) > 0)
        return Reading(ids, self.asked[begin:end].astype(bool))


@dataclass(frozen=True)
class SplitPart:
    """A part of a split: its table, and how many of its rows are taken (0: all)."""

    path: Path
    rows: int = 0

    def tables(self) -> Iterator[Mapping[str, list[str]]]:
        """Its columns, ROWS rows at a time."""
        # A group of rows may be larger than the memory: it is read by pages.
        file = pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False)
        columns = [
            name for name in ("inputs", "target", "slices") if name in file.schema_arrow.names
        ]
        left = self.rows or file.metadata.num_rows
        for batch in file.iter_batches(batch_size=ROWS, columns=columns):
            taken = batch.slice(0, left)
            left -= len(taken)
            yield taken.to_pydict()
            if not left:
                break

    def parsed(self) -> Iterator[tuple[list[Row], list[str]]]:
        """Its rows and their sources, ROWS at a time."""
        for table in self.tables():
            inputs = table["inputs"]
            targets = table.get("target") or ["{}"] * len(inputs)
            slices = table.get("slices") or ["{}"] * len(inputs)
            yield (
                [row(*pair) for pair in zip(inputs, targets, strict=True)],
                [str(json.loads(one).get("domain", "")) for one in slices],
            )

    def learned(self) -> Iterator[str]:
        """The words of each row that are learned."""
        return (one.learned for rows, _ in self.parsed() for one in rows)


def corpus(part: SplitPart, reader: ConversationReader) -> Corpus:
    """A part's tokens, written where they are not. Raises UnusableConversation."""
    name = digest([sha256(part.path), part.rows, reader.tokens.body, reader.tokens.config])[:16]
    path = paths.state("tokens", name)
    with locked(paths.state("locks", f"tokens-{name}")):
        if not _whole(path):
            _write(part, reader, path)
    os.utime(path / DONE)  # in use: `tidemill clean` goes by age
    return _opened(path)


def _opened(path: Path) -> Corpus:
    told = json.loads((path / DONE).read_text())
    return Corpus(
        ids=MappedArray(path / "ids", told["kind"]),
        starts=MappedArray(path / "starts", "int64"),
        asked=MappedArray(path / "asked", "uint8") if told["conversations"] else None,
        groups=MappedArray(path / "groups", "uint16"),
        hashes=MappedArray(path / "hashes", "uint64"),
        sources=tuple(told["sources"]),
        targets=told["targets"],
        chars=told["chars"],
    )


def _whole(path: Path) -> bool:
    """Whether the files are there with all their bytes."""
    try:
        told = json.loads((path / DONE).read_text())
        return all((path / name).stat().st_size == size for name, size in told["bytes"].items())
    except (OSError, ValueError, KeyError):
        return False


def _write(part: SplitPart, reader: ConversationReader, path: Path) -> None:
    """Write a part's files, all or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".tokens.", dir=path.parent))
    try:
        written = _Writer(folder, reader).write(part)
        (folder / DONE).write_text(json.dumps(written) + "\n")
        shutil.rmtree(path, ignore_errors=True)
        folder.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Writer:
    """Writes the rows of a part as tokens, one batch of rows after the other."""

    def __init__(self, folder: Path, reader: ConversationReader) -> None:
        self.folder, self.reader = folder, reader
        self.kind = np.dtype("uint16" if reader.tokens.size <= 1 << 16 else "uint32")
        self.sources: dict[str, int] = {}
        self.rows = self.tokens = self.targets = self.chars = 0
        self.conversations = False

    def write(self, part: SplitPart) -> dict[str, object]:
        """What is told of the files beside them."""
        names = ("ids", "starts", "asked", "groups", "hashes")
        total = part.rows or pq.read_metadata(part.path).num_rows
        with ExitStack() as open_files:
            files = {
                name: open_files.enter_context((self.folder / name).open("wb")) for name in names
            }
            files["starts"].write(np.int64(0).tobytes())
            for rows, sources in part.parsed():
                self._add(files, rows, sources)
                process.progress(self.rows, total, "rows tokenized")
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        if not self.conversations:  # every token but a row's first is learned
            (self.folder / "asked").unlink()
        return {
            "kind": self.kind.str,
            "conversations": self.conversations,
            "sources": list(self.sources),
            "targets": self.targets,
            "chars": self.chars,
            "bytes": {one.name: one.stat().st_size for one in sorted(self.folder.iterdir())},
        }

    def _add(self, files: Mapping[str, BinaryIO], rows: list[Row], sources: list[str]) -> None:
        for one, source, reading in zip(
            rows, sources, self.reader.readings(rows, self.rows), strict=True
        ):
            if len(reading.ids) and int(reading.ids.max()) > np.iinfo(self.kind).max:
                raise Fault(f"token {int(reading.ids.max())} is over the vocabulary's size")
            self.tokens += len(reading.ids)
            self.targets += int(reading.asked[1:].sum())
            self.chars += len(one.learned)
            self.conversations |= bool(one.messages)
            group = self.sources.setdefault(source, len(self.sources))
            files["ids"].write(reading.ids.astype(self.kind).tobytes())
            files["asked"].write(reading.asked.astype(np.uint8).tobytes())
            files["starts"].write(np.int64(self.tokens).tobytes())
            files["groups"].write(np.uint16(group).tobytes())
            files["hashes"].write(content_hash(one).to_bytes(8, "little"))
        self.rows += len(rows)


def content_hash(one: Row) -> int:
    """64 bits of what a row says; equal rows of different nights have equal ones."""
    body = json.dumps([one.text, *([turn["role"], turn["content"]] for turn in one.messages)])
    return int.from_bytes(hashlib.blake2b(body.encode(), digest_size=8).digest(), "little")
