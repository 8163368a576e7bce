"""What a night asks of each site before its pages.

Where it is, its robots.txt, and what it says of use.

All of it in the host's own time.
"""

import logging

from tasks.collect.acknowledge import ITS_OWN
from tasks.collect.fetch import Answer, Failed, Fetcher, TooMuch
from tasks.collect.frontier import SITEMAP, Found
from tasks.collect.intake import Intake
from tasks.collect.interpret import AGAIN
from tasks.collect.night import CrawlNight, Tally
from tasks.collect.politeness import Host
from tasks.collect.resolver import Names, NotPublic
from tasks.collect.scope import Scope
from tasks.collect.turns import Later, Turns
from tidemill.records import warc
from tidemill.web import robots, urls

ROBOTS_HOURS = 24.0  # RFC 9309, 2.4
SITE_FILES = {"tdmrep.json": "/.well-known/tdmrep.json", "ai.txt": "/ai.txt"}
MOST_FILES = 20  # of one site: what it says of use
MOST_REDIRECTS = 5  # RFC 9309, 2.3.1.2
REDIRECTS = (301, 302, 303, 307, 308)
OF_A_FEED = "#rsl"  # behind a feed's address: the RSL statements within it

log = logging.getLogger(__name__)


class SiteFiles:
    """Asks sites for what they say of themselves, and keeps it."""

    def __init__(
        self,
        night: CrawlNight,
        scope: Scope,
        tally: Tally,
        turns: Turns,
        intake: Intake,
        names: Names,
        fetcher: Fetcher,
    ) -> None:
        self.night, self.scope, self.tally, self.turns = night, scope, tally, turns
        self.intake, self.names, self.fetcher = intake, names, fetcher
        self.frontier, self.clock = night.frontier, night.clock

    async def resolve(self, host: Host) -> None:
        """Find the address a host is at, so that names that share one share its patience."""
        attempts = self.night.settings.attempts
        try:
            for attempt in range(attempts):
                try:
                    addresses = await self.names.addresses(urls.host(host.site + "/"))
                    return self.turns.share(host, addresses[0][0])
                except NotPublic:
                    host.standing = "not a public address"
                    return None
                except OSError:
                    if attempt + 1 < attempts:
                        await self.turns.pause(2.0**attempt)
            host.standing = "name not resolved"
        finally:
            host.opened, host.asked = bool(host.standing), self.clock.now()
            host.in_flight -= 1
            self.turns.queue(host)

    async def open(self, host: Host) -> None:
        """Ask a host what it allows: once a night, and again after a day (RFC 9309, 2.4)."""
        host.in_flight -= 1
        try:
            await self._ask(host)
            host.opened = True
        except Later:
            host.why = host.why or "its delay is longer than this night waits"
        except ITS_OWN as error:
            log.warning("%s: its files cannot be handled", host.site, exc_info=error)
            why = f"what it says of itself cannot be handled: {type(error).__name__}"
            self.tally.count(host.site, "failed", why)
            host.standing, host.opened = "nothing", True
        finally:
            host.asked = self.clock.now()
            self.turns.queue(host)

    async def _ask(self, host: Host) -> None:
        number, asked, standing = self.frontier.standing(host.id)
        # What a site said stays said while a file of it cannot be had.
        host.files = self.frontier.files(host.id)
        fresh = self.clock.now() - asked < ROBOTS_HOURS * 3600
        if number == self.night.number and fresh and standing in ("rules", "all"):
            host.standing = standing  # a night that was taken up has asked already
            host.heard = set(host.files)
        else:
            await self._robots(host)
        body = host.files.get("robots.txt", b"") if host.standing == "rules" else b""
        host.rules = robots.parse(body, self.night.token)
        factor = self.night.settings.latency_factor
        # Crawl-delay counts from where it was read.
        host.next_at = max(host.next_at, self.clock.now() + host.gap_s(factor))
        if host.rules.delay_s > host.delay_s:
            host.why = f"Crawl-delay of {host.rules.delay_s:g} s"
        if host.standing != "nothing" and number != self.night.number:
            await self._of_use(host, host.rules)
        self.frontier.stands(
            host.id, self.night.number, self.clock.now(), host.standing, host.gap_s(0)
        )
        if self.night.source.kind == "web" and self.night.source.sitemaps:
            self._sitemaps(host, host.rules)

    async def _robots(self, host: Host) -> None:
        uri = host.site + "/robots.txt"
        answer = await self._file(host, "robots.txt", uri, robots.MOST_BYTES + 1)
        host.standing = robots.standing(answer.status if answer else None)
        if host.standing == "nothing":
            why = f"status {answer.status}" if answer else host.why or "no answer"
            self.tally.count(host.site, "failed", f"robots.txt: {why}")

    async def _of_use(self, host: Host, rules: robots.Robots) -> None:
        """Ask for what a site says of use: its well-known files, and its RSL licences."""
        for name, path in SITE_FILES.items():
            if rules.allows(host.site + path):
                await self._file(host, name, host.site + path, robots.MOST_BYTES)
        named = [
            there
            for text in (*rules.licenses, *rules.group.licenses)
            if (there := urls.joined(host.site + "/", text))
        ]
        before = [name for name in host.files if "://" in name and not name.endswith(OF_A_FEED)]
        await self.licences(host, [*before, *named])

    def _sitemaps(self, host: Host, rules: robots.Robots) -> None:
        there = (urls.joined(host.site + "/", text) for text in rules.sitemaps)
        self.intake.take(
            Found(uri, SITEMAP) for uri in there if uri and self.scope.why_not(uri) is None
        )

    async def licences(self, host: Host, named: list[str]) -> None:
        """Have the RSL documents that a site or a page names, each once a night.

        Those of another site too.
        """
        for there in dict.fromkeys(named):
            ours = urls.site(there) == host.site
            if ours and not (host.rules and host.rules.allows(there)):
                continue
            if there not in host.heard and len(host.heard) < MOST_FILES:
                host.heard.add(there)
                await self._file(host, there, there, robots.MOST_BYTES)

    def keep(self, host: Host, name: str, status: int, body: bytes) -> None:
        """What was said is kept raw, with its digest."""
        host.files.pop(name, None)
        if status == 200:
            host.files[name] = body
        self.frontier.file(host.id, name, status, warc.now(), body)

    async def _file(self, host: Host, name: str, uri: str, most: int) -> Answer | None:
        """One of a site's own files, asked for again where that can help.

        None where it cannot be had.
        """
        answer = None
        for attempt in range(self.night.settings.attempts):
            try:
                answer, heals = await self._through(uri, most)
            except Later:
                if not attempt:
                    raise
                break
            if not heals:
                break
            if attempt + 1 < self.night.settings.attempts and not host.delay_s:
                await self.turns.pause(min(2.0**attempt, 60))
        if answer is not None and answer.status < 500 and answer.status != 429:
            self.keep(host, name, answer.status, answer.body if answer.status == 200 else b"")
        return answer

    async def _through(self, first: str, most: int) -> tuple[Answer | None, bool]:
        """A small file's answer after redirects, each hop checked and in its host's time.

        With it goes whether asking again can help. One that leads to where we may not go, or
        through too many redirects, is as if there were none (RFC 9309, 2.3.1.2).
        """
        uri = first
        for hop in range(MOST_REDIRECTS + 1):
            if not self._may_ask(uri, first):
                return (Answer(404, [], b"") if hop else None), False
            host = self.turns.host(urls.site(uri))
            answer, failure = await self._one(host, uri, most)
            if answer is None:
                outside = bool(hop) and failure is not None and not failure.heals
                return (Answer(404, [], b"") if outside else None), bool(failure and failure.heals)
            there = urls.joined(uri, answer.get("location") or "")
            if answer.status not in REDIRECTS or there is None:
                return answer, answer.status in AGAIN
            uri = there
        return Answer(404, [], b""), False

    def _may_ask(self, uri: str, first: str) -> bool:
        """Whether a hop stays within the source's hosts, and on its ports.

        Or where the file itself is.
        """
        name = urls.host(uri)
        if name not in self.scope.mirrors and urls.port(uri) not in self.night.source.ports:
            return False
        return name == urls.host(first) or self.scope.holds(name)

    async def _one(self, host: Host, uri: str, most: int) -> tuple[Answer | None, Failed | None]:
        await self.turns.politely(host)
        seconds = None
        try:
            answer = await self.fetcher.get(uri, most_bytes=most, cut=True)
            seconds = answer.seconds
        except TooMuch:
            host.why = "too large"
            return None, None
        except Failed as failure:
            host.why = failure.reason
            if failure.heals:
                self.turns.failed(host, None)
            return None, failure
        finally:
            self.turns.came_back(host, seconds)
        if answer.status in AGAIN:
            self.turns.failed(host, answer.retry_after_s())
        else:
            host.answered()
        return answer, None
