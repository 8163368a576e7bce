"""One night over the pages of one source: what is due, politely, and nothing twice.

A single loop hands each host its turn. A page is leased, asked for, understood (`visits`), written to the open
WARC segment, and acknowledged in the frontier once the segment is on disk; then the manifest follows in one go.
What is kept of it is in `night`, what a site is asked first in `sites`.
"""

import asyncio
import heapq
import json
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from tasks.collect.fetch import Answer, Failed, Fetcher, TooMuch
from tasks.collect.frontier import PAGE, Frontier, Lease
from tasks.collect.interpret import AGAIN, Outcome, kept, licences, understood
from tasks.collect.links import HTML
from tasks.collect.night import RESUME_HOURS
from tasks.collect.politeness import Host
from tasks.collect.site_files import ROBOTS_HOURS, Sites
from tidemill.records import warc
from tidemill.records.receipts import Collected
from tidemill.web import optout

BATCH = 32  # leases a host holds in memory
FLUSH_S, FLUSH_PAGES = 1.0, 500
LIST_BYTES = 50 * 2**20  # of a sitemap (sitemaps.org)

log = logging.getLogger(__name__)


class Crawl(Sites):
    """One night over one source of pages."""

    async def run(self) -> Collected:
        """Visit what is due and write the manifest; raises `Fault` where nothing could be had or too much failed."""
        if not self.settings.contact and not self.source.allow_loopback:
            log.warning(
                "source %s: no address to write to is sent with the requests; set collect.contact in conf/config.yaml",
                self.source.name,
            )
        self.frontier = Frontier(self.state / "frontier.db", self.folder)
        try:
            anew = self.frontier.agree(warc.each(self.folder), self.folder / "manifest.parquet")
            self.night, again = self.frontier.night(self.clock.now(), RESUME_HOURS)
            self._recover(anew)
            self._begin(again)
            per_host = self.source.connections
            async with Fetcher(
                self.names,
                self.agent,
                self.settings.timeout_s,
                int(self.settings.max_page_mb * 2**20),
                per_host,
            ) as self.fetcher:
                try:
                    await self._loop()
                finally:
                    for task in list(self.tasks):
                        task.cancel()
                    await asyncio.gather(*self.tasks, return_exceptions=True)
                    self._flush()
                    self._give_back()
            return self._finish()
        finally:
            self._leave()
            self.frontier.close()

    async def _loop(self) -> None:
        """Give each host its turn as its time comes, until nothing is left that this night will wait for."""
        self.ends = self.clock.now() + self.source.budget.minutes * 60
        while True:
            now = self.clock.now()
            self._tell()
            if now - self.flushed > FLUSH_S or len(self.acks) >= FLUSH_PAGES:
                self._flush()
            started: list[Coroutine[Any, Any, None]] = []
            while (
                self.heap
                and self.heap[0][0] <= now
                and len(self.tasks) + len(started) < self.settings.parallel
                and not self._spent()
            ):
                started += self._turn(heapq.heappop(self.heap)[2], now)
            if started and self.durable:
                self.frontier.commit()  # leases and next times are on disk before anybody is asked
                self.durable = False
            for work in started:
                task = asyncio.create_task(work)
                self.tasks.add(task)
                task.add_done_callback(self._done)
            if not self.tasks:
                if self.acks:
                    self._flush()  # it may bring new addresses
                    continue
                if (
                    self._spent()
                    or not self.heap
                    or self.heap[0][0] > now + self.settings.max_wait_minutes * 60
                ):
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
        return (
            self.clock.now() >= self.ends
            or self.asked >= budget.pages
            or self.counts["bytes"] >= budget.mb * 2**20
        )

    def _turn(self, host: Host, now: float) -> list[Coroutine[Any, Any, None]]:
        """What a host's turn starts: its robots.txt, a page, or nothing yet."""
        host.queued = False
        if host.in_flight >= self.source.connections or (host.in_flight and not host.opened):
            return []  # whoever comes back lets it have its turn
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
            reason = outside  # the source took it in once, and does so no more
        elif host.standing == "nothing" or (host.rules and host.rules.page):
            reason = (
                "robots.txt cannot be had" if host.standing == "nothing" else "robots.txt is a page"
            )
        elif host.standing in ("not a public address", "name not resolved"):
            return _failed(host.standing, self.clock.now())
        elif host.failures >= self.settings.give_up:
            return _failed("host does not answer", self.clock.now())
        elif host.rules and not host.rules.allows(lease.uri):
            reason = "robots.txt"
        elif lease.kind == PAGE and host.files:
            # What a site's files refuse is not even asked for; but a page's own words supersede tdmrep.json.
            decision = optout.decide(
                [
                    item
                    for item in optout.of_site(host.files, lease.uri, self.token)
                    if item.where != "tdmrep.json"
                ],
                self.policy,
            )
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

    # One page ----------------------------------------------------------------------------------------

    async def _visit(self, host: Host, lease: Lease) -> None:
        """Ask for a page; a host that wants no gap is asked for the next one at once."""
        next_one: Lease | None = lease
        while next_one is not None:
            lease, next_one = next_one, None
            seconds: float | None = None
            try:
                answer = await self.fetcher.get(
                    lease.uri,
                    _conditions(lease),
                    accept=self._accept if lease.kind == PAGE else None,
                    most_bytes=None if lease.kind == PAGE else LIST_BYTES,
                )
                seconds = answer.seconds
            except Failed as error:
                self._came_back(host, None)
                self._not_had(host, lease, error.reason, error.heals, None, error.heals)
            except TooMuch:
                self._came_back(host, None)
                now = self.clock.now()
                changed = {
                    "visited": now,
                    "due": now + self.source.revisit_days[1] * 86_400,
                    "decision": "refused",
                    "reason": "too large",
                }
                self._settle(
                    lease,
                    Outcome("refused", "too large", changed=changed)
                    if lease.kind == PAGE
                    else _failed("too large", now),
                )
            else:
                self._came_back(host, seconds)
                if lease.kind == PAGE and (named := licences(answer, lease.uri, self.token)):
                    await self._licences(host, named)
                self._answered(host, lease, answer)
            now = self.clock.now()
            if (
                host.next_at <= now
                and not host.delay_s
                and host.in_flight < self.source.connections
                and not self._spent()
                and len(self.acks) < 2 * FLUSH_PAGES
            ):
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
            self._not_had(
                host, lease, f"status {answer.status}", True, patience, answer.status in (429, 503)
            )
            return
        host.answered()
        said = (
            optout.of_site(host.files, lease.uri, self.token)
            if host.files and lease.kind == PAGE
            else ()
        )
        fetched = warc.now()
        outcome = understood(
            lease,
            answer,
            said,
            self.source,
            self.settings,
            self.policy,
            self.token,
            self.clock.now(),
            fetched,
        )
        if (
            outcome.kind == "stored"
            and (text := outcome.changed.get("text"))
            and answer.media()[0] in HTML
        ):
            self.texts[key := host.site + text] += 1
            if self.texts[key] > self.settings.same_text:
                outcome = Outcome(
                    "refused",
                    "same words as other pages",
                    changed={
                        **outcome.changed,
                        "decision": "refused",
                        "reason": "same words as other pages",
                        "sha256": lease.sha256,
                    },
                )
        if outcome.kind == "stored" and outcome.row is not None:
            if self.segment is None:
                self.segment = warc.Segment(self.folder, self.agent)
            offset = self.segment.add(
                lease.uri, answer.head(), outcome.body, fetched, outcome.row["sha256"]
            )
            outcome.row |= {"raw_file": self.segment.name, "raw_locator": str(offset)}
            outcome.body = b""
        elif outcome.kind == "unchanged" and lease.sha256 and lease.stored:
            if self.revisits is None:
                self.revisits = warc.Segment(self.state / "revisits", self.agent)
            self.revisits.revisit(
                lease.uri,
                answer.head() if answer.status == 304 else b"",
                fetched,
                lease.sha256,
                json.loads(lease.stored)["fetched"],
                answer.status == 304,
            )
        self._settle(lease, outcome)

    def _not_had(
        self,
        host: Host,
        lease: Lease,
        reason: str,
        heals: bool,
        retry_after_s: float | None,
        counts: bool,
    ) -> None:
        """An address gave no answer that can be used: ask again later, or let it be."""
        now = self.clock.now()
        if counts:
            host.failed(now, retry_after_s)
            self.frontier.db.execute(
                "UPDATE hosts SET next_at = ?, failures = ? WHERE id = ?",
                (host.next_at, host.failures, host.id),
            )
            if host.next_at > now:
                self.frontier.commit()  # its patience outlives us
        if heals and lease.attempts + 1 < self.settings.attempts:
            self.frontier.again(lease, now + min(2.0**lease.attempts, 60))
        else:
            self._settle(lease, _failed(reason, now))


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
