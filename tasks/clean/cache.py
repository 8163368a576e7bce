"""What was read of each record, kept beside the data so that a night reads only what changed.

One SQLite file a source, under .tidemill/; it holds nothing that cannot be read from data/raw
again, so one that is damaged is dropped. A key names all that an entry depends on: the record's
bytes, the source's configuration and the code of this room. `marks` are a page's blocks as numbers,
by which a host's repeated blocks are found without opening a page.
"""

import json
import logging
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from backports import zstd

from tasks.clean.rows import Content

log = logging.getLogger(__name__)

ASKED = 500  # entries whose marks are read at once


def packed(content: Content) -> bytes:
    """JSON, with the payloads of its documents behind it."""
    documents = content.get("documents", [])
    payloads = [document["payload"] or b"" for document in documents]
    stored: Any = content
    if documents:
        stored = {"documents": [{**each, "payload": _size(each["payload"])} for each in documents]}
    head = json.dumps(stored, ensure_ascii=False, separators=(",", ":")).encode()
    return zstd.compress(struct.pack(">Q", len(head)) + head + b"".join(payloads), 1)


def _size(payload: bytes | None) -> int | None:
    return None if payload is None else len(payload)


def unpacked(body: bytes) -> Content:
    whole = zstd.ZstdDecompressor().decompress(body)
    at = 8 + struct.unpack_from(">Q", whole)[0]
    stored: Any = json.loads(whole[8:at])
    for document in stored.get("documents", ()):
        if document["payload"] is not None:
            size, document["payload"] = document["payload"], whole[at : at + document["payload"]]
            at += size
    content: Content = stored
    return content


class Damaged(Exception):
    """The file is no longer what was written."""


def _sound(marks: bytes) -> bytes:
    if not isinstance(marks, bytes) or zlib.crc32(marks[:-4]).to_bytes(4) != marks[-4:]:
        raise Damaged("an entry is not as it was written")
    return marks[:-4]


class Done:
    """The entries of one source, by key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = sqlite3.connect(path)
        try:
            self.file.execute("pragma journal_mode=wal")
            self.file.execute("pragma synchronous=normal")
            self.file.execute(
                "pragma mmap_size=268435456"
            )  # of address space; entries are read one by one, all over the file
            self.file.execute(
                "create table if not exists done (key blob primary key, marks blob, body blob, "
                "sum integer) without rowid"
            )
        except sqlite3.DatabaseError as error:
            self.file.close()
            raise Damaged(str(error)) from error
        self.waiting = 0

    def known(self) -> set[bytes]:
        try:
            return {key for (key,) in self.file.execute("select key from done")}
        except sqlite3.DatabaseError as error:
            raise Damaged(str(error)) from error

    def marks(self, keys: Iterable[bytes]) -> Iterator[bytes]:
        some: list[bytes] = []
        for key in keys:
            some.append(key)
            if len(some) == ASKED:
                yield from self._marks(some)
                some = []
        yield from self._marks(some)

    def _marks(self, keys: list[bytes]) -> Iterator[bytes]:
        try:
            found = dict(
                self.file.execute(
                    f"select key, marks from done where key in ({','.join('?' * len(keys))})", keys
                )
            )
            yield from (_sound(found[key]) for key in keys)
        except sqlite3.DatabaseError as error:
            raise Damaged(str(error)) from error
        except KeyError as error:
            raise Damaged("an entry is gone") from error

    def body(self, key: bytes) -> bytes:
        """An entry as it was packed."""
        body, total = self._one("select body, sum from done where key = ?", key)
        if zlib.crc32(body) != total:
            raise Damaged("an entry is not as it was written")
        return body

    def _one(self, query: str, key: bytes) -> tuple[Any, ...]:
        try:
            found = self.file.execute(query, (key,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise Damaged(str(error)) from error
        if found is None:
            raise Damaged("an entry is gone")
        return tuple(found)

    def add(self, key: bytes, marks: bytes, body: bytes) -> None:
        """Keep an entry.

        Every few of them are on the disk, so that a killed night resumes where it was.
        """
        try:
            self.file.execute(
                "insert or replace into done values (?, ?, ?, ?)",
                (key, marks + zlib.crc32(marks).to_bytes(4), body, zlib.crc32(body)),
            )
            self.waiting += 1
            if self.waiting >= 100:
                self.commit()
        except sqlite3.DatabaseError as error:
            raise Damaged(str(error)) from error

    def commit(self) -> None:
        self.file.commit()
        self.waiting = 0

    def keep(self, keys: set[bytes]) -> None:
        """Forget every other entry."""
        gone = self.known() - keys
        self.file.executemany("delete from done where key = ?", ((key,) for key in gone))
        self.commit()

    def close(self) -> None:
        self.file.close()

    @staticmethod
    def drop(path: Path) -> None:
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
