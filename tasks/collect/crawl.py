"""One night over the pages of one source: what is due, politely, and nothing twice.

A single loop hands each host its turn. A page is leased, asked for, understood (`interpret`),
written to the open WARC segment (`journal`), and acknowledged in the frontier once the segment is
on disk (`acknowledge`); then the manifest follows in one go (`report`). What a site is asked first
is in `site_files`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.collect.acknowledge import ITS_OWN, Acknowledgements, failed, unhandled
from tasks.collect.fetch import Answer, Failed, Fetcher, TooMuch
from tasks.collect.frontier import PAGE, Found, Frontier, Lease, PageChange
from tasks.collect.intake import Intake
from tasks.collect.interpret import AGAIN, DAY_S, Outcome, kept
from tasks.collect.journal import Journal
from tasks.collect.night import RESUME_HOURS, CrawlNight, Tally, agent, seeds
from tasks.collect.politeness import Clock, Host
from tasks.collect.report import Report
from tasks.collect.resolver import Names
from tasks.collect.scope import Scope
from tasks.collect.site_files import OF_A_FEED, ROBOTS_HOURS, SiteFiles
from tasks.collect.turns import Later, Turns
from tidemill.engines.config.schema import Collect, OptOut, Source
from tidemill.records import warc
from tidemill.records.receipts import Collected
from tidemill.web import headers, optout

BATCH = 32  # leases a host holds in memory
FLUSH_S, FLUSH_PAGES = 1.0, 500
LIST_BYTES = 50 * 2**20  # of a sitemap (sitemaps.org)
UNREACHABLE = ("not a public address", "name not resolved")

log = logging.getLogger(__name__)
Work = Coroutine[Any, Any, None]


class Crawl:
    """One night over one source of pages. `mirrors` leads names to places of our own."""

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
        self.source, self.settings, self.policy = source, settings, policy
        self.folder, self.state, self.mirrors, self.quiet = folder, state, mirrors or {}, quiet

    async def run(self) -> Collected:
        """Visit what is due and write the manifest.

        Raises `Fault` where nothing could be had or too much failed.
        """
        if not self.settings.contact and not self.source.allow_loopback:
            log.warning(
                "source %s: no address to write to is sent with the requests; "
                "set collect.contact in conf/config.yaml",
                self.source.name,
            )
        frontier = Frontier(self.state / "frontier.db", self.folder)
        try:
            anew = frontier.agree(warc.each(self.folder), self.folder / "manifest.parquet")
            return await self._night(frontier, anew)
        finally:
            frontier.close()

    async def _night(self, frontier: Frontier, anew: bool) -> Collected:
        clock, names = Clock(), Names(self.source.allow_loopback, self.mirrors)
        number, resumed = frontier.night(clock.now(), RESUME_HOURS)
        night = CrawlNight(
            self.source,
            self.settings,
            self.policy,
            self.folder,
            self.state,
            frontier,
            clock,
            number,
            resumed,
        )
        most_bytes = int(self.settings.max_page_mb * 2**20)
        per_host = self.source.connections
        fetcher = Fetcher(
            names, agent(self.settings), self.settings.timeout_s, most_bytes, per_host
        )
        visits = Visits(night, names, fetcher, set(self.mirrors), self.quiet)
        try:
            visits.begin(anew)
            async with fetcher:
                await visits.run()
            return visits.report.finish(visits.acks, visits.journal)
        finally:
            visits.journal.leave()


class Visits:
    """The loop of a night: each host's turns, and what each answer leads to."""

    def __init__(
        self, night: CrawlNight, names: Names, fetcher: Fetcher, mirrors: set[str], quiet: bool
    ) -> None:
        self.night, self.fetcher = night, fetcher
        self.source, self.settings = night.source, night.settings
        self.frontier, self.clock = night.frontier, night.clock
        self.scope = Scope(night.source, night.settings, mirrors)
        self.tally, self.turns, self.journal = Tally(night), Turns(night), Journal(night)
        self.intake = Intake(night, self.scope, self.tally, self.turns)
        self.acks = Acknowledgements(night, self.tally, self.turns, self.intake, self.journal)
        self.site_files = SiteFiles(
            night, self.scope, self.tally, self.turns, self.intake, names, fetcher
        )
        self.report = Report(night, self.tally, self.turns, quiet)
        self.tasks: set[asyncio.Task[None]] = set()
        self.wake = asyncio.Event()
        self.texts: Counter[str] = Counter()  # pages of one site with the same words
        self.flushed = 0.0
        self.asked = 0
        self.broken: BaseException | None = None

    def begin(self, anew: bool) -> None:
        """Take up what a killed night left, and let wait what is due."""
        self.journal.recover(self.acks.replay, anew)
        if self.night.resumed:
            self.tally.resume()
            self.acks.resume()
            self.asked = self.frontier.asked()
        elif self.source.kind == "web" and not self.source.depth:
            self.frontier.rest()
        else:
            self.frontier.due(self.clock.now(), self.night.number)
        good, bad = seeds(self.source)
        for text in bad:
            self.tally.count("", "failed", f"the seed {text!r} is no address of http or https")
        self.intake.take(Found(there, kind, 0, 0, kind == PAGE) for there, kind in good)
        for site in self.frontier.waiting_hosts():
            self.turns.queue(self.turns.host(site))
        self.frontier.commit()

    async def run(self) -> None:
        """Give each host its turn as its time comes.

        It ends when nothing is left that this night will wait for.
        """
        try:
            while self._more():
                self._start()
                await self._wait()
        finally:
            for task in list(self.tasks):
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            self._flush()
            self.acks.give_back()

    def _more(self) -> bool:
        """Whether anything is left to do; what is in flight ends with the night."""
        self.report.progress()
        now = self.clock.now()
        if now - self.flushed > FLUSH_S or len(self.acks.settled) >= FLUSH_PAGES:
            self._flush()
        if self.tasks:
            self._spent()  # raises what broke one of them
            return now < self.night.ends
        if self.acks.settled:
            self._flush()  # it may bring new addresses
        at = self.turns.next_at
        return not self._spent() and at is not None and self.night.waits_for(at)

    def _start(self) -> None:
        """Begin what may begin now."""
        now = self.clock.now()
        started: list[Work] = []
        while (
            (at := self.turns.next_at) is not None
            and at <= now
            and len(self.tasks) + len(started) < self.settings.parallel
            and not self._spent()
        ):
            started += self._turn(self.turns.pop(), now)
        if started:
            self.turns.persist()
        for work in started:
            task = asyncio.create_task(work)
            self.tasks.add(task)
            task.add_done_callback(self._done)

    async def _wait(self) -> None:
        """Until a task is done, a host's time has come, or the next flush is due."""
        now = self.clock.now()
        until = min(now + FLUSH_S, self.night.ends)
        if (at := self.turns.next_at) is not None and len(self.tasks) < self.settings.parallel:
            until = min(until, at)
        self.wake.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wake.wait(), max(until - now, 0.0))

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broken = error

    def _flush(self) -> None:
        self.flushed = self.clock.now()
        self.acks.flush()

    def _spent(self) -> bool:
        """Whether the night's budget is used up.

        Raises what broke a task: such a fault is the night's own.
        """
        if self.broken is not None:
            raise self.broken
        budget = self.source.budget
        return (
            self.clock.now() >= self.night.ends
            or self.asked >= budget.pages
            or self.tally.counts["bytes"] >= budget.mb * 2**20
        )

    # A host's turn
    # -----------------------------------------------------------------------------------

    def _turn(self, host: Host, now: float) -> list[Work]:
        """What a host's turn starts: its robots.txt, a page, or nothing yet."""
        if host.in_flight >= self.source.connections or (host.in_flight and not host.opened):
            return []  # whoever comes back lets it have its turn
        if host.next_at > now:
            self.turns.queue(host)
            return []
        if host.address is None and not host.standing:
            host.in_flight += 1
            return [self.site_files.resolve(host)]
        if self.turns.crowded(host):
            assert host.address is not None
            self.turns.queue(host, max(host.address.next_at, now + 0.05))
            return []
        if host.opened and now - host.asked > ROBOTS_HOURS * 3600 and not host.in_flight:
            host.opened = False
        if not host.opened:
            host.in_flight += 1
            return [self.site_files.open(host)]
        lease = self._lease(host, now)
        if lease is None:
            return []
        self.turns.ask(host)
        self.turns.queue(host)
        return [self._visit(host, lease)]

    def _lease(self, host: Host, now: float) -> Lease | None:
        """The next address to ask a host for.

        Those that may not be asked for are settled on the way.
        """
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
                    self.turns.queue(host, max(later, now + 0.01))
                return None
            lease = host.leases.popleft()
            refusal = self._why_not(host, lease)
            if refusal is None:
                host.pages += 1
                self.asked += 1
                self.acks.in_hand[lease.id] = lease
                return lease
            self.acks.settle(lease, refusal)

    def _why_not(self, host: Host, lease: Lease) -> Outcome | None:
        """What an address comes to without being asked for, or None where it may be."""
        now = self.clock.now()
        if outside := self.scope.why_not(lease.uri):
            return _refused(lease, outside, now)  # the source took it in once, and does so no more
        if host.standing == "nothing":
            return _refused(lease, "robots.txt cannot be had", now)
        if host.rules and host.rules.page:
            return _refused(lease, "robots.txt is a page", now)
        if host.standing in UNREACHABLE:
            return failed(host.standing, now)
        if host.failures >= self.settings.give_up:
            return failed("host does not answer", now)
        if host.rules and not host.rules.allows(lease.uri):
            return _refused(lease, "robots.txt", now)
        if lease.kind == PAGE and host.files:
            return self._refused_by_site(host, lease, now)
        return None

    def _refused_by_site(self, host: Host, lease: Lease, now: float) -> Outcome | None:
        """What a site's files refuse is not even asked for.

        But a page's own words supersede tdmrep.json.
        """
        signals = [item for item in self._said(host, lease) if item.where != "tdmrep.json"]
        decision = optout.decide(signals, self.night.policy)
        if decision.allowed or self.night.policy.unknown == "refused":
            return None
        return _refused(lease, decision.reason, now, by_signal=True)

    def _said(self, host: Host, lease: Lease) -> list[optout.Signal]:
        """What a site's files say of an address."""
        if not host.files or lease.kind != PAGE:
            return []
        return optout.of_site(host.files, lease.uri, self.night.token)

    # One page
    # ----------------------------------------------------------------------------------------

    async def _visit(self, host: Host, lease: Lease) -> None:
        """Ask for a page; a host that wants no gap is asked for the next one at once."""
        following: Lease | None = lease
        while following is not None:
            await self._one(host, following)
            following = self._at_once(host)
        self.turns.queue(host)

    def _at_once(self, host: Host) -> Lease | None:
        now = self.clock.now()
        if host.next_at > now or host.delay_s or host.in_flight >= self.source.connections:
            return None
        if self._spent() or len(self.acks.settled) >= 2 * FLUSH_PAGES:
            return None
        lease = self._lease(host, now)
        if lease is not None:
            self.turns.ask(host)
        return lease

    async def _one(self, host: Host, lease: Lease) -> None:
        page = lease.kind == PAGE
        seconds: float | None = None
        try:
            answer = await self.fetcher.get(
                lease.uri,
                _conditions(lease),
                accept=self._accept if page else None,
                most_bytes=None if page else LIST_BYTES,
            )
            seconds = answer.seconds
        except Failed as error:
            self._not_had(host, lease, error.reason, error.heals, None, error.heals)
            return
        except TooMuch:
            self.acks.settle(lease, self._too_large(lease))
            return
        finally:
            self.turns.came_back(host, seconds)
        await self._answered(host, lease, answer)

    def _too_large(self, lease: Lease) -> Outcome:
        now = self.clock.now()
        if lease.kind != PAGE:
            return failed("too large", now)
        outcome = _refused(lease, "too large", now)
        outcome.changed["due"] = now + self.source.revisit_days[1] * DAY_S
        return outcome

    def _accept(self, answer: Answer) -> bool:
        """Whether a body is worth its bytes, by its head."""
        return answer.status != 200 or kept(answer.media()[0], self.source)

    async def _answered(self, host: Host, lease: Lease, answer: Answer) -> None:
        host.bytes += answer.wire
        self.tally.count(host.site, "bytes", times=answer.wire)
        if answer.status in AGAIN:
            patient = answer.status in (429, 503)
            patience_s = answer.retry_after_s() if patient else None
            self._not_had(host, lease, f"status {answer.status}", True, patience_s, patient)
            return
        host.answered()
        fetched = warc.now()
        try:
            outcome = await self._understood(host, lease, answer, fetched)
        except ITS_OWN as error:
            outcome = unhandled(lease.uri, error, self.clock.now())
        if outcome.kind == "stored":
            self.journal.add(lease, answer, outcome, fetched)
        elif outcome.kind == "unchanged":
            self.journal.revisit(lease, answer, fetched)
        self.acks.settle(lease, outcome)

    async def _understood(self, host: Host, lease: Lease, answer: Answer, fetched: str) -> Outcome:
        """What an answer means, once the licences that it names were asked for."""
        reader, page = self.night.reader, None
        if lease.kind == PAGE and answer.status in (200, 203, 304):
            page = reader.page(lease, answer)
            with suppress(Later):
                await self.site_files.licences(host, reader.licences(lease, answer, page))
        said, now = self._said(host, lease), self.clock.now()
        outcome = reader.understood(lease, answer, said, now, fetched, page)
        if lease.kind != PAGE and (outcome.licences or lease.uri + OF_A_FEED in host.files):
            self.site_files.keep(host, lease.uri + OF_A_FEED, 200, outcome.licences)
        if outcome.kind == "stored" and headers.is_html(answer.media()[0], answer.body):
            return self._repeated(host, lease, outcome)
        return outcome

    def _repeated(self, host: Host, lease: Lease, outcome: Outcome) -> Outcome:
        """Refuse a page whose words many pages of its host had: a soft 404, or a wall."""
        text = outcome.changed.get("text")
        if not text:
            return outcome
        self.texts[host.site + text] += 1
        if self.texts[host.site + text] <= self.settings.same_text:
            return outcome
        why = "same words as other pages"
        changed: PageChange = {
            **outcome.changed,
            "decision": "refused",
            "reason": why,
            "sha256": lease.sha256,
        }
        return Outcome("refused", why, changed=changed)

    def _not_had(
        self,
        host: Host,
        lease: Lease,
        reason: str,
        heals: bool,
        patience_s: float | None,
        counts: bool,
    ) -> None:
        """An address gave no answer that can be used: ask again later, or let it be."""
        if counts:
            self.turns.failed(host, patience_s)
        now = self.clock.now()
        if heals and lease.attempts + 1 < self.settings.attempts:
            self.acks.again(lease, now + min(2.0**lease.attempts, 60))
        else:
            self.acks.settle(lease, failed(reason, now))


def _refused(lease: Lease, reason: str, at: float, by_signal: bool = False) -> Outcome:
    changed: PageChange = {"visited": at, "due": 0}
    if lease.kind == PAGE:
        changed |= {"decision": "refused", "reason": reason}
    return Outcome("refused", reason.partition(":")[0], changed=changed, by_signal=by_signal)


def _conditions(lease: Lease) -> dict[str, str] | None:
    """The headers that ask for a page only where it changed."""
    if not lease.sha256:
        return None
    asking = {"If-None-Match": lease.etag, "If-Modified-Since": lease.modified}
    return {name: value for name, value in asking.items() if value and value.isprintable()}
