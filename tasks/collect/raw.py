"""What was collected, as it came: WARC segments or package originals, and one manifest over them.

The manifest is written last, so what it names is whole. Rows are the latest state of each record:
uri, fetched (UTC, ISO 8601), status, media, charset, etag, modified, sha256 of the body, raw_file,
raw_locator (offset in a segment, member in an archive), signals (JSON: what the site said about use).
"""

import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import Fault
from tasks.files import aside, digest

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("uri", "fetched")]
    + [("status", pa.int32())]
    + [(name, pa.string()) for name in ("media", "charset", "etag", "modified", "sha256", "raw_file", "raw_locator", "signals")]
)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifest's rows by URI; empty where nothing was collected yet."""
    path = folder / "manifest.parquet"
    if not path.is_file():
        return {}
    try:
        return {row["uri"]: row for row in pq.read_table(path).to_pylist()}
    except (pa.ArrowInvalid, OSError) as error:
        raise Fault(f"{path} cannot be read ({error}); remove the folder and collect again") from error


def save_manifest(folder: Path, rows: Iterable[dict[str, Any]]) -> str:
    """Write the manifest and give its digest, which is the digest of what was collected."""
    ordered = sorted(rows, key=lambda row: row["uri"])
    with aside(folder / "manifest.parquet") as part:
        pq.write_table(pa.Table.from_pylist(ordered, schema=SCHEMA), part, compression="zstd")
    return raw_digest(ordered)


def raw_digest(rows: Iterable[dict[str, Any]]) -> str:
    """What was collected, by address and content, free of times and places."""
    return digest(sorted([row["uri"], row["status"], row["sha256"]] for row in rows))


class Segment:
    """One WARC file (ISO 28500, gzip per record) that appears when it is closed, whole."""

    def __init__(self, folder: Path, agent: str) -> None:
        from fastwarc.stream_io import GzipWriter

        self.name = f"segment-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.warc.gz"
        self._aside = aside(folder / self.name)
        self._file = self._aside.__enter__().open("wb")
        self._gzip = GzipWriter(self._file)
        info = f"software: {agent}\r\nformat: WARC File Format 1.1\r\n".encode()
        self._write("warcinfo", "application/warc-fields", now(), info)

    def _write(self, kind: str, media: str, date: str, content: bytes, uri: str | None = None) -> int:
        from fastwarc.warc import WarcRecord, WarcRecordType

        offset = self._file.tell()
        record = WarcRecord()
        record.init_headers(record_type=getattr(WarcRecordType, kind))
        if uri:
            record.headers["WARC-Target-URI"] = uri
        record.headers["WARC-Date"] = date
        record.headers["Content-Type"] = media
        record.set_bytes_content(content)
        record.write(self._gzip, checksum_data=True)
        self._gzip.finish()  # after every record, or other readers refuse the file
        self._file.flush()
        return offset

    def add(self, uri: str, head: bytes, body: bytes, fetched: str) -> int:
        """Append one response; gives its offset in the file, in bytes."""
        return self._write("response", "application/http; msgtype=response", fetched, head + body, uri)

    def close(self) -> None:
        self._file.close()
        self._aside.__exit__(None, None, None)

    def discard(self) -> None:
        """Leave no trace of a segment that is not to be kept."""
        self._file.close()
        stop = GeneratorExit()
        with suppress(GeneratorExit):
            self._aside.__exit__(GeneratorExit, stop, None)


def bodies(folder: Path, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The manifest's rows with the bytes they name, read file by file."""
    from tasks.collect.archive import members

    files: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        files.setdefault(row["raw_file"], []).append(row)
    for name in sorted(files):
        wanted = files[name]
        path = folder / name
        if not path.is_file():
            raise Fault(f"{path} is gone, and {len(wanted)} records with it; remove the folder and collect again")
        if name.endswith(".warc.gz"):
            yield from _responses(path, wanted)
        else:
            found = {row["raw_locator"]: row for row in wanted}
            for member, body in members(path, "*", found):
                if member in found:
                    yield found[member], body


def _responses(path: Path, rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bytes]]:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    data = path.read_bytes()
    for row in sorted(rows, key=lambda item: int(item["raw_locator"])):
        stream = io.BytesIO(data[int(row["raw_locator"]):])
        record = next(iter(ArchiveIterator(stream, record_types=WarcRecordType.response, parse_http=True)), None)
        if record is None or record.headers.get("WARC-Target-URI") != row["uri"]:
            raise Fault(f"{path} has no record of {row['uri']} at {row['raw_locator']}; remove the folder and collect again")
        yield row, record.reader.read()
