"""What one night over a source of pages keeps: where it goes on, what it acknowledges, and what it leaves when it is over."""

import asyncio
import heapq
import json
import logging
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.collect.fetch import Answer, Fetcher
from tasks.collect.frontier import FEED, PAGE, SITEMAP, Found, Frontier, Lease
from tasks.collect.interpret import Outcome, understood
from tasks.collect.politeness import Address, Clock, Host
from tasks.collect.resolver import Names
from tasks.collect.scope import Scope
from tidemill.engines.config.schema import Collect, OptOut, Source
from tidemill.records import warc
from tidemill.records.receipts import Collected
from tidemill.runtime import process
from tidemill.runtime.errors import Fault, Refused
from tidemill.web import optout, urls

log = logging.getLogger(__name__)

TOLD_S = 0.5
RESUME_HOURS = 12.0  # within which a night that was cut off goes on
SEEN = 200_000  # addresses remembered as taken up, so that the frontier is not asked for each link
FIELDS = ("fetched", "unchanged", "refused", "failed", "gone")


def agent(settings: Collect) -> str:
    return settings.user_agent + (f" (+{settings.contact})" if settings.contact else "")


def token(settings: Collect) -> str:
    """The product token that robots.txt knows us by."""
    return settings.user_agent.split("/")[0]


class Night:
    """A night's state, in the frontier and in the open segment. `mirrors` leads names to places of our own."""

    frontier: Frontier
    fetcher: Fetcher
    night: int

    def __init__(
        self,
        source: Source,
        settings: Collect,
        policy: OptOut,
        folder: Path,
        state: Path,
        mirrors: dict[str, tuple[str, int]] | None = None,
        quiet: bool = False,
    ) -> None:
        self.source, self.settings, self.policy, self.folder, self.state = (
            source,
            settings,
            policy,
            folder,
            state,
        )
        self.quiet = quiet
        self.agent, self.token = agent(settings), token(settings)
        self.names = Names(source.allow_loopback, mirrors)
        self.scope = Scope(source, settings, set(mirrors or {}))
        self.clock = Clock()
        self.hosts: dict[str, Host] = {}
        self.addresses: dict[str, Address] = {}
        self.heap: list[tuple[float, int, Host]] = []
        self.turns = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.wake = asyncio.Event()
        self.acks: list[tuple[Lease, Outcome]] = []
        self.tally: Counter[tuple[str, str]] = Counter()  # (site, what) since the last flush
        self.counts: Counter[str] = Counter()  # of the night
        self.reasons: Counter[str] = Counter()
        self.seen: set[str] = set()
        self.texts: Counter[str] = Counter()
        self.segment: warc.Segment | None = None
        self.revisits: warc.Segment | None = None
        self.listed_all = True
        self.flushed = self.told = self.totalled = self.ends = 0.0
        self.asked = self.left = 0
        self.durable = False  # something must be on disk before the next request
        self.broken: BaseException | None = None

    def _recover(self, anew: bool) -> None:
        """Take up what a killed night left in its segments: whole records count, a cut one is asked for again."""
        for part in self.folder.glob(".*.part"):  # half a table
            part.unlink()
        names = warc.opened(self.folder)
        known = dict(self.frontier.db.execute("SELECT name, size FROM segments"))
        named, times = set(known), dict[str, str]()
        if anew:  # the frontier is new, or data/raw another: closed segments that no manifest names may hold pages
            for row in warc.each(self.folder):
                named.add(row["raw_file"])
                times[row["uri"]] = row["fetched"]
            names = [
                path.name
                for path in sorted(self.folder.glob("segment-*.warc.gz"))
                if path.name not in named
            ] + names
        there = set(names) | {path.name for path in self.folder.glob("segment-*.warc.gz")}
        for row in list(self.frontier.staged()):
            if row["raw_file"] not in there:  # its segment was taken away
                self.frontier.db.execute("DELETE FROM staged WHERE uri = ?", (row["uri"],))
                self.frontier.db.execute(
                    "UPDATE pages SET state = 0, sha256 = NULL, etag = NULL, modified = NULL, stored = NULL WHERE uri = ?",
                    (row["uri"],),
                )
        for name in names:
            count = 0
            for offset, uri, fetched, message in warc.mend(self.folder, name, known.get(name, 0)):
                if times.get(uri, "") < fetched:  # else the manifest knows later of it
                    self._replay(name, offset, uri, fetched, message)
                    count += 1
            size = warc.length(self.folder, name)
            self.frontier.db.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (name, size))
            if count:
                log.info(
                    "%s: %d pages of a night that was cut off were in %s",
                    self.source.name,
                    count,
                    name,
                )
        growing = [name for name in names if (self.folder / f".{name}.open").exists()]
        for name in growing:
            self.segment = warc.Segment(self.folder, self.agent, name)
            if name != growing[-1] or self.segment.full:
                self.segment.close()
                self.segment = None
        self.frontier.commit()

    def _replay(self, name: str, offset: int, uri: str, fetched: str, message: bytes) -> None:
        """Acknowledge a page whose record was on disk when its night was killed."""
        if self.frontier.lease_of(uri) is None:
            self.frontier.add([Found(uri, listed=True)], self.night, self.clock.now())
        lease = self.frontier.lease_of(uri)
        assert lease is not None
        head, _, body = message.partition(b"\r\n\r\n")
        first, *rest = head.decode("utf-8", "surrogateescape").split("\r\n")
        headers = [
            (key, value)
            for key, _, value in (line.partition(": ") for line in rest)
            if key.lower() != "content-length"
        ]
        files = dict(
            self.frontier.db.execute(
                "SELECT name, body FROM files WHERE host = ? AND status = 200",
                (self.frontier.host(urls.site(uri)),),
            )
        )
        said = optout.of_site(files, uri, self.token)
        outcome = understood(
            lease,
            Answer(int(first.split(" ")[1]), headers, body),
            said,
            self.source,
            self.settings,
            self.policy,
            self.token,
            self.clock.now(),
            fetched,
        )
        if outcome.kind != "stored" or outcome.row is None:
            return
        outcome.row |= {"raw_file": name, "raw_locator": str(offset)}
        self._apply(lease, outcome)

    def _begin(self, again: bool) -> None:
        now = self.clock.now()
        if not again:
            if self.source.kind == "web" and not self.source.depth:
                self.frontier.rest()
            else:
                self.frontier.due(now, self.night)
        else:
            for _, what, count in self.frontier.counted(self.night):
                self._add_up(what, count)
            self.asked = self.frontier.db.execute(
                "SELECT coalesce(sum(pages), 0) FROM hosts"
            ).fetchone()[0]
            self._forget_failures()
            self.listed_all = self.frontier.noted("unlisted") != str(self.night)
        good, bad = seeds(self.source)
        for text in bad:
            self._count("", "failed", f"the seed {text!r} is no address of http or https")
        self._found(Found(there, kind, 0, 0, kind == PAGE) for there, kind in good)
        for site in self.frontier.waiting_hosts():
            self._queue(self._host(site))
        self.frontier.commit()

    def _forget_failures(self) -> None:
        """A night that goes on asks again for what failed, and counts it again."""
        self.frontier.db.execute(
            "DELETE FROM counts WHERE night = ? AND reason LIKE 'failed%'", (self.night,)
        )
        for name in [name for name in self.reasons if name.startswith("failed:")]:
            del self.reasons[name]
        del self.counts["failed"]
        self.frontier.note("unlisted", "")

    def _finish(self) -> Collected:
        """The manifest, what sites say of use and what was decided, each written where it moved; then the night is over."""
        if self.source.kind == "web" and not self.source.depth and self.listed_all:
            gone = self.frontier.gone_from_lists(self.night, self.source.hosts)
            self.counts["gone"] += gone
            if gone:
                self.reasons["gone:no longer listed"] += gone
                self.frontier.count(self.night, "", "gone", gone)
                self.frontier.count(self.night, "", "gone:no longer listed", gone)
        self._judge()
        for segment in (self.segment, self.revisits):
            if segment is not None:
                segment.close()
        self.segment = self.revisits = None
        digest, pages, _ = warc.merge(self.folder, self.frontier.staged)
        self.told = self.left = 0
        self._tell()
        warc.save_table(
            self.folder / "hosts.parquet",
            warc.HOSTS,
            self._statements(),
            key=("site", "name", "status", "sha256"),
        )
        warc.save_table(
            self.folder / "decisions.parquet",
            warc.DECISIONS,
            self.frontier.decisions(),
            key=("uri", "decision", "reason", "signals"),
        )
        hosts, waiting = self._by_host(), self._waiting()
        receipt = Collected(
            source=self.source.name,
            records=pages,
            raw=digest,
            bytes=self.counts["bytes"],
            hosts=hosts,
            waiting=waiting,
            reasons={
                name.partition(":")[2]: count
                for name, count in self.reasons.most_common(50)
                if name.startswith(("refused:", "failed:", "gone:", "trap:"))
            },
            **{name: self.counts[name] for name in FIELDS},
        )
        self.frontier.published(self.folder / "manifest.parquet")
        self.frontier.end(self.night, self.clock.now(), receipt.model_dump())
        self.frontier.commit()
        for stale in sorted((self.state / "revisits").glob("segment-*.warc.gz"))[:-14]:
            stale.unlink()
        return receipt

    def _judge(self) -> None:
        seen = sum(self.counts[name] for name in FIELDS) + self.counts["moved"]
        name, failed = self.source.name, self.counts["failed"]
        why = "; ".join(
            f"{count} x {reason.partition(':')[2]}"
            for reason, count in self.reasons.most_common(3)
            if ":" in reason
        )
        had = self.counts["fetched"] + self.counts["unchanged"] + self.counts["gone"]
        # A night on which nothing is due, or a site that by now refuses everything, was heard: that is no fault.
        calm = not failed and (self.folder / "manifest.parquet").exists()
        if not had and not calm and not self.frontier.number():
            raise Fault(
                f"source {name} is empty: {why or 'its sitemaps list no page'}; what was collected before stays",
                heals=bool(failed),
            )
        if failed and failed > self.source.max_failed * seen:
            raise Fault(
                f"source {name}: {failed} of {seen} pages failed ({why}), max_failed is {self.source.max_failed}; what was collected before stays",
                heals=True,
            )

    def _statements(self) -> Iterable[dict[str, Any]]:
        rows = self.frontier.db.execute(
            "SELECT hosts.site, name, status, fetched, sha256, body FROM files JOIN hosts ON hosts.id = files.host ORDER BY 1, 2"
        )
        for row in rows:
            yield dict(
                zip(("site", "name", "status", "fetched", "sha256", "body"), row, strict=True)
            )

    def _by_host(self) -> dict[str, dict[str, int]]:
        found: dict[str, Counter[str]] = {}
        for site, what, count in self.frontier.counted(self.night):
            if site and ":" not in what:
                found.setdefault(site, Counter())[what] += count
        busiest = sorted(found, key=lambda site: -sum(found[site][name] for name in FIELDS))[:50]
        return {site: dict(sorted(found[site].items())) for site in busiest}

    def _waiting(self) -> dict[str, str]:
        now = self.clock.now()
        found = {}
        for site in self.frontier.waiting_hosts()[:50]:
            host = self.hosts.get(site)
            left = self.frontier.db.execute(
                "SELECT count(*) FROM pages WHERE state = 0 AND host = ?",
                (self.frontier.host(site),),
            ).fetchone()[0]
            why = (host.why if host else "") or "budget"
            found[site] = f"{left} pages: {why}" + (
                f", {host.next_at - now:.0f} s" if host and host.next_at > now + 1 else ""
            )
        return found

    # What was found, and what is kept ----------------------------------------------------------------

    def _settle(self, lease: Lease, outcome: Outcome) -> None:
        self.acks.append((lease, outcome))

    def _flush(self) -> None:
        """Acknowledge what was settled: first the segments to disk, then the frontier."""
        self.flushed = self.clock.now()
        for segment in (self.segment, self.revisits):
            if segment is not None:
                size = segment.sync()
                if segment is self.segment:
                    self.frontier.db.execute(
                        "INSERT OR REPLACE INTO segments VALUES (?, ?)", (segment.name, size)
                    )
        acks, self.acks = self.acks, []
        for lease, outcome in acks:
            self._apply(lease, outcome)
        for (site, what), count in self.tally.items():
            self.frontier.count(self.night, site, what, count)
        self.tally.clear()
        for host in self.hosts.values():
            if host.pages:
                self.frontier.db.execute(
                    "UPDATE hosts SET next_at = ?, latency = ?, failures = ?, pages = ?, bytes = ? WHERE id = ?",
                    (host.next_at, host.latency_s, host.failures, host.pages, host.bytes, host.id),
                )
        self.frontier.commit()
        self.durable = False
        if self.segment is not None and self.segment.full:
            self.segment.close()
            self.segment = None
        if self.revisits is not None and self.revisits.full:
            self.revisits.close()
            self.revisits = None

    def _apply(self, lease: Lease, outcome: Outcome) -> None:
        """One acknowledgement in the frontier."""
        self.frontier.done(lease.id, self.night, **outcome.changed)
        if outcome.row is not None:
            if outcome.kind == "stored":
                outcome.row["raw_locator"] = str(outcome.row["raw_locator"])
                self.frontier.db.execute(
                    "UPDATE pages SET stored = ? WHERE id = ?", (json.dumps(outcome.row), lease.id)
                )
            self.frontier.stage(outcome.row)
        self._found(outcome.found)
        site = urls.site(lease.uri)
        if outcome.kind == "listed":
            return
        if lease.kind != PAGE and outcome.kind in ("failed", "refused", "gone"):
            self.listed_all = False
            self.frontier.note("unlisted", str(self.night))
            if outcome.kind == "gone":
                outcome.kind, outcome.why = (
                    "failed",
                    f"{'feed' if lease.kind == FEED else 'sitemap'} answered {outcome.why}",
                )
        name = {"stored": "fetched"}.get(outcome.kind, outcome.kind)
        self._count(
            site, name, outcome.why if outcome.kind in ("refused", "failed", "gone") else ""
        )

    def _count(self, site: str, name: str, why: str = "") -> None:
        for what in (name, f"{name}:{why}") if why else (name,):
            self.tally[site, what] += 1
            self._add_up(what, 1)

    def _add_up(self, what: str, count: int) -> None:
        (self.reasons if ":" in what else self.counts)[what] += count

    def _found(self, found: Iterable[Found]) -> None:
        """Take up what was found, where it is of this source and no trap."""
        taken = []
        for item in found:
            if not item.listed and item.kind == PAGE and item.uri in self.seen:
                continue
            if len(self.seen) > SEEN:
                self.seen.clear()
                self.scope.shapes.clear()
            self.seen.add(item.uri)
            why = self.scope.why_not(item.uri)
            if why is None and not item.listed and item.rank > 0:
                why = self.scope.trap(item.uri)
                if why:
                    self._count(urls.site(item.uri), "trap", why)
                    continue
            if why is None:
                taken.append(item)
            elif item.listed or item.kind != PAGE or item.hops:
                self._count(urls.site(item.uri), "refused", why)
            elif why not in ("host not in hosts", "port not in ports", "path not in allow"):
                self._count(urls.site(item.uri), "trap", why)
        self.frontier.add(taken, self.night, self.clock.now())
        for site in self.frontier.new_hosts:
            self._queue(self._host(site))
        self.frontier.new_hosts.clear()

    def _give_back(self) -> None:
        """What was leased and not asked for waits again."""
        for host in self.hosts.values():
            while host.leases:
                self.frontier.give_back(host.leases.popleft())

    def _leave(self) -> None:
        """Let segments that are growing still lie as they are; the next process goes on with them."""
        for segment in (self.segment, self.revisits):
            if segment is not None:
                with suppress(OSError):  # a full disk has been told already
                    segment.leave()

    def _host(self, site: str) -> Host:
        """A host, with what an earlier process knew of it."""
        host = self.hosts.get(site)
        if host is None:
            number = self.frontier.host(site)
            row = self.frontier.db.execute(
                "SELECT next_at, latency, failures, pages, bytes FROM hosts WHERE id = ?", (number,)
            ).fetchone()
            host = self.hosts[site] = Host(number, site, self.source.delay_s)
            host.next_at, host.latency_s, host.failures, host.pages, host.bytes = row
            host.failures = min(
                host.failures, self.settings.give_up - 1
            )  # a new process asks once more
        return host

    def _queue(self, host: Host, at: float | None = None) -> None:
        """Let a host have a turn, at the soonest when it may be asked."""
        if not host.queued:
            host.queued = True
            self.turns += 1
            heapq.heappush(self.heap, (max(host.next_at, at or 0.0), self.turns, host))

    def _tell(self) -> None:
        now = self.clock.now()
        if self.quiet or now - self.told < TOLD_S:
            return
        self.told = now
        if now - self.totalled > 5:
            self.totalled, self.left = now, self.frontier.number()
        done = sum(self.counts[name] for name in FIELDS)
        waiting = {
            host.site: f"{host.why or 'its delay'}, {host.next_at - now:.0f} s"
            for at, _, host in heapq.nsmallest(5, self.heap)
            if at > now + 2
        }
        process.progress(
            done,
            max(done, done + self.left),
            "pages",
            hosts=len(self.hosts),
            waiting=waiting,
            **{name: self.counts[name] for name in (*FIELDS, "bytes")},
        )


def seeds(source: Source) -> tuple[list[tuple[str, int]], list[str]]:
    """A source's seeds as canonical addresses, each with what it is; and those that are none. Refused where all are none."""
    found, bad = [], []
    for text in source.seeds:
        there = urls.canonical(text)
        if there is None:
            bad.append(text)
            continue
        last = there.partition("?")[0].rsplit("/", 1)[-1]
        found.append(
            (
                there,
                FEED if source.kind == "feed" else SITEMAP if last.startswith("sitemap") else PAGE,
            )
        )
    if not found:
        raise Refused(
            f"conf/source/{source.name}.yaml: the seed {bad[0]!r} is no address of http or https; correct it"
        )
    return found, bad
