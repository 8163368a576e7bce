"""What a night asks of each site before its pages: where it is, its robots.txt, and what it says of use. All of it in the host's own time."""

import asyncio
import hashlib

from tasks.collect.fetch import Answer, Failed, TooMuch
from tasks.collect.frontier import SITEMAP, Found
from tasks.collect.interpret import AGAIN
from tasks.collect.night import Night
from tasks.collect.politeness import Address, Host
from tasks.collect.resolver import NotPublic
from tidemill.records import warc
from tidemill.web import robots, urls

ROBOTS_HOURS = 24.0  # RFC 9309, 2.4
SITE_FILES = {"tdmrep.json": "/.well-known/tdmrep.json", "ai.txt": "/ai.txt"}
MOST_FILES = 20  # of one site: what it says of use


class Sites(Night):
    """A night that knows how to ask a site politely."""

    def _ask(self, host: Host, now: float) -> None:
        """Note that a host is asked now, and when it may be asked again."""
        host.begin(now, self.settings.latency_factor, self.settings.per_address)
        if host.next_at > now:
            self.frontier.db.execute(
                "UPDATE hosts SET next_at = ? WHERE id = ?", (host.next_at, host.id)
            )
            self.durable = True

    async def _politely(self, host: Host) -> None:
        """Wait for a host's time outside its turn, as for its robots.txt."""
        while (wait := host.next_at - self.clock.now()) > 0 or host.crowded(
            self.clock.now(), self.settings.per_address
        ):
            await asyncio.sleep(max(wait, 0.02))
        self._ask(host, self.clock.now())
        if self.durable:
            self.frontier.commit()

    def _came_back(self, host: Host, seconds: float | None) -> None:
        host.end(
            self.clock.now(), self.settings.latency_factor, seconds, self.source.connections == 1
        )

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
        row = self.frontier.db.execute(
            "SELECT night, asked, standing FROM hosts WHERE id = ?", (host.id,)
        ).fetchone()
        # What a site said stays said while a file of it cannot be had.
        host.files = dict(
            self.frontier.db.execute(
                "SELECT name, body FROM files WHERE host = ? AND status = 200", (host.id,)
            )
        )
        if (
            row[0] == self.night
            and self.clock.now() - row[1] < ROBOTS_HOURS * 3600
            and row[2] in ("rules", "all")
        ):
            host.standing = row[2]  # a night that goes on has asked already
            host.heard = set(host.files)
        else:
            answer = await self._site_file(
                host, "robots.txt", host.site + "/robots.txt", robots.MOST_BYTES + 1
            )
            host.standing = robots.standing(answer.status if answer else None)
            if host.standing == "nothing":
                self._count(
                    host.site,
                    "failed",
                    f"robots.txt: {f'status {answer.status}' if answer else host.why or 'no answer'}",
                )
        host.rules = (
            robots.parse(host.files.get("robots.txt", b""), self.token)
            if host.standing == "rules"
            else robots.Robots(robots.Group())
        )
        host.next_at = max(
            host.next_at, self.clock.now() + host.gap_s(self.settings.latency_factor)
        )  # Crawl-delay counts from where it was read
        if host.standing != "nothing" and row[0] != self.night:
            for name, path in SITE_FILES.items():
                if host.rules.allows(host.site + path):
                    await self._site_file(host, name, host.site + path, robots.MOST_BYTES)
            await self._licences(
                host,
                [
                    *(name for name in host.files if "://" in name),
                    *(
                        found
                        for text in (*host.rules.licenses, *host.rules.group.licenses)
                        if (found := urls.joined(host.site + "/", text))
                    ),
                ],
            )
        self.frontier.db.execute(
            "UPDATE hosts SET night = ?, asked = ?, standing = ?, delay = ? WHERE id = ?",
            (self.night, self.clock.now(), host.standing, host.gap_s(0), host.id),
        )
        if self.source.kind == "web" and self.source.sitemaps:
            self._found(
                Found(there, SITEMAP)
                for text in host.rules.sitemaps
                if (there := urls.joined(host.site + "/", text))
                and self.scope.why_not(there) is None
            )

    async def _licences(self, host: Host, found: list[str]) -> None:
        """Have the RSL documents that a site or a page names, each once a night; those of another site too."""
        for there in dict.fromkeys(found):
            if (
                there not in host.heard
                and len(host.heard) < MOST_FILES
                and (urls.site(there) != host.site or (host.rules and host.rules.allows(there)))
            ):
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
            self.frontier.db.execute(
                "UPDATE hosts SET next_at = ?, failures = ? WHERE id = ?",
                (host.next_at, host.failures, host.id),
            )
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
            self.frontier.db.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
                (host.id, name, answer.status, warc.now(), hashlib.sha256(body).hexdigest(), body),
            )
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
            there = (
                urls.joined(uri, answer.get("location") or "")
                if answer.status in (301, 302, 303, 307, 308)
                else None
            )
            if there is None:
                return answer
            uri = there
        return Answer(404, [], b"")  # more than five: as if there were none (RFC 9309, 2.3.1.2)
