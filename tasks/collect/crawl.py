"""One night over the pages of one source: what is due, politely, and nothing twice.

A single loop hands each host its turn. A page is leased, asked for, understood (`visits`), written to the open
WARC segment, and acknowledged in the frontier once the segment is on disk; then the manifest follows in one go.
"""

import asyncio
import hashlib
import heapq
import json
import logging
from collections import Counter
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks import optout, process
from tasks.collect import raw, robots, urls
from tasks.collect.addresses import Names, NotPublic
from tasks.collect.fetch import Answer, Failed, Fetcher, TooMuch
from tasks.collect.frontier import FEED, PAGE, SITEMAP, Found, Frontier, Lease
from tasks.collect.hosts import Address, Clock, Host
from tasks.collect.links import HTML
from tasks.collect.scope import Scope
from tasks.collect.visits import AGAIN, Outcome, kept, licences, understood
from tasks.errors import Fault, Refused
from tasks.receipts import Collected
from tasks.schema import Collect, OptOut, Source

log = logging.getLogger(__name__)

BATCH = 32              # leases a host holds in memory
FLUSH_S, FLUSH_PAGES = 1.0, 500
TOLD_S = 0.5
ROBOTS_HOURS = 24.0     # RFC 9309, 2.4
RESUME_HOURS = 12.0     # within which a night that was cut off goes on
SITE_FILES = {"tdmrep.json": "/.well-known/tdmrep.json", "ai.txt": "/ai.txt"}
MOST_FILES = 20         # of one site: what it says of use
SEEN = 200_000          # addresses remembered as taken up, so that the frontier is not asked for each link
LIST_BYTES = 50 * 2**20 # of a sitemap (sitemaps.org)
FIELDS = ("fetched", "unchanged", "refused", "failed", "gone")


def agent(settings: Collect) -> str:
    return settings.user_agent + (f" (+{settings.contact})" if settings.contact else "")


def token(settings: Collect) -> str:
    """The product token that robots.txt knows us by."""
    return settings.user_agent.split("/")[0]


class Crawl:
    """One night over one source of pages. `mirrors` leads names to places of our own."""

    def __init__(self, source: Source, settings: Collect, policy: OptOut, folder: Path, state: Path, mirrors: dict[str, tuple[str, int]] | None = None, quiet: bool = False) -> None:
        self.source, self.settings, self.policy, self.folder, self.state = source, settings, policy, folder, state
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
        self.tally: Counter[tuple[str, str]] = Counter()      # (site, what) since the last flush
        self.counts: Counter[str] = Counter()                 # of the night
        self.reasons: Counter[str] = Counter()
        self.seen: set[str] = set()
        self.texts: Counter[str] = Counter()
        self.segment: raw.Segment | None = None
        self.revisits: raw.Segment | None = None
        self.listed_all = True
        self.flushed = self.told = self.totalled = self.ends = 0.0
        self.asked = self.left = 0
        self.durable = False                                  # something must be on disk before the next request
        self.broken: BaseException | None = None

    # The night -----------------------------------------------------------------------------------

    async def run(self) -> Collected:
        """Visit what is due and write the manifest; raises `Fault` where nothing could be had or too much failed."""
        self.frontier = Frontier(self.state / "frontier.db", self.folder)
        try:
            anew = self.frontier.agree(raw.each(self.folder), self.folder / "manifest.parquet")
            self.night, again = self.frontier.night(self.clock.now(), RESUME_HOURS)
            self._recover(anew)
            self._begin(again)
            per_host = self.source.connections
            async with Fetcher(self.names, self.agent, self.settings.timeout_s, int(self.settings.max_page_mb * 2**20), per_host) as self.fetcher:
                try:
                    await self._loop()
                finally:
                    for task in list(self.tasks):
                        task.cancel()
                    await asyncio.gather(*self.tasks, return_exceptions=True)
                    self._flush()
                    self._leave()
            return self._finish()
        finally:
            self.frontier.close()

    def _recover(self, anew: bool) -> None:
        """Take up what a killed night left in its segments: whole records count, a cut one is asked for again."""
        for part in self.folder.glob(".*.part"):        # half a table
            part.unlink()
        names = raw.opened(self.folder)
        known = dict(self.frontier.db.execute("SELECT name, size FROM segments"))
        if anew:        # the frontier is new, or data/raw another: closed segments that no manifest names may hold pages
            named = {row["raw_file"] for row in raw.each(self.folder)} | set(known)
            names = [path.name for path in sorted(self.folder.glob("segment-*.warc.gz")) if path.name not in named] + names
        there = set(names) | {path.name for path in self.folder.glob("segment-*.warc.gz")}
        for row in list(self.frontier.staged()):
            if row["raw_file"] not in there:        # its segment was taken away
                self.frontier.db.execute("DELETE FROM staged WHERE uri = ?", (row["uri"],))
                self.frontier.db.execute("UPDATE pages SET state = 0, sha256 = NULL, etag = NULL, modified = NULL, stored = NULL WHERE uri = ?", (row["uri"],))
        for name in names:
            count = 0
            for offset, uri, fetched, message in raw.mend(self.folder, name, known.get(name, 0)):
                self._replay(name, offset, uri, fetched, message)
                count += 1
            size = raw.length(self.folder, name)
            self.frontier.db.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (name, size))
            if count:
                log.info("%s: %d pages of a night that was cut off were in %s", self.source.name, count, name)
        growing = [name for name in names if (self.folder / f".{name}.open").exists()]
        for name in growing:
            self.segment = raw.Segment(self.folder, self.agent, name)
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
        headers = [(key, value) for key, _, value in (line.partition(": ") for line in rest) if key.lower() != "content-length"]
        outcome = understood(lease, Answer(int(first.split(" ")[1]), headers, body), (), self.source, self.settings, self.policy, self.token, self.clock.now(), fetched)
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
            self.asked = self.frontier.db.execute("SELECT coalesce(sum(pages), 0) FROM hosts").fetchone()[0]
            self._forget_failures()
            self.listed_all = self.frontier.noted("unlisted") != str(self.night)
        self._found(Found(there, kind, 0, 0, kind == PAGE) for there, kind in seeds(self.source))
        for site in self.frontier.waiting_hosts():
            self._queue(self._host(site))
        self.frontier.commit()

    def _forget_failures(self) -> None:
        """A night that goes on asks again for what failed, and counts it again."""
        self.frontier.db.execute("DELETE FROM counts WHERE night = ? AND reason LIKE 'failed%'", (self.night,))
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
        digest, pages, _ = raw.merge(self.folder, self.frontier.staged)
        self.told = self.left = 0
        self._tell()
        raw.save_table(self.folder / "hosts.parquet", raw.HOSTS, self._statements(), key=("site", "name", "status", "sha256"))
        raw.save_table(self.folder / "decisions.parquet", raw.DECISIONS, self.frontier.decisions(), key=("uri", "decision", "reason", "signals"))
        hosts, waiting = self._by_host(), self._waiting()
        receipt = Collected(
            source=self.source.name, records=pages, raw=digest, bytes=self.counts["bytes"], hosts=hosts, waiting=waiting,
            reasons={name.partition(":")[2]: count for name, count in self.reasons.most_common(50) if name.startswith(("refused:", "failed:", "gone:", "trap:"))},
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
        why = "; ".join(f"{count} x {reason.partition(':')[2]}" for reason, count in self.reasons.most_common(3) if ":" in reason)
        had = self.counts["fetched"] + self.counts["unchanged"] + self.counts["gone"]
        # A night on which nothing is due, or a site that by now refuses everything, was heard: that is no fault.
        calm = not failed and (self.folder / "manifest.parquet").exists()
        if not had and not calm and not self.frontier.number():
            raise Fault(f"source {name} is empty: {why or 'its sitemaps list no page'}; what was collected before stays", heals=bool(failed))
        if failed and failed > self.source.max_failed * seen:
            raise Fault(f"source {name}: {failed} of {seen} pages failed ({why}), max_failed is {self.source.max_failed}; what was collected before stays", heals=True)

    def _statements(self) -> Iterable[dict[str, Any]]:
        rows = self.frontier.db.execute("SELECT hosts.site, name, status, fetched, sha256, body FROM files JOIN hosts ON hosts.id = files.host ORDER BY 1, 2")
        for row in rows:
            yield dict(zip(("site", "name", "status", "fetched", "sha256", "body"), row, strict=True))

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
            left = self.frontier.db.execute("SELECT count(*) FROM pages WHERE state = 0 AND host = ?", (self.frontier.host(site),)).fetchone()[0]
            why = (host.why if host else "") or "budget"
            found[site] = f"{left} pages: {why}" + (f", {host.next_at - now:.0f} s" if host and host.next_at > now + 1 else "")
        return found

    # Turns ---------------------------------------------------------------------------------------

    async def _loop(self) -> None:
        """Give each host its turn as its time comes, until nothing is left that this night will wait for."""
        self.ends = self.clock.now() + self.source.budget.minutes * 60
        while True:
            now = self.clock.now()
            self._tell()
            if now - self.flushed > FLUSH_S or len(self.acks) >= FLUSH_PAGES:
                self._flush()
            started: list[Coroutine[Any, Any, None]] = []
            while self.heap and self.heap[0][0] <= now and len(self.tasks) + len(started) < self.settings.parallel and not self._spent():
                started += self._turn(heapq.heappop(self.heap)[2], now)
            if started and self.durable:
                self.frontier.commit()          # leases and next times are on disk before anybody is asked
                self.durable = False
            for work in started:
                task = asyncio.create_task(work)
                self.tasks.add(task)
                task.add_done_callback(self._done)
            if not self.tasks:
                if self.acks:
                    self._flush()               # it may bring new addresses
                    continue
                if self._spent() or not self.heap or self.heap[0][0] > now + self.settings.max_wait_minutes * 60:
                    return
            wait = FLUSH_S
            if self.heap and len(self.tasks) < self.settings.parallel:
                wait = min(max(self.heap[0][0] - self.clock.now(), 0.0), FLUSH_S)
            self.wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), wait)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broken = error

    def _spent(self) -> bool:
        """Whether the night's budget is used up."""
        budget = self.source.budget
        if self.broken is not None:
            raise self.broken
        return self.clock.now() >= self.ends or self.asked >= budget.pages or self.counts["bytes"] >= budget.mb * 2**20

    def _host(self, site: str) -> Host:
        """A host, with what an earlier process knew of it."""
        host = self.hosts.get(site)
        if host is None:
            number = self.frontier.host(site)
            row = self.frontier.db.execute("SELECT next_at, latency, failures, pages, bytes FROM hosts WHERE id = ?", (number,)).fetchone()
            host = self.hosts[site] = Host(number, site, self.source.delay_s)
            host.next_at, host.latency_s, host.failures, host.pages, host.bytes = row
            host.failures = min(host.failures, self.settings.give_up - 1)       # a new process asks once more
        return host

    def _queue(self, host: Host, at: float | None = None) -> None:
        """Let a host have a turn, at the soonest when it may be asked."""
        if not host.queued:
            host.queued = True
            self.turns += 1
            heapq.heappush(self.heap, (max(host.next_at, at or 0.0), self.turns, host))

    def _turn(self, host: Host, now: float) -> list[Coroutine[Any, Any, None]]:
        """What a host's turn starts: its robots.txt, a page, or nothing yet."""
        host.queued = False
        if host.in_flight >= self.source.connections or (host.in_flight and not host.opened):
            return []       # whoever comes back lets it have its turn
        if host.next_at > now:
            self._queue(host)
            return []
        if host.address is None and not host.standing:
            host.in_flight += 1
            return [self._resolve(host)]
        if host.crowded(now, self.settings.per_address):
            assert host.address is not None
            self._queue(host, max(host.address.next_at, now + 0.05))
            return []
        if host.opened and now - host.asked > ROBOTS_HOURS * 3600 and not host.in_flight:
            host.opened = False
        if not host.opened:
            host.in_flight += 1
            return [self._open(host)]
        lease = self._lease(host, now)
        if lease is None:
            return []
        self._ask(host, now)
        self._queue(host)
        return [self._visit(host, lease)]

    def _ask(self, host: Host, now: float) -> None:
        """Note that a host is asked now, and when it may be asked again."""
        host.begin(now, self.settings.latency_factor, self.settings.per_address)
        if host.next_at > now:
            self.frontier.db.execute("UPDATE hosts SET next_at = ? WHERE id = ?", (host.next_at, host.id))
            self.durable = True

    async def _politely(self, host: Host) -> None:
        """Wait for a host's time outside its turn, as for its robots.txt."""
        while (wait := host.next_at - self.clock.now()) > 0 or host.crowded(self.clock.now(), self.settings.per_address):
            await asyncio.sleep(max(wait, 0.02))
        self._ask(host, self.clock.now())
        if self.durable:
            self.frontier.commit()

    def _came_back(self, host: Host, seconds: float | None) -> None:
        host.end(self.clock.now(), self.settings.latency_factor, seconds, self.source.connections == 1)

    def _lease(self, host: Host, now: float) -> Lease | None:
        """The next address to ask a host for; those that may not be asked for are settled on the way."""
        budget = self.source.budget
        while True:
            if host.pages >= budget.host_pages or host.bytes >= budget.host_mb * 2**20:
                host.why = "budget of one host"
                while host.leases:
                    self.frontier.give_back(host.leases.popleft())
                return None
            if not host.leases:
                host.leases.extend(self.frontier.take(host.id, BATCH, now))
            if not host.leases:
                later = self.frontier.sooner(host.id)
                if later is not None:
                    self._queue(host, max(later, now + 0.01))
                return None
            lease = host.leases.popleft()
            why = self._why_not(host, lease)
            if why is None:
                host.pages += 1
                self.asked += 1
                return lease
            self._settle(lease, why)

    def _why_not(self, host: Host, lease: Lease) -> Outcome | None:
        """What an address comes to without being asked for, or None where it may be."""
        if outside := self.scope.why_not(lease.uri):
            reason = outside        # the source took it in once, and does so no more
        elif host.standing == "nothing" or (host.rules and host.rules.page):
            reason = "robots.txt cannot be had" if host.standing == "nothing" else "robots.txt is a page"
        elif host.standing in ("not a public address", "name not resolved"):
            return _failed(host.standing, self.clock.now())
        elif host.failures >= self.settings.give_up:
            return _failed("host does not answer", self.clock.now())
        elif host.rules and not host.rules.allows(lease.uri):
            reason = "robots.txt"
        elif lease.kind == PAGE and host.files:
            # What a site's files refuse is not even asked for; but a page's own words supersede tdmrep.json.
            decision = optout.decide([item for item in optout.of_site(host.files, lease.uri, self.token) if item.where != "tdmrep.json"], self.policy)
            if decision.allowed or self.policy.unknown == "refused":
                return None
            reason = decision.reason
        else:
            return None
        now = self.clock.now()
        changed: dict[str, Any] = {"visited": now, "due": 0}
        if lease.kind == PAGE:
            changed |= {"decision": "refused", "reason": reason}
        return Outcome("refused", reason.partition(":")[0], changed=changed)

    # One host ------------------------------------------------------------------------------------

    async def _resolve(self, host: Host) -> None:
        """Find the address a host is at, so that names that share one share its patience."""
        try:
            for attempt in range(self.settings.attempts):
                try:
                    where = (await self.names.addresses(urls.host(host.site + "/")))[0][0]
                    host.address = self.addresses.setdefault(where, Address())
                    return
                except NotPublic:
                    host.standing = "not a public address"
                    return
                except OSError:
                    if attempt + 1 < self.settings.attempts:
                        await asyncio.sleep(2.0**attempt)
            host.standing = "name not resolved"
        finally:
            host.opened, host.asked = bool(host.standing), self.clock.now()
            host.in_flight -= 1
            self._queue(host)

    async def _open(self, host: Host) -> None:
        """Ask a host what it allows: once a night, and again when a day has passed (RFC 9309, 2.4)."""
        host.in_flight -= 1
        try:
            await self._ask_site(host)
        finally:
            host.opened, host.asked = True, self.clock.now()
            self._queue(host)

    async def _ask_site(self, host: Host) -> None:
        row = self.frontier.db.execute("SELECT night, asked, standing FROM hosts WHERE id = ?", (host.id,)).fetchone()
        # What a site said stays said while a file of it cannot be had.
        host.files = dict(self.frontier.db.execute("SELECT name, body FROM files WHERE host = ? AND status = 200", (host.id,)))
        if row[0] == self.night and self.clock.now() - row[1] < ROBOTS_HOURS * 3600 and row[2] in ("rules", "all"):
            host.standing = row[2]      # a night that goes on has asked already
            host.heard = set(host.files)
        else:
            answer = await self._site_file(host, "robots.txt", host.site + "/robots.txt", robots.MOST_BYTES + 1)
            host.standing = robots.standing(answer.status if answer else None)
            if host.standing == "nothing":
                self._count(host.site, "failed", f"robots.txt: {f'status {answer.status}' if answer else host.why or 'no answer'}")
        host.rules = robots.parse(host.files.get("robots.txt", b""), self.token) if host.standing == "rules" else robots.Robots(robots.Group())
        host.next_at = max(host.next_at, self.clock.now() + host.gap_s(self.settings.latency_factor))      # Crawl-delay counts from where it was read
        if host.standing != "nothing" and row[0] != self.night:
            for name, path in SITE_FILES.items():
                if host.rules.allows(host.site + path):
                    await self._site_file(host, name, host.site + path, robots.MOST_BYTES)
            await self._licences(host, [*(name for name in host.files if "://" in name), *(found for text in (*host.rules.licenses, *host.rules.group.licenses) if (found := urls.joined(host.site + "/", text)))])
        self.frontier.db.execute("UPDATE hosts SET night = ?, asked = ?, standing = ?, delay = ? WHERE id = ?", (self.night, self.clock.now(), host.standing, host.gap_s(0), host.id))
        if self.source.kind == "web" and self.source.sitemaps:
            self._found(Found(there, SITEMAP) for text in host.rules.sitemaps if (there := urls.joined(host.site + "/", text)) and self.scope.why_not(there) is None)

    async def _licences(self, host: Host, found: list[str]) -> None:
        """Have the RSL documents that a site or a page names, each once a night; those of another site too."""
        for there in dict.fromkeys(found):
            if there not in host.heard and len(host.heard) < MOST_FILES and (urls.site(there) != host.site or (host.rules and host.rules.allows(there))):
                host.heard.add(there)
                await self._site_file(host, there, there, robots.MOST_BYTES)

    async def _site_file(self, host: Host, name: str, uri: str, most: int) -> Answer | None:
        """One of a site's own files, through at most five redirects; what was said is kept raw with its digest."""
        answer = None
        for attempt in range(self.settings.attempts):
            answer = await self._through(host, uri, most)
            if answer is not None and answer.status not in AGAIN:
                break
            host.failed(self.clock.now(), answer.retry_after_s() if answer else None)
            self.frontier.db.execute("UPDATE hosts SET next_at = ?, failures = ? WHERE id = ?", (host.next_at, host.failures, host.id))
            if host.next_at > self.clock.now() + self.settings.max_wait_minutes * 60:
                break
            if attempt + 1 < self.settings.attempts and not host.delay_s:
                await asyncio.sleep(min(2.0**attempt, 60))
        else:
            return answer
        if answer is not None and answer.status not in AGAIN:
            host.answered()
        body = answer.body if answer is not None and answer.status == 200 else b""
        if answer is not None and answer.status < 500 and answer.status != 429:
            host.files.pop(name, None)
            if answer.status == 200:
                host.files[name] = body
            self.frontier.db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
                                     (host.id, name, answer.status, raw.now(), hashlib.sha256(body).hexdigest(), body))
        return answer

    async def _through(self, host: Host, uri: str, most: int) -> Answer | None:
        """A small file's answer, after up to five redirects, each hop checked and in its host's time; None where there is none."""
        for _ in range(6):
            if urls.port(uri) not in self.source.ports and urls.host(uri) not in self.scope.mirrors:
                return None
            other = self._host(urls.site(uri))
            await self._politely(other)
            seconds = None
            try:
                answer = await self.fetcher.get(uri, most_bytes=most, cut=True)
                seconds = answer.seconds
            except (Failed, TooMuch) as error:
                host.why = getattr(error, "reason", "too large")
                return None
            finally:
                self._came_back(other, seconds)
            there = urls.joined(uri, answer.get("location") or "") if answer.status in (301, 302, 303, 307, 308) else None
            if there is None:
                return answer
            uri = there
        return Answer(404, [], b"")        # more than five: as if there were none (RFC 9309, 2.3.1.2)

    # One page ------------------------------------------------------------------------------------

    async def _visit(self, host: Host, lease: Lease) -> None:
        """Ask for a page; a host that wants no gap is asked for the next one at once."""
        next_one: Lease | None = lease
        while next_one is not None:
            lease, next_one = next_one, None
            seconds: float | None = None
            try:
                answer = await self.fetcher.get(lease.uri, _conditions(lease), accept=self._accept if lease.kind == PAGE else None, most_bytes=None if lease.kind == PAGE else LIST_BYTES)
                seconds = answer.seconds
            except Failed as error:
                self._came_back(host, None)
                self._not_had(host, lease, error.reason, error.heals, None, error.heals)
            except TooMuch:
                self._came_back(host, None)
                now = self.clock.now()
                changed = {"visited": now, "due": now + self.source.revisit_days[1] * 86_400, "decision": "refused", "reason": "too large"}
                self._settle(lease, Outcome("refused", "too large", changed=changed) if lease.kind == PAGE else _failed("too large", now))
            else:
                self._came_back(host, seconds)
                if lease.kind == PAGE and (named := licences(answer, lease.uri, self.token)):
                    await self._licences(host, named)
                self._answered(host, lease, answer)
            now = self.clock.now()
            if host.next_at <= now and not host.delay_s and host.in_flight < self.source.connections and not self._spent() and len(self.acks) < 2 * FLUSH_PAGES:
                next_one = self._lease(host, now)
                if next_one is not None:
                    self._ask(host, now)
        self._queue(host)

    def _accept(self, answer: Answer) -> bool:
        """Whether a body is worth its bytes, by its head."""
        return answer.status != 200 or kept(answer.media()[0], self.source)

    def _answered(self, host: Host, lease: Lease, answer: Answer) -> None:
        host.bytes += answer.wire
        self.counts["bytes"] += answer.wire
        self.tally[host.site, "bytes"] += answer.wire
        if answer.status in AGAIN:
            patience = answer.retry_after_s() if answer.status in (429, 503) else None
            self._not_had(host, lease, f"status {answer.status}", True, patience, answer.status in (429, 503))
            return
        host.answered()
        said = optout.of_site(host.files, lease.uri, self.token) if host.files and lease.kind == PAGE else ()
        fetched = raw.now()
        outcome = understood(lease, answer, said, self.source, self.settings, self.policy, self.token, self.clock.now(), fetched)
        if outcome.kind == "stored" and (text := outcome.changed.get("text")) and answer.media()[0] in HTML:
            self.texts[key := host.site + text] += 1
            if self.texts[key] > self.settings.same_text:
                outcome = Outcome("refused", "same words as other pages", changed={**outcome.changed, "decision": "refused", "reason": "same words as other pages", "sha256": lease.sha256})
        if outcome.kind == "stored" and outcome.row is not None:
            if self.segment is None:
                self.segment = raw.Segment(self.folder, self.agent)
            offset = self.segment.add(lease.uri, answer.head(), outcome.body, fetched, outcome.row["sha256"])
            outcome.row |= {"raw_file": self.segment.name, "raw_locator": str(offset)}
            outcome.body = b""
        elif outcome.kind == "unchanged" and lease.sha256 and lease.stored:
            if self.revisits is None:
                self.revisits = raw.Segment(self.state / "revisits", self.agent)
            self.revisits.revisit(lease.uri, answer.head() if answer.status == 304 else b"", fetched, lease.sha256, json.loads(lease.stored)["fetched"], answer.status == 304)
        self._settle(lease, outcome)

    def _not_had(self, host: Host, lease: Lease, reason: str, heals: bool, retry_after_s: float | None, counts: bool) -> None:
        """An address gave no answer that can be used: ask again later, or let it be."""
        now = self.clock.now()
        if counts:
            host.failed(now, retry_after_s)
            self.frontier.db.execute("UPDATE hosts SET next_at = ?, failures = ? WHERE id = ?", (host.next_at, host.failures, host.id))
            if host.next_at > now:
                self.frontier.commit()          # its patience outlives us
        if heals and lease.attempts + 1 < self.settings.attempts:
            self.frontier.again(lease, now + min(2.0**lease.attempts, 60))
        else:
            self._settle(lease, _failed(reason, now))

    def _settle(self, lease: Lease, outcome: Outcome) -> None:
        self.acks.append((lease, outcome))

    # What was found, and what is kept ------------------------------------------------------------

    def _flush(self) -> None:
        """Acknowledge what was settled: first the segments to disk, then the frontier."""
        self.flushed = self.clock.now()
        for segment in (self.segment, self.revisits):
            if segment is not None:
                size = segment.sync()
                if segment is self.segment:
                    self.frontier.db.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (segment.name, size))
        acks, self.acks = self.acks, []
        for lease, outcome in acks:
            self._apply(lease, outcome)
        for (site, what), count in self.tally.items():
            self.frontier.count(self.night, site, what, count)
        self.tally.clear()
        for host in self.hosts.values():
            if host.pages:
                self.frontier.db.execute("UPDATE hosts SET next_at = ?, latency = ?, failures = ?, pages = ?, bytes = ? WHERE id = ?",
                                         (host.next_at, host.latency_s, host.failures, host.pages, host.bytes, host.id))
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
                self.frontier.db.execute("UPDATE pages SET stored = ? WHERE id = ?", (json.dumps(outcome.row), lease.id))
            self.frontier.stage(outcome.row)
        self._found(outcome.found)
        site = urls.site(lease.uri)
        if outcome.kind == "listed":
            return
        if lease.kind != PAGE and outcome.kind in ("failed", "refused", "gone"):
            self.listed_all = False
            self.frontier.note("unlisted", str(self.night))
            if outcome.kind == "gone":
                outcome.kind, outcome.why = "failed", f"{'feed' if lease.kind == FEED else 'sitemap'} answered {outcome.why}"
        name = {"stored": "fetched"}.get(outcome.kind, outcome.kind)
        self._count(site, name, outcome.why if outcome.kind in ("refused", "failed", "gone") else "")

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

    def _leave(self) -> None:
        """Let open segments lie as they are; this night, or the next process, goes on with them."""
        for host in self.hosts.values():
            while host.leases:
                self.frontier.give_back(host.leases.popleft())

    def _tell(self) -> None:
        now = self.clock.now()
        if self.quiet or now - self.told < TOLD_S:
            return
        self.told = now
        if now - self.totalled > 5:
            self.totalled, self.left = now, self.frontier.number()
        done = sum(self.counts[name] for name in FIELDS)
        waiting = {host.site: f"{host.why or 'its delay'}, {host.next_at - now:.0f} s" for at, _, host in heapq.nsmallest(5, self.heap) if at > now + 2}
        process.progress(done, max(done, done + self.left), "pages", hosts=len(self.hosts), waiting=waiting, **{name: self.counts[name] for name in (*FIELDS, "bytes")})


def seeds(source: Source) -> list[tuple[str, int]]:
    """A source's seeds as canonical addresses, each with what it is."""
    found = []
    for text in source.seeds:
        there = urls.canonical(text)
        if there is None:
            raise Refused(f"conf/source/{source.name}.yaml: the seed {text!r} is no address of http or https; correct it")
        last = there.partition("?")[0].rsplit("/", 1)[-1]
        found.append((there, FEED if source.kind == "feed" else SITEMAP if last.startswith("sitemap") else PAGE))
    return found


def _conditions(lease: Lease) -> dict[str, str] | None:
    """The headers that ask for a page only where it changed."""
    if not lease.sha256:
        return None
    found = {}
    if lease.etag:
        found["If-None-Match"] = lease.etag
    if lease.modified:
        found["If-Modified-Since"] = lease.modified
    return found


def _failed(reason: str, at: float) -> Outcome:
    return Outcome("failed", reason, changed={"status": -1, "visited": at, "due": 0})
