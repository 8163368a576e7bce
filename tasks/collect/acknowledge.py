"""What became of each visit, brought into the frontier once its record is on disk."""

import logging
import sqlite3

from tasks.collect.fetch import Answer
from tasks.collect.frontier import FEED, PAGE, Found, Lease
from tasks.collect.intake import Intake
from tasks.collect.interpret import COPY, HOPS, Outcome
from tasks.collect.journal import Journal
from tasks.collect.night import CrawlNight, Tally
from tasks.collect.turns import Turns
from tidemill.runtime.encodable import of_bytes
from tidemill.web import optout, urls

log = logging.getLogger(__name__)

# What the words of one answer may raise. A full disk or a broken database is the night's own fault.
ITS_OWN = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    AssertionError,
    AttributeError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
)


def failed(reason: str, at: float) -> Outcome:
    return Outcome("failed", reason, changed={"status": -1, "visited": at, "due": 0})


def unhandled(uri: str, error: Exception, at: float) -> Outcome:
    """An answer that nobody foresaw.

    Its address fails, named and counted, and the night is the others'.
    """
    log.warning("%s: its answer cannot be handled", uri, exc_info=error)
    return failed(f"its answer cannot be handled: {type(error).__name__}", at)


class Acknowledgements:
    """Outcomes that wait for the disk, and what follows from them."""

    def __init__(
        self, night: CrawlNight, tally: Tally, turns: Turns, intake: Intake, journal: Journal
    ) -> None:
        self.night, self.tally, self.turns = night, tally, turns
        self.intake, self.journal, self.frontier = intake, journal, night.frontier
        self.settled: list[tuple[Lease, Outcome]] = []
        self.in_hand: dict[int, Lease] = {}  # leases of requests that are under way
        self.listed_all = True  # every list was read to its end
        self.copies: dict[str, set[str]] = {}  # by canonical address: pages that wait for it

    def resume(self) -> None:
        """Take up what a killed process knew of lists and copies."""
        self.frontier.note("unlisted", "")
        for uri, canonical in self.frontier.copies(self.night.number, COPY):
            self.copies.setdefault(canonical, set()).add(uri)

    def settle(self, lease: Lease, outcome: Outcome) -> None:
        self.in_hand.pop(lease.id, None)
        self.settled.append((lease, outcome))

    def again(self, lease: Lease, after: float) -> None:
        """Give an address back, to be asked for once more from `after` on."""
        self.in_hand.pop(lease.id, None)
        self.frontier.again(lease, after)

    def flush(self) -> None:
        """Acknowledge what was settled: first the segments to disk, then the frontier."""
        self.journal.sync()
        settled, self.settled = self.settled, []
        for lease, outcome in settled:
            self.apply(lease, outcome)
        self.tally.flush()
        self.turns.flush()
        self.frontier.commit()
        self.turns.durable = False
        self.journal.roll()

    def give_back(self) -> None:
        """What was asked for and did not come back waits again."""
        for lease in self.in_hand.values():
            self.frontier.give_back(lease)
        self.in_hand.clear()
        self.turns.give_back()

    def apply(self, lease: Lease, outcome: Outcome) -> None:
        """One acknowledgement in the frontier, whole or as a failure of its address."""
        try:
            with self.frontier.whole():
                self._write(lease, outcome)
        except ITS_OWN as error:
            outcome = unhandled(lease.uri, error, self.night.clock.now())
            self._write(lease, outcome)
        self.intake.take(outcome.found)
        self._count(lease, outcome)
        if lease.kind == PAGE:
            self._follow(lease.uri, outcome)

    def _write(self, lease: Lease, outcome: Outcome) -> None:
        self.frontier.done(lease.id, self.night.number, **outcome.changed)
        if outcome.row is None:
            return
        if outcome.row["status"] == 200:
            self.frontier.stored(lease.id, outcome.row)
        self.frontier.stage(outcome.row)

    def _count(self, lease: Lease, outcome: Outcome) -> None:
        if outcome.kind == "listed":
            return
        site, kind, why = urls.site(lease.uri), outcome.kind, outcome.why
        if lease.kind != PAGE and kind in ("failed", "refused", "gone"):
            self.listed_all = False
            self.frontier.note("unlisted", str(self.night.number))
            if kind == "gone":
                what = "feed" if lease.kind == FEED else "sitemap"
                kind, why = "failed", f"{what} answered {why}"
            if kind == "failed":
                self.tally.count(site, "lists failed")  # they count apart from pages
        name = "fetched" if kind == "stored" else kind
        self.tally.count(site, name, why if kind in ("refused", "failed", "gone") else "")

    def _follow(self, uri: str, outcome: Outcome) -> None:
        """Where a canonical address cannot be had, the pages that named it are kept themselves."""
        waiting = self.copies.pop(uri, set())
        if outcome.kind in ("stored", "unchanged") or outcome.by_signal:
            return
        there = outcome.why if outcome.kind == "moved" else ""
        followers = waiting | ({uri} if outcome.copy else set())
        if not followers:
            return
        became = self.frontier.settled(there, self.night.number) if there else "unknown"
        if became == "waits" and there not in waiting:
            self.copies.setdefault(there, set()).update(followers)
        elif became in ("unknown", "none", "waits"):
            for page in [uri] if outcome.copy else sorted(waiting):
                self.frontier.keep_itself(page, HOPS)
                self.turns.queue(self.turns.host(urls.site(page)))
            if outcome.copy and waiting:  # it is asked for again, and they wait for it as before
                self.copies[uri] = waiting

    def replay(self, name: str, offset: int, uri: str, fetched: str, message: bytes) -> None:
        """Acknowledge a page whose record was on disk when its night was killed."""
        frontier, now = self.frontier, self.night.clock.now()
        if frontier.lease_of(uri) is None:
            frontier.add([Found(uri, listed=True)], self.night.number, now)
        lease = frontier.lease_of(uri)
        assert lease is not None
        try:
            answer = recorded(message)
            said = optout.of_site(
                frontier.files(frontier.host(urls.site(uri))), uri, self.night.token
            )
            outcome = self.night.reader.understood(lease, answer, said, now, fetched)
        except ITS_OWN as error:
            log.warning("%s: its record in %s cannot be handled", uri, name, exc_info=error)
            return
        if outcome.kind == "stored" and outcome.row is not None:
            outcome.row["raw_file"], outcome.row["raw_locator"] = name, str(offset)
            self.apply(lease, outcome)


def recorded(message: bytes) -> Answer:
    """An answer as a WARC record keeps it."""
    head, _, body = message.partition(b"\r\n\r\n")
    first, *lines = of_bytes(head).split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    headers = [(key, value) for key, _, value in pairs if key.lower() != "content-length"]
    return Answer(int(first.split(" ")[1]), headers, body)
