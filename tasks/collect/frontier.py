"""What is known of every address and every host of a source.

It is in SQLite under .tidemill/: PENDING, LEASED, ACKED.

A page is leased before it is asked for, together with its host's next allowed time, and
acknowledged when its WARC record is on disk. Whatever is killed between finds the page pending
again, or its record in the open segment. All of it but the hosts' times can be made anew from
data/raw.
"""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

from tidemill.records.receipts import Collected
from tidemill.records.warc import DecisionRow, ManifestRow, StatementRow
from tidemill.runtime.files import sha256
from tidemill.web import urls

log = logging.getLogger(__name__)

PENDING, LEASED, ACKED = 0, 1, 2
PAGE, SITEMAP, FEED = 0, 1, 2
KINDS = {"page": PAGE, "sitemap": SITEMAP, "feed": FEED}
VERSION = 1
SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE nights (id INTEGER PRIMARY KEY, began REAL NOT NULL, ended REAL, report TEXT);
CREATE TABLE hosts (
    id INTEGER PRIMARY KEY, site TEXT NOT NULL UNIQUE,
    next_at REAL NOT NULL DEFAULT 0,      -- of the clock: when it may be asked again
    delay REAL NOT NULL DEFAULT 0, latency REAL NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    asked REAL NOT NULL DEFAULT 0, night INTEGER NOT NULL DEFAULT 0,
    standing TEXT NOT NULL DEFAULT '',    -- of its robots.txt
    pages INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0  -- of this night
);
CREATE TABLE files (
    host INTEGER, name TEXT, status INTEGER, fetched TEXT, sha256 TEXT, body BLOB,
    PRIMARY KEY (host, name)
) WITHOUT ROWID;
CREATE TABLE pages (
    id INTEGER PRIMARY KEY, uri TEXT NOT NULL UNIQUE, host INTEGER NOT NULL,
    kind INTEGER NOT NULL DEFAULT 0, state INTEGER NOT NULL DEFAULT 0,
    rank INTEGER NOT NULL DEFAULT 0,      -- lists first, then by depth
    hops INTEGER NOT NULL DEFAULT 0, listed INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, after REAL NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0, first REAL NOT NULL DEFAULT 0, visited REAL NOT NULL DEFAULT 0,
    visits INTEGER NOT NULL DEFAULT 0, changes INTEGER NOT NULL DEFAULT 0,
    gone INTEGER NOT NULL DEFAULT 0, night INTEGER NOT NULL DEFAULT 0,
    status INTEGER, etag TEXT, modified TEXT, sha256 TEXT, text TEXT, stored TEXT,
    decision TEXT, reason TEXT, signals TEXT
);
CREATE INDEX waiting ON pages (host, rank, id) WHERE state = 0;
CREATE INDEX taken ON pages (id) WHERE state = 1;
CREATE TABLE staged (uri TEXT PRIMARY KEY, row TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE segments (name TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE counts (
    reason TEXT, site TEXT, night INTEGER, count INTEGER NOT NULL,
    PRIMARY KEY (night, site, reason)
) WITHOUT ROWID;
"""
LEASE = (
    "id, uri, kind, rank, hops, listed, attempts, visits, changes, gone, status, etag, modified,"
    " sha256, text, stored, first, visited"
)


class PageChange(TypedDict, total=False):
    """Columns of a page that a visit changes."""

    status: int  # -1: it failed
    visited: float  # seconds since 1970, as the other times
    first: float
    due: float
    visits: int  # after the first
    changes: int
    gone: int  # nights in a row that it was not there
    decision: str | None
    reason: str | None
    signals: str | None
    sha256: str | None
    etag: str | None
    modified: str | None
    text: str | None
    stored: str | None  # its row of the manifest as JSON


NOT_STORED: PageChange = {
    "sha256": None,
    "etag": None,
    "modified": None,
    "text": None,
    "stored": None,
}
"""Of a page whose bytes are not in the manifest any more."""


class Lease(NamedTuple):
    """One address to visit, and what was known of it."""

    id: int
    uri: str
    kind: int
    rank: int
    hops: int
    listed: int
    attempts: int
    visits: int
    changes: int
    gone: int
    status: int | None
    etag: str | None
    modified: str | None
    sha256: str | None
    text: str | None
    stored: str | None
    first: float
    visited: float


class Found(NamedTuple):
    """An address to add."""

    uri: str
    kind: int = PAGE
    rank: int = 0
    hops: int = 0
    listed: bool = False
    modified: float | None = None


class Frontier:
    """The frontier of one source. Nothing is durable before `commit`."""

    def __init__(self, path: Path, raw_folder: Path) -> None:
        self.path, self.raw = path, raw_folder
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.db = self._open()
        except sqlite3.DatabaseError as error:
            log.warning(
                "the frontier %s cannot be read (%s); it is made anew from %s",
                path.name,
                error,
                raw_folder.name,
            )
            for stale in path.parent.glob(path.name + "*"):
                stale.unlink()
            self.db = self._open()
        self.hosts: dict[str, int] = {
            site: number for number, site in self.db.execute("SELECT id, site FROM hosts")
        }
        self.new_hosts: set[str] = set()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None)
        db.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -32768;"
            " PRAGMA temp_store = FILE; PRAGMA wal_autocheckpoint = 4000;"
        )
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"its form is {version}, this code's {VERSION}")
        elif db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("it is damaged")
        db.execute("BEGIN")
        return db

    def commit(self) -> None:
        """What was done so far survives the process."""
        self.db.execute("COMMIT")
        self.db.execute("BEGIN")

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All that is done within, or, where it raises, nothing of it."""
        self.db.execute("SAVEPOINT one")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK TO one")
            raise
        finally:
            self.db.execute("RELEASE one")

    def close(self) -> None:
        self.commit()
        self.db.execute("COMMIT")
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.db.close()

    # A night -------------------------------------------------------------------------------------

    def night(self, now: float, most_hours: float) -> tuple[int, bool]:
        """This night's number, and whether it goes on with one that did not end."""
        row = self.db.execute(
            "SELECT id, began FROM nights WHERE ended IS NULL ORDER BY id DESC LIMIT 1"
        ).fetchone()
        self.db.execute("UPDATE pages SET state = 0 WHERE state = 1")
        if row and now - row[1] < most_hours * 3600:
            self.db.execute(
                """UPDATE pages SET state = 0, attempts = 0, after = 0
                WHERE night = ? AND status = -1""",
                (row[0],),
            )
            return row[0], True
        self.db.execute("UPDATE nights SET ended = ? WHERE ended IS NULL", (now,))
        # What the last night left waiting is found again by this one, where it is still listed or
        # linked.
        number = self.db.execute("INSERT INTO nights (began) VALUES (?)", (now,)).lastrowid
        assert number is not None
        self.db.execute("UPDATE pages SET attempts = 0, after = 0 WHERE state = 0")
        self.db.execute("UPDATE hosts SET pages = 0, bytes = 0")
        return number, False

    def end(self, night: int, now: float, report: Collected) -> None:
        self.db.execute(
            "UPDATE nights SET ended = ?, report = ? WHERE id = ?",
            (now, json.dumps(report.model_dump(), sort_keys=True), night),
        )
        self.db.execute("DELETE FROM counts WHERE night < ?", (night - 30,))
        self.db.execute("DELETE FROM nights WHERE id < ?", (night - 400,))

    def count(self, night: int, site: str, reason: str, times: int = 1) -> None:
        self.db.execute(
            """INSERT INTO counts VALUES (?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET count = count + excluded.count""",
            (reason, site, night, times),
        )

    def counted(self, night: int) -> list[tuple[str, str, int]]:
        """(site, reason, count) of a night, what a killed process counted included."""
        return self.db.execute(
            "SELECT site, reason, count FROM counts WHERE night = ? ORDER BY 1, 2", (night,)
        ).fetchall()

    def asked(self) -> int:
        """Pages that this night has asked for."""
        return self.db.execute("SELECT coalesce(sum(pages), 0) FROM hosts").fetchone()[0]

    def forget_failures(self, night: int) -> None:
        """A night that is taken up again asks for what failed, and counts it again."""
        self.db.execute(
            "DELETE FROM counts WHERE night = ? AND (reason LIKE 'failed%' OR reason = 'lists "
            "failed')",
            (night,),
        )

    def due(self, now: float, night: int) -> None:
        """Let every page whose time has come wait to be visited."""
        self.db.execute(
            """UPDATE pages SET state = 0, attempts = 0, after = 0
            WHERE state = 2 AND kind = 0 AND due <= ? AND night < ? AND (sha256 IS NOT NULL
                OR status = -1 OR status BETWEEN 300 AND 399 OR decision = 'refused')""",
            (now, night),
        )

    def rest(self) -> None:
        """Nothing waits any more but what is listed again."""
        self.db.execute("UPDATE pages SET state = 2 WHERE state = 0")

    # Hosts ---------------------------------------------------------------------------------------

    def pace(self, number: int) -> tuple[float, float, int, int, int]:
        """A host's next time, latency and failures; and its pages and bytes of this night."""
        return self.db.execute(
            "SELECT next_at, latency, failures, pages, bytes FROM hosts WHERE id = ?", (number,)
        ).fetchone()

    def paced(
        self, number: int, next_at: float, latency: float, failures: int, pages: int, size: int
    ) -> None:
        self.db.execute(
            """UPDATE hosts SET next_at = ?, latency = ?, failures = ?, pages = ?, bytes = ?
            WHERE id = ?""",
            (next_at, latency, failures, pages, size, number),
        )

    def wait_until(self, number: int, next_at: float, failures: int) -> None:
        """When a host may be asked again."""
        self.db.execute(
            "UPDATE hosts SET next_at = ?, failures = ? WHERE id = ?", (next_at, failures, number)
        )

    def standing(self, number: int) -> tuple[int, float, str]:
        """The night in which a host's robots.txt was asked for last, when, and what it meant."""
        return self.db.execute(
            "SELECT night, asked, standing FROM hosts WHERE id = ?", (number,)
        ).fetchone()

    def stands(self, number: int, night: int, at: float, standing: str, delay_s: float) -> None:
        self.db.execute(
            "UPDATE hosts SET night = ?, asked = ?, standing = ?, delay = ? WHERE id = ?",
            (night, at, standing, delay_s, number),
        )

    def files(self, number: int) -> dict[str, bytes]:
        """What a host's own files said when they could last be had."""
        return dict(
            self.db.execute(
                "SELECT name, body FROM files WHERE host = ? AND status = 200", (number,)
            )
        )

    def file(self, number: int, name: str, status: int, fetched: str, body: bytes) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
            (number, name, status, fetched, hashlib.sha256(body).hexdigest(), body),
        )

    def statements(self) -> Iterator[StatementRow]:
        """Every file of every host."""
        for row in self.db.execute(
            """SELECT hosts.site, name, status, fetched, sha256, body
            FROM files JOIN hosts ON hosts.id = files.host ORDER BY 1, 2"""
        ):
            yield StatementRow(*row)

    def waiting(self, number: int) -> int:
        """How many of a host's addresses wait."""
        return self.db.execute(
            "SELECT count(*) FROM pages WHERE state = 0 AND host = ?", (number,)
        ).fetchone()[0]

    # Addresses -----------------------------------------------------------------------------------

    def host(self, site: str) -> int:
        number = self.hosts.get(site)
        if number is None:
            number = self.db.execute("INSERT INTO hosts (site) VALUES (?)", (site,)).lastrowid
            assert number is not None
            self.hosts[site] = number
        return number

    def add(self, found: Iterable[Found], night: int, now: float) -> None:
        """Take addresses up.

        New ones wait; known ones wait where they are due, or changed since our visit by their
        list's word.
        """
        for item in found:
            site = urls.site(item.uri)
            number = self.host(site)
            done = self.db.execute(
                """INSERT INTO pages (uri, host, kind, rank, hops, listed) VALUES (?, ?, ?, ?, ?, ?)
                ON CONFLICT (uri) DO UPDATE SET
                    state = CASE WHEN state = 2 AND night < ?
                        AND (excluded.kind > 0 OR due <= ? OR ? > visited) THEN 0 ELSE state END,
                    attempts = CASE WHEN state = 2 AND night < ? THEN 0 ELSE attempts END,
                    rank = min(rank, excluded.rank), listed = max(listed, excluded.listed),
                    hops = CASE WHEN night < ? THEN excluded.hops
                        ELSE min(hops, excluded.hops) END
                WHERE night < ? OR listed < excluded.listed""",
                (
                    item.uri,
                    number,
                    item.kind,
                    item.rank - (1 if item.kind else 0),
                    item.hops,
                    night if item.listed else 0,
                    night,
                    now,
                    item.modified or 0.0,
                    night,
                    night,
                    night,
                ),
            )
            if done.rowcount:
                self.new_hosts.add(site)

    def take(self, host: int, most: int, now: float) -> list[Lease]:
        """Lease a host's next addresses."""
        rows = self.db.execute(
            f"""SELECT {LEASE} FROM pages WHERE state = 0 AND host = ? AND after <= ?
            ORDER BY rank, id LIMIT ?""",
            (host, now, most),
        ).fetchall()
        self.db.executemany("UPDATE pages SET state = 1 WHERE id = ?", [(row[0],) for row in rows])
        return [Lease(*row) for row in rows]

    def sooner(self, host: int) -> float | None:
        """When the next of a host's addresses may be tried again; None where none waits."""
        return self.db.execute(
            "SELECT min(after) FROM pages WHERE state = 0 AND host = ?", (host,)
        ).fetchone()[0]

    def again(self, lease: Lease, after: float) -> None:
        """Give a lease back, to be tried once more from `after` on."""
        self.db.execute(
            "UPDATE pages SET state = 0, attempts = attempts + 1, after = ? WHERE id = ?",
            (after, lease.id),
        )

    def give_back(self, lease: Lease) -> None:
        self.db.execute("UPDATE pages SET state = 0 WHERE id = ?", (lease.id,))

    def done(self, number: int, night: int, **changed: Unpack[PageChange]) -> None:
        """Acknowledge an address with what is known of it now."""
        names = ", ".join(f"{name} = ?" for name in changed)
        self.db.execute(
            f"UPDATE pages SET state = 2, night = ?{', ' + names if names else ''} WHERE id = ?",
            (night, *changed.values(), number),
        )

    def lease_of(self, uri: str) -> Lease | None:
        row = self.db.execute(f"SELECT {LEASE} FROM pages WHERE uri = ?", (uri,)).fetchone()
        return Lease(*row) if row else None

    def waiting_hosts(self) -> list[str]:
        return [
            row[0]
            for row in self.db.execute(
                """SELECT site FROM hosts
                WHERE EXISTS (SELECT 1 FROM pages WHERE state = 0 AND host = hosts.id)"""
            )
        ]

    def number(self, states: tuple[int, ...] = (PENDING, LEASED)) -> int:
        return sum(
            self.db.execute("SELECT count(*) FROM pages WHERE state = ?", (state,)).fetchone()[0]
            for state in states
        )

    # Pages and their canonical addresses ---------------------------------------------------------

    def settled(self, uri: str, night: int) -> str:
        """What an address came to this night: stored, refused by a signal, none of these.

        Or waits, or unknown.
        """
        row = self.db.execute(
            """SELECT state, night, sha256,
                decision = 'refused' AND (signals IS NOT NULL OR reason LIKE '%(%): %')
            FROM pages WHERE uri = ?""",
            (uri,),
        ).fetchone()
        if row is None:
            return "unknown"
        if row[2] is not None:
            return "stored"
        if row[0] != ACKED or row[1] != night:
            return "waits"
        return "refused" if row[3] else "none"

    def copies(self, night: int, prefix: str) -> Iterator[tuple[str, str]]:
        """Pages that this night took for copies, each with its canonical address."""
        for uri, reason in self.db.execute(
            """SELECT uri, reason FROM pages
            WHERE night = ? AND sha256 IS NULL AND substr(reason, 1, ?) = ?""",
            (night, len(prefix), prefix),
        ):
            yield uri, reason.removeprefix(prefix)

    def keep_itself(self, uri: str, hops: int) -> None:
        """Let a page be asked for once more.

        It has so many hops behind it that it is followed nowhere.
        """
        self.db.execute(
            """UPDATE pages SET state = 0, attempts = 0, after = 0, hops = ?, decision = NULL,
            reason = NULL WHERE uri = ? AND state = 2""",
            (hops, uri),
        )

    # What was stored -----------------------------------------------------------------------------

    def segments(self) -> dict[str, int]:
        """The segments of this night, and up to where their records were acknowledged, in bytes."""
        return dict(self.db.execute("SELECT name, size FROM segments"))

    def segment(self, name: str, size: int) -> None:
        self.db.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (name, size))

    def stored(self, number: int, row: ManifestRow) -> None:
        self.db.execute("UPDATE pages SET stored = ? WHERE id = ?", (json.dumps(row), number))

    def lost(self, uri: str) -> None:
        """Forget what was staged of a page whose segment was taken away; it is asked for again."""
        self.db.execute("DELETE FROM staged WHERE uri = ?", (uri,))
        self.db.execute(
            """UPDATE pages SET state = 0, sha256 = NULL, etag = NULL, modified = NULL,
            stored = NULL WHERE uri = ?""",
            (uri,),
        )

    def stage(self, row: ManifestRow) -> None:
        """Keep a row for the manifest that this night will write."""
        self.db.execute(
            "INSERT OR REPLACE INTO staged VALUES (?, ?)", (row["uri"], json.dumps(row))
        )

    def staged(self) -> Iterator[ManifestRow]:
        for (text,) in self.db.execute("SELECT row FROM staged ORDER BY uri"):
            yield json.loads(text)

    def gone_from_lists(self, night: int, hosts: Iterable[str]) -> int:
        """Stage every stored page that no list named this night as gone; how many."""
        count = 0
        named = set(hosts)
        left: PageChange = {**NOT_STORED, "status": 410}
        for uri, number, row in self.db.execute(
            """SELECT uri, id, stored FROM pages
            WHERE kind = 0 AND sha256 IS NOT NULL AND gone >= 0 AND listed < ?""",
            (night,),
        ).fetchall():
            if urls.host(uri) in named and row:
                stored: ManifestRow = json.loads(row)
                self.stage({**stored, "status": 410, "signals": "no longer listed"})
                self.done(number, night, **left)
                count += 1
        return count

    def published(self, manifest: Path) -> None:
        """The staged rows are in the manifest now."""
        self.db.execute("DELETE FROM staged")
        self.db.execute("DELETE FROM segments")
        self.note("manifest", sha256(manifest) if manifest.is_file() else "")

    def note(self, name: str, value: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    def noted(self, name: str) -> str | None:
        row = self.db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def agree(self, rows: Iterable[ManifestRow], manifest: Path) -> bool:
        """Make the frontier say what the manifest says, where they differ.

        The manifest is what we have.

        True where it did something.
        """
        there = sha256(manifest) if manifest.is_file() else ""
        if self.noted("manifest") == there:
            return False
        self.db.execute(
            """UPDATE pages SET sha256 = NULL, etag = NULL, modified = NULL, text = NULL,
            stored = NULL, due = 0 WHERE sha256 IS NOT NULL"""
        )
        for row in rows:
            if row["status"] == 200 and row["uri"].startswith(("http://", "https://")):
                self._known(row)
        self.note("manifest", there)
        return True

    def _known(self, row: ManifestRow) -> None:
        """A page as the manifest has it."""
        when = datetime.fromisoformat(row["fetched"].replace("Z", "+00:00")).timestamp()
        self.db.execute(
            """INSERT INTO pages
                (uri, host, state, status, etag, modified, sha256, stored, first, visited)
            VALUES (?, ?, 2, 200, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (uri) DO UPDATE SET status = 200, etag = excluded.etag,
                modified = excluded.modified, sha256 = excluded.sha256,
                stored = excluded.stored""",
            (
                row["uri"],
                self.host(urls.site(row["uri"])),
                row["etag"],
                row["modified"],
                row["sha256"],
                json.dumps(row),
                when,
                when,
            ),
        )

    def decisions(self) -> Iterator[DecisionRow]:
        """One record for each address that was decided on, in the order of the addresses."""
        for row in self.db.execute(
            """SELECT uri, decision, reason, signals FROM pages
            WHERE decision IS NOT NULL ORDER BY uri"""
        ):
            yield DecisionRow(*row)


class NightReport(TypedDict):
    """How a night ended: the counts of its receipt, `Collected`, and when that was."""

    ended: str  # UTC, ISO 8601
    records: int
    fetched: int
    unchanged: int
    failed: int
    refused: int
    gone: int
    reasons: dict[str, int]
    waiting: dict[str, str]


class Answered(NamedTuple):
    """What a frontier says of one address, its host and the night's reasons."""

    decision: str | None
    reason: str | None
    signals: str | None
    standing: str
    delay_s: float
    files: dict[str, int]  # the site's own, by their answers' status
    bodies: dict[str, bytes]
    moved: list[str]
    reasons: list[str]


def answered(path: Path, uri: str) -> Answered:
    """What the frontier at `path` says of an address."""
    with closing(sqlite3.connect(path)) as db:
        page = db.execute(
            "SELECT decision, reason, signals FROM pages WHERE uri = ?", (uri,)
        ).fetchone() or (None, None, None)
        host = db.execute(
            "SELECT id, standing, delay FROM hosts WHERE site = ?", (urls.site(uri),)
        ).fetchone() or (0, "", 0.0)
        files = db.execute(
            "SELECT name, status, body FROM files WHERE host = ?", (host[0],)
        ).fetchall()
        moved = db.execute("SELECT uri FROM pages WHERE uri <> ? AND hops > 0", (uri,)).fetchall()
        reasons = db.execute("SELECT reason FROM counts WHERE reason LIKE '%:%'").fetchall()
    decision, reason, signals = page
    return Answered(
        decision,
        reason,
        signals,
        host[1],
        host[2],
        {name: status for name, status, _ in files},
        {name: body for name, status, body in files if status == 200},
        [row[0] for row in moved],
        [row[0].partition(":")[2] for row in reasons],
    )


def last_report(path: Path) -> NightReport | None:
    """The report of the last night that ended, with its time; None where there is none."""
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            row = db.execute(
                """SELECT ended, report FROM nights WHERE report IS NOT NULL
                ORDER BY id DESC LIMIT 1"""
            ).fetchone()
    except sqlite3.DatabaseError:  # another process writes its first
        return None
    if row is None:
        return None
    ended = datetime.fromtimestamp(row[0], UTC).isoformat(timespec="seconds")
    report: NightReport = json.loads(row[1])
    return {**report, "ended": ended}
