"""What was collected, as it came: WARC segments or package originals, and one manifest over them.

The manifest is written last, so what it names is whole. Rows are the latest state of each record:
uri, fetched (UTC, ISO 8601), status, media, charset, etag, modified, sha256 of the body, raw_file,
raw_locator (offset in a segment, member in an archive), signals (JSON: what the site said about
use).
"""

import base64
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.runtime.encodable import parsed
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import aside, canonical, sync_folder

LEVEL = 4  # of gzip: half the processor time of 6 for 7 % more bytes of HTML (docs/collect.md)
MOST_RECORD = 256 * 2**20
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("uri", "fetched")]
    + [("status", pa.int32())]
    + [
        (name, pa.string())
        for name in (
            "media",
            "charset",
            "etag",
            "modified",
            "sha256",
            "raw_file",
            "raw_locator",
            "signals",
        )
    ]
)


HOSTS = pa.schema(
    [
        ("site", pa.string()),
        ("name", pa.string()),
        ("status", pa.int32()),
        ("fetched", pa.string()),
        ("sha256", pa.string()),
        ("body", pa.binary()),
    ]
)
DECISIONS = pa.schema([(name, pa.string()) for name in ("uri", "decision", "reason", "signals")])


class ManifestRow(TypedDict):
    """The latest state of one record: a row of the manifest."""

    uri: str
    fetched: str  # UTC, ISO 8601
    status: int
    media: str | None
    charset: str | None
    etag: str | None
    modified: str | None
    sha256: str  # of the body
    raw_file: str
    raw_locator: str  # an offset in a segment, a member of an archive
    signals: str | None  # JSON: what the site said about use


class StatementRow(NamedTuple):
    """A file in which a site says something of use: a row of hosts.parquet."""

    site: str
    name: str
    status: int
    fetched: str
    sha256: str | None
    body: bytes | None


class DecisionRow(NamedTuple):
    """Whether an address may be used, and why: a row of decisions.parquet."""

    uri: str
    decision: str
    reason: str | None
    signals: str | None


class Place(TypedDict):
    """Where the bytes of a record lie: the fields of a manifest's row by which it is read."""

    uri: str
    raw_file: str
    raw_locator: str


Row = TypeVar("Row", bound=Place)


def manifest_row(
    uri: str,
    fetched: str,
    sha256: str,
    media: str | None,
    *,
    charset: str | None = None,
    etag: str | None = None,
    modified: str | None = None,
    raw_file: str = "",
    raw_locator: str = "",
    signals: str | None = None,
) -> ManifestRow:
    """The row of a record that is there.

    Where its bytes lie may be filled in once they are stored.
    """
    return {
        "uri": uri,
        "fetched": fetched,
        "status": 200,
        "media": media,
        "charset": charset,
        "etag": etag,
        "modified": modified,
        "sha256": sha256,
        "raw_file": raw_file,
        "raw_locator": raw_locator,
        "signals": signals,
    }


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def manifest(folder: Path) -> dict[str, ManifestRow]:
    """The manifest's rows by URI; empty where nothing was collected yet."""
    path = folder / "manifest.parquet"
    if not path.is_file():
        return {}
    try:
        return {row["uri"]: row for row in pq.read_table(path).to_pylist()}
    except (pa.ArrowInvalid, OSError) as error:
        raise Fault(
            f"{path} cannot be read ({error}); remove the folder and collect again"
        ) from error


def save_manifest(folder: Path, rows: Iterable[ManifestRow]) -> str:
    """Write the manifest and give its digest, which is the digest of what was collected."""
    ordered = sorted(rows, key=lambda row: row["uri"])
    with aside(folder / "manifest.parquet") as part:
        pq.write_table(pa.Table.from_pylist(ordered, schema=SCHEMA), part, compression="zstd")
    return raw_digest(ordered)


def raw_digest(rows: Iterable[ManifestRow]) -> str:
    """What was collected, by address and content, free of times and places."""
    return rows_digest(
        sorted(([row["uri"], row["status"], row["sha256"]] for row in rows), key=lambda row: row[0])
    )


def rows_digest(rows: Iterable[list[Any]]) -> str:
    """The digest of [address, status, sha256] in the order of the addresses, taken row by row."""
    made = hashlib.sha256(b"[")
    for number, row in enumerate(rows):
        made.update((b"," if number else b"") + canonical(row).encode())
    made.update(b"]")
    return made.hexdigest()


def each(folder: Path) -> Iterator[ManifestRow]:
    """The manifest's rows in the order of their addresses, a batch in memory at a time."""
    path = folder / "manifest.parquet"
    if not path.is_file():
        return
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise Fault(
            f"{path} cannot be read ({error}); remove the folder and collect again"
        ) from error


def merge(folder: Path, changed: Callable[[], Iterable[ManifestRow]]) -> tuple[str, int, bool]:
    """The manifest with rows that are new or other than before, both in order.

    Gives its digest, how many pages it has, and whether it was written: only where the set of
    (address, status, content, what was said of use) moved (decision 0002).
    """
    path = folder / "manifest.parquet"
    before = _States(each(folder))
    after = _States(_zipped(each(folder), changed()))
    if after.state == before.state and path.exists():
        return after.digest, after.pages, False
    with aside(path) as part, pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
        rows = _zipped(each(folder), changed())
        while batch := list(islice(rows, 4096)):
            writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMA))
    return after.digest, after.pages, True


class _States:
    """What rows come to: their digest, the same with what was said of use, and their pages."""

    def __init__(self, rows: Iterable[ManifestRow]) -> None:
        self.pages, whole = 0, hashlib.sha256()

        def states() -> Iterator[list[Any]]:
            for row in rows:
                self.pages += row["status"] == 200
                state = [row["uri"], row["status"], row["sha256"]]
                whole.update(canonical([*state, row["signals"]]).encode())
                yield state

        self.digest = rows_digest(states())
        self.state = whole.hexdigest()


def save_table(
    path: Path,
    schema: pa.Schema,
    rows: Iterable[StatementRow] | Iterable[DecisionRow],
    key: tuple[str, ...],
) -> bool:
    """Write a table beside the manifest, batch by batch.

    Only where what it says by `key` is other than before.
    """
    part = path.with_name(f".{path.name}.part")
    made, whole = hashlib.sha256(), (row._asdict() for row in rows)
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        while batch := list(islice(whole, 4096)):
            for row in batch:
                made.update(canonical([row[name] for name in key]).encode())
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    after = hashlib.sha256()
    if path.is_file():
        with pq.ParquetFile(path) as file:
            for old in file.iter_batches(batch_size=4096, columns=list(key)):
                for row in old.to_pylist():
                    after.update(canonical([row[name] for name in key]).encode())
        if after.digest() == made.digest():
            part.unlink()
            return False
    with aside(path) as last:
        part.replace(last)
    return True


def statements(folder: Path) -> dict[str, dict[str, bytes]]:
    """What each site last said of use: site to file to its bytes."""
    files: dict[str, dict[str, bytes]] = {}
    path = folder / "hosts.parquet"
    if path.is_file():
        for row in pq.read_table(path).to_pylist():
            if row["status"] == 200:
                files.setdefault(row["site"], {})[row["name"]] = row["body"]
    return files


def _zipped(old: Iterator[ManifestRow], new: Iterable[ManifestRow]) -> Iterator[ManifestRow]:
    """Two ordered runs as one; where both have an address the new row counts."""
    row = next(old, None)
    for other in new:
        while row is not None and row["uri"] < other["uri"]:
            yield row
            row = next(old, None)
        if row is not None and row["uri"] == other["uri"]:
            row = next(old, None)
        yield other
    if row is not None:
        yield row
        yield from old


class Segment:
    """One WARC file (ISO 28500, gzip per record).

    While it grows its name begins with a dot; closed, it is whole and never changed. A record may
    be read once `sync` came back. After a crash `mend` cuts the file to its last whole record, and
    it may grow again.
    """

    MOST_BYTES = 64 * 2**20

    def __init__(self, folder: Path, agent: str, name: str = "") -> None:
        self.folder = folder
        self.name = name or f"segment-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.warc.gz"
        self.path = folder / f".{self.name}.open"
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open(
            "ab", buffering=0
        )  # a record that was written is there, whatever becomes of us
        self.size = self._file.tell()
        if not self.size:
            self._write(
                "warcinfo",
                "application/warc-fields",
                now(),
                f"software: {agent}\r\nformat: WARC File Format 1.1\r\n".encode(),
            )

    def _write(
        self, kind: str, media: str, date: str, block: bytes, uri: str = "", more: str = ""
    ) -> int:
        offset = self.size
        head = (
            f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{uuid4()}>\r\nWARC-Date: "
            f"{date}\r\n"
            + (f"WARC-Target-URI: {uri}\r\n" if uri else "")
            + more
            + f"Content-Type: {media}\r\nContent-Length: {len(block)}\r\n\r\n"
        )
        pump = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
        left = memoryview(pump.compress(head.encode() + block + b"\r\n\r\n") + pump.flush())
        while left:
            left = left[self._file.write(left) or 0 :]
        self.size = self._file.tell()
        return offset

    def add(self, uri: str, head: bytes, body: bytes, fetched: str, sha256: str = "") -> int:
        """Append one response; gives its offset in the file, in bytes."""
        payload = base64.b32encode(
            bytes.fromhex(sha256) if sha256 else hashlib.sha256(body).digest()
        ).decode()
        return self._write(
            "response",
            "application/http; msgtype=response",
            fetched,
            head + body,
            uri,
            f"WARC-Payload-Digest: sha256:{payload}\r\n",
        )

    def revisit(
        self, uri: str, head: bytes, fetched: str, sha256: str, first: str, not_modified: bool
    ) -> int:
        """Append that a page was found as it had been stored at the time `first`."""
        profile = "server-not-modified" if not_modified else "identical-payload-digest"
        payload = base64.b32encode(bytes.fromhex(sha256)).decode()
        more = (
            f"WARC-Profile: http://netpreserve.org/warc/1.1/revisit/{profile}\r\n"
            f"WARC-Payload-Digest: sha256:{payload}\r\n"
            f"WARC-Refers-To-Target-URI: {uri}\r\nWARC-Refers-To-Date: {first}\r\n"
        )
        return self._write(
            "revisit", "application/http; msgtype=response", fetched, head, uri, more
        )

    @property
    def full(self) -> bool:
        return self.size >= self.MOST_BYTES

    def sync(self) -> int:
        """Bring all that was added to the disk; gives the length up to which it is there."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.size

    def close(self) -> None:
        """The file under its own name, whole."""
        self.sync()
        self._file.close()
        self.path.replace(self.folder / self.name)
        sync_folder(self.folder)

    def leave(self) -> None:
        """Let it lie open, to grow again later."""
        try:
            self.sync()
        finally:
            self._file.close()


def opened(folder: Path) -> list[str]:
    """The names of segments that were growing when their process ended."""
    return sorted(path.name[1:-5] for path in folder.glob(".segment-*.warc.gz.open"))


def length(folder: Path, name: str) -> int:
    """How many bytes a segment has, growing or closed."""
    path = folder / f".{name}.open"
    return (path if path.exists() else folder / name).stat().st_size


def mend(folder: Path, name: str, known: int) -> Iterator[tuple[int, str, str, bytes]]:
    """The whole responses of a segment from offset `known` on.

    Of each: (offset, address, time, HTTP message).

    A segment that was growing is then cut after the last.
    """
    path = folder / f".{name}.open"
    path = path if path.exists() else folder / name
    data = path.read_bytes()
    at = min(known, len(data))
    while at < len(data):
        pump = zlib.decompressobj(31)
        try:
            record = pump.decompress(data[at:], MOST_RECORD)
        except zlib.error:
            break
        if not pump.eof:
            break
        head, _, block = record.partition(b"\r\n\r\n")
        fields = dict(
            line.split(": ", 1)
            for line in head.decode("utf-8", "replace").split("\r\n")[1:]
            if ": " in line
        )
        if fields.get("WARC-Type") == "response":
            yield (
                at,
                fields["WARC-Target-URI"],
                fields["WARC-Date"],
                block[: int(fields["Content-Length"])],
            )
        at = len(data) - len(pump.unused_data)
    if at < len(data) and path.name != name:
        with path.open("rb+") as file:
            file.truncate(at)
            os.fsync(file.fileno())


def bodies(folder: Path, rows: Iterable[Row]) -> Iterator[tuple[Row, bytes]]:
    """The manifest's rows with the bytes they name, read file by file."""
    from tidemill.records.archive import members

    files: dict[str, list[Row]] = {}
    for row in rows:
        files.setdefault(row["raw_file"], []).append(row)
    for name in sorted(files):
        wanted = files[name]
        path = folder / name
        if not path.is_file():
            raise Fault(
                f"{path} is gone, and {len(wanted)} records with it; remove the folder and "
                "collect again"
            )
        if name.endswith(".warc.gz"):
            yield from _responses(path, wanted)
        else:
            by_member = {row["raw_locator"]: row for row in wanted}
            for member, body in members(path, "*", by_member):
                if member in by_member:
                    yield by_member[member], body


def _responses(path: Path, rows: list[Row]) -> Iterator[tuple[Row, bytes]]:
    """Bodies at their offsets; of a page of an API, a record within it (offset#/JSON/pointer)."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    data = path.read_bytes()
    last: tuple[int, bytes] = (-1, b"")
    for row in sorted(
        rows, key=lambda item: (int(item["raw_locator"].partition("#")[0]), item["raw_locator"])
    ):
        offset, _, place = row["raw_locator"].partition("#")
        if int(offset) != last[0]:
            record = next(
                iter(
                    ArchiveIterator(
                        io.BytesIO(data[int(offset) :]),
                        record_types=WarcRecordType.response,
                        parse_http=True,
                    )
                ),
                None,
            )
            if record is None or (
                not place and record.headers.get("WARC-Target-URI") != row["uri"]
            ):
                raise Fault(
                    f"{path} has no record of {row['uri']} at {row['raw_locator']}; remove the "
                    "folder and collect again"
                )
            last = int(offset), record.reader.read()
        yield row, _within(last[1], place) if place else last[1]


def _within(body: bytes, pointer: str) -> bytes:
    """What a JSON pointer (RFC 6901) names, in canonical form."""
    value = parsed(body)
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        value = value[int(part)] if isinstance(value, list) else value[part]
    return canonical(value).encode()
