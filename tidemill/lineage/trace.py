"""From a model to its pages, and from a page to its models.

The index, .tidemill/lineage.db, holds the pages of every registered version: made when a version is
registered, and made again from the DVC remote where it is lost. A page asks for all of them, so an
index that was begun anew is completed first. One row a document and content; a snapshot lists its
rows.
"""

import csv
import hashlib
import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict
from urllib.parse import urldefrag

from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.escape import csv_cell
from tidemill.runtime.files import aside, locked

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = """
CREATE TABLE IF NOT EXISTS pages (
    id INTEGER PRIMARY KEY, uri TEXT NOT NULL, source TEXT NOT NULL, host TEXT NOT NULL,
    licence TEXT NOT NULL, opt_out TEXT NOT NULL, fetched TEXT NOT NULL,
    raw_file TEXT NOT NULL, raw_locator TEXT NOT NULL, raw_digest TEXT NOT NULL,
    UNIQUE (uri, raw_digest, licence, opt_out));
CREATE TABLE IF NOT EXISTS snapshots (
    id INTEGER PRIMARY KEY, application TEXT NOT NULL, digest TEXT NOT NULL,
    UNIQUE (application, digest));
CREATE TABLE IF NOT EXISTS rows (
    snapshot INTEGER NOT NULL, page INTEGER NOT NULL, split TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (snapshot, page, split)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rows_page ON rows (page);
CREATE TABLE IF NOT EXISTS whole (since TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS versions (
    application TEXT NOT NULL, version TEXT NOT NULL, snapshot INTEGER NOT NULL,
    PRIMARY KEY (application, version)) WITHOUT ROWID;
"""
COLUMNS = (
    "uri",
    "source",
    "host",
    "licence",
    "opt_out",
    "fetched",
    "raw_file",
    "raw_locator",
    "raw_digest",
)
SPLITS = ("train", "valid", "test")


class IndexedPage(TypedDict):
    """A page of the index, by which bytes and under which terms it was taken."""

    uri: str
    source: str
    host: str
    licence: str
    opt_out: str
    fetched: str
    raw_file: str
    raw_locator: str
    raw_digest: str


class VersionPage(IndexedPage):
    """A page of a version, and how many examples of which split it has."""

    split: str
    examples: int


class PageVersion(TypedDict):
    """A version that a page is in."""

    application: str
    version: str
    snapshot: str
    split: str
    examples: int
    parts: int  # of the page


CountedBy = Literal["split", "source", "host", "licence", "opt_out"]


@contextmanager
def index() -> Iterator[sqlite3.Connection]:
    """The index, made where there is none.

    One that is damaged is made anew, since all of it can be.
    """
    path = paths.state("lineage.db")
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(paths.state("locks", "lineage")):
        database = _opened(path)
        try:
            with database:
                yield database
        finally:
            database.close()


def _opened(path: Path) -> sqlite3.Connection:
    for again in (True, False):
        database = sqlite3.connect(path)
        try:
            database.executescript(SCHEMA)
            return database
        except sqlite3.DatabaseError as error:
            database.close()
            if not again:
                raise Fault(f"{path} cannot be used as an index: {error}") from error
            path.unlink()
    raise AssertionError


def note(application: str, version: str, snapshot: str, data: Path | None = None) -> None:
    """Take a version's pages into the index.

    They come from the data as it lies there, or from `data` (splits/ and clean/SOURCE/).
    """
    with index() as database:
        known = database.execute(
            "SELECT id FROM snapshots WHERE application = ? AND digest = ?", (application, snapshot)
        ).fetchone()
        number = known[0] if known else _fill(database, application, snapshot, data)
        database.execute(
            "INSERT OR REPLACE INTO versions VALUES (?, ?, ?)", (application, version, number)
        )


def _fill(database: sqlite3.Connection, application: str, snapshot: str, data: Path | None) -> int:
    splits = data / "splits" if data else paths.data("splits", application)
    report = json.loads((splits / "report.json").read_text())
    if report["snapshot"] != snapshot:
        raise Fault(
            f"data/splits/{application} is snapshot {report['snapshot'][:12]}, not {snapshot[:12]}"
        )
    pages = _pages(splits, data)
    lost = pages["uri"].isna()
    if lost.any():
        raise Fault(
            f"{int(lost.sum())} documents of {application} {snapshot[:12]} have no lineage, such "
            f"as {pages.loc[lost, 'doc_id'].iloc[0]}; run dvc repro split@{application}"
        )
    number = database.execute(
        "INSERT INTO snapshots (application, digest) VALUES (?, ?)", (application, snapshot)
    ).lastrowid
    assert number is not None
    columns = list(COLUMNS)
    pages[columns] = pages[columns].fillna("").astype(str)
    database.executemany(
        f"INSERT OR IGNORE INTO pages ({', '.join(columns)}) VALUES "
        f"({', '.join('?' * len(columns))})",
        pages[columns].itertuples(index=False, name=None),
    )
    keys = ["split", "count", "uri", "raw_digest", "licence", "opt_out"]
    counted = pages[keys].itertuples(index=False, name=None)
    database.executemany(
        f"INSERT INTO rows SELECT {number}, id, ?, ? FROM pages WHERE uri = ? AND raw_digest = ? "
        "AND licence = ? AND opt_out = ?",
        ((split, int(count), *key) for split, count, *key in counted),
    )
    return number


def _pages(splits: Path, data: Path | None) -> "pd.DataFrame":
    """Every document of the splits with its lineage, and how many rows of which split it has."""
    import pandas as pd

    of_parts = []
    for part in SPLITS:
        rows = pd.read_parquet(splits / f"{part}.parquet", columns=["doc_id", "source"])
        of_parts.append(rows.assign(split=part))
    of_sources = []
    for source, mine in pd.concat(of_parts).groupby("source"):
        clean = data / "clean" / str(source) if data else paths.data("clean", str(source))
        documents = pd.read_parquet(
            clean / "documents.parquet", columns=["doc_id", "host", "licence", "opt_out"]
        )
        known = pd.read_parquet(clean / "lineage.parquet").merge(documents, on="doc_id")
        counts = mine.groupby(["doc_id", "split"]).size().rename("count").reset_index()
        of_sources.append(counts.merge(known, on="doc_id", how="left").assign(source=source))
    return pd.concat(of_sources, ignore_index=True)


def recover(application: str, version: str, snapshot: str) -> None:
    """Take a version's pages from the DVC remote, by the name of its snapshot."""
    from tidemill.engines.dvc.snapshots import bring

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bring(f"{application}-{snapshot[:16]}", folder)
        note(application, version, snapshot, folder)


def complete() -> list[str]:
    """See that the index has every registered version, once for an index that is new.

    Gives what could not be had, in words.
    """
    from tidemill.engines.mlflow import registry

    with index() as database:
        if database.execute("SELECT 1 FROM whole").fetchone():
            return []
        there = set(database.execute("SELECT application, version FROM versions"))
    lost = []
    for application, version, snapshot in registry.snapshots():
        if (application, version) in there:
            continue
        try:
            recover(application, version, snapshot)
        except (Fault, Refused) as error:
            lost.append(f"{application} version {version}: {error}")
    if not lost:
        with index() as database:
            database.execute("INSERT INTO whole VALUES (datetime('now'))")
    return lost


def pages(application: str, version: str) -> list[VersionPage]:
    """The pages of a version.

    Of each: where it came from, when, under which licence and signals, in which split, by which
    bytes.
    """
    with index() as database:
        snapshot = database.execute(
            "SELECT snapshot FROM versions WHERE application = ? AND version = ?",
            (application, version),
        ).fetchone()
        if snapshot is None:
            return []
        rows = database.execute(
            f"SELECT {', '.join(COLUMNS)}, split, count FROM rows JOIN pages ON pages.id = "
            "rows.page WHERE snapshot = ? ORDER BY source, uri, split",
            snapshot,
        ).fetchall()
    return [
        {**_page(columns), "split": split, "examples": examples}
        for *columns, split, examples in rows
    ]


def _page(columns: Sequence[str]) -> IndexedPage:
    """A row of COLUMNS."""
    uri, source, host, licence, opt_out, fetched, raw_file, raw_locator, raw_digest = columns
    return {
        "uri": uri,
        "source": source,
        "host": host,
        "licence": licence,
        "opt_out": opt_out,
        "fetched": fetched,
        "raw_file": raw_file,
        "raw_locator": raw_locator,
        "raw_digest": raw_digest,
    }


def _within(url: str) -> tuple[str, str, str]:
    """What finds a page and its parts.

    The page, and the first and last of what its parts' addresses begin with.
    """
    mark = "/" if "#" in url else "#"  # a page's parts follow "#", those of a package's member "/"
    return url, url + mark, url + chr(ord(mark) + 1)


def spelled(url: str) -> str:
    """An address as collecting spells it.

    `HTTP://Mill.Example:80/a/../b` is `http://mill.example/b`.
    """
    from tidemill.web import urls

    page, mark, part = url.partition("#")
    if not page.lower().startswith(("http://", "https://")):
        return url
    return f"{urls.canonical(page) or page}{mark}{part}"


def models(url: str) -> list[PageVersion]:
    """The versions that a page is in, with the split it is in.

    Those of the page itself and of every part of it.
    """
    with index() as database:
        rows = database.execute(
            "SELECT versions.application, versions.version, snapshots.digest, rows.split, "
            "SUM(rows.count), COUNT(DISTINCT pages.id) FROM pages "
            "JOIN rows ON rows.page = pages.id JOIN snapshots ON snapshots.id = rows.snapshot "
            "JOIN versions ON versions.snapshot = snapshots.id "
            "WHERE pages.uri = ? OR (pages.uri >= ? AND pages.uri < ?) GROUP BY 1, 2, 3, 4 ORDER "
            "BY 1, CAST(versions.version AS INTEGER), 4",
            _within(url),
        ).fetchall()
    return [
        {
            "application": application,
            "version": version,
            "snapshot": snapshot,
            "split": split,
            "examples": examples,
            "parts": parts,
        }
        for application, version, snapshot, split, examples, parts in rows
    ]


def dropped(url: str) -> dict[str, int]:
    """Why parts of a page that was collected are in no model, by today's data.

    Maps step and reason to how many.
    """
    import pyarrow.parquet as pq

    page, low, high = _within(url)
    counts: Counter[str] = Counter()
    documents: set[str] = set()
    for path in sorted(paths.root().glob("data/clean/*/lineage.parquet")):
        table = pq.read_table(path, columns=["doc_id", "uri"])
        rows = zip(table["doc_id"].to_pylist(), table["uri"].to_pylist(), strict=True)
        documents |= {doc_id for doc_id, uri in rows if uri == page or low <= uri < high}
    for path in sorted(paths.root().glob("data/*/*/dropped.parquet")):
        table = pq.read_table(path)
        if not {"doc_id", "reason"} <= set(table.column_names):
            continue
        # Those of label and split know a document by its id alone.
        addresses = table["uri"].to_pylist() if "uri" in table.column_names else [""] * len(table)
        reasons = table["reason"].to_pylist()
        step = f"{path.parent.parent.name} {path.parent.name}"
        for doc_id, uri, reason in zip(
            table["doc_id"].to_pylist(), addresses, reasons, strict=True
        ):
            if doc_id in documents or uri == page or low <= (uri or "") < high:
                counts[f"{reason} ({step})"] += 1
    return dict(counts)


def summary(rows: list[VersionPage], by: CountedBy) -> dict[str, int]:
    """How many documents of each host, licence or the like, most first."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row[by] or "none"] = counts.get(row[by] or "none", 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def save(rows: list[VersionPage], path: Path) -> None:
    """The list as CSV, for a person or a spreadsheet."""
    with aside(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "split", "examples"])
        writer.writeheader()
        writer.writerows({name: csv_cell(cell) for name, cell in row.items()} for row in rows)


def body(url: str) -> bytes:
    """The very bytes that a page's newest record holds, found to be those of its digest."""
    from tidemill.records.warc import Place, bodies

    with index() as database:
        newest = database.execute(
            f"SELECT {', '.join(COLUMNS)} FROM pages WHERE uri = ? OR (uri >= ? AND uri < ?) "
            "ORDER BY fetched DESC LIMIT 1",
            _within(url),
        ).fetchone()
    if newest is None:
        raise Refused(
            f"no version was made from {url}; tidemill trace APPLICATION lists a version's pages"
        )
    row = _page(newest)
    page = urldefrag(row["uri"]).url
    place = Place(uri=page, raw_file=row["raw_file"], raw_locator=row["raw_locator"])
    for _, content in bodies(paths.data("raw", row["source"]), [place]):
        if hashlib.sha256(content).hexdigest() != row["raw_digest"]:
            raise Fault(
                f"the bytes of {url} in data/raw/{row['source']}/{row['raw_file']} are not those "
                f"of its digest {row['raw_digest'][:12]}; the file is damaged"
            )
        return content
    raise Fault(
        f"data/raw/{row['source']}/{row['raw_file']} has no record of {url}; the file is damaged"
    )


def forget(application: str, version: str) -> None:
    """Leave a version out of the index, and pages that no other version has."""
    with index() as database:
        database.execute(
            "DELETE FROM versions WHERE application = ? AND version = ?", (application, version)
        )
        database.execute("DELETE FROM snapshots WHERE id NOT IN (SELECT snapshot FROM versions)")
        database.execute("DELETE FROM rows WHERE snapshot NOT IN (SELECT id FROM snapshots)")
        database.execute("DELETE FROM pages WHERE id NOT IN (SELECT page FROM rows)")
