"""The crawler: what robots.txt allows, one page at a time per host, unless a source says otherwise.

Pages come from the seeds and the sitemaps they are or name. A page that answers 304, or with the
bytes we have, is unchanged; a night in which nothing changed writes nothing.
"""

import asyncio
import hashlib
import ipaddress
import logging
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from ada_url import URL
from aiohttp.abc import AbstractResolver, ResolveResult
from lxml import etree
from protego import Protego

from tasks import process
from tasks.collect import raw
from tasks.errors import Fault, Refused
from tasks.schema import Collect, Source

log = logging.getLogger(__name__)

HEALS = (429, 500, 502, 503, 504)
ROBOTS_BYTES = 500 * 1024  # RFC 9309, 2.5
MAX_DELAY_S = 60.0


class Resolver(AbstractResolver):
    """Names to addresses that may be connected to; a mirror's name leads to its port on loopback."""

    def __init__(self, allow_loopback: bool, mirrors: dict[str, int]) -> None:
        self.allow_loopback, self.mirrors = allow_loopback, mirrors

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        if host in self.mirrors:
            found = [("127.0.0.1", self.mirrors[host], int(socket.AF_INET))]
        else:
            infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = [(str(info[4][0]), port, int(info[0])) for info in infos]
        good = [item for item in found if self.permitted(item[0])]
        if not good:
            raise OSError(f"{host} leads to {', '.join(item[0] for item in found)}, which is not a public address")
        return [
            ResolveResult(hostname=host, host=address, port=at, family=family_, proto=0, flags=socket.AI_NUMERICHOST)
            for address, at, family_ in good
        ]

    def permitted(self, address: str) -> bool:
        ip = ipaddress.ip_address(address)
        return ip.is_loopback if self.allow_loopback and ip.is_loopback else ip.is_global and not ip.is_multicast

    async def close(self) -> None:
        pass


class Host:
    """One host's rules and the time of its next request."""

    def __init__(self, rules: Protego | None, delay_s: float) -> None:
        self.rules, self.delay_s, self.next_at = rules, delay_s, 0.0
        self.lock = asyncio.Lock()

    async def turn(self) -> None:
        """Wait for this host's next turn."""
        if not self.delay_s:
            return
        async with self.lock:
            wait = self.next_at - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            self.next_at = time.monotonic() + self.delay_s


class Crawl:
    """One night over one web source."""

    def __init__(self, source: Source, settings: Collect, folder: Path, mirrors: dict[str, int]) -> None:
        self.source, self.settings, self.folder = source, settings, folder
        self.agent = settings.user_agent + (f" (+{settings.contact})" if settings.contact else "")
        self.token = settings.user_agent.split("/")[0]
        self.known = raw.manifest(folder)
        self.rows = dict(self.known)
        self.hosts: dict[str, Host] = {}
        self.reasons: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.segment: raw.Segment | None = None
        self.listed_all = True
        self.mirrors = mirrors

    async def run(self) -> None:
        """Visit every page; raises `Fault` where nothing could be had or too much failed."""
        connector = aiohttp.TCPConnector(
            resolver=Resolver(self.source.allow_loopback, self.mirrors), limit_per_host=self.source.connections, ttl_dns_cache=300
        )
        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_s)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self.agent}, auto_decompress=True, trust_env=False,
        ) as self.session:
            try:
                pages = await self.pages()
                await self.visit(pages)
            except BaseException:
                if self.segment:
                    self.segment.discard()
                raise
        # Only a night that saw every list knows that a page is gone from them.
        for uri in set(self.known) - set(pages) if self.listed_all else ():
            if self.rows[uri]["status"] == 200 and urlsplit(uri).hostname in self.source.hosts:
                self.rows[uri] = {**self.rows[uri], "status": 410, "signals": "no longer listed"}
                self.counts["gone"] += 1
        if self.segment:
            self.segment.close()
        self.judge(len(pages))

    def judge(self, pages: int) -> None:
        failed = self.counts["failed"]
        if not pages:
            why = "; ".join(f"{n} x {reason}" for reason, n in self.reasons.most_common(3)) or "its sitemaps list no page"
            raise Fault(f"source {self.source.name} is empty: {why}; what was collected before stays", heals=bool(failed))
        if failed and failed > self.source.max_failed * pages:
            why = "; ".join(f"{n} x {reason}" for reason, n in self.reasons.most_common(3))
            raise Fault(f"source {self.source.name}: {failed} of {pages} pages failed ({why}), "
                        f"max_failed is {self.source.max_failed}; what was collected before stays", heals=True)

    async def pages(self) -> list[str]:
        """The pages to visit: seeds, with sitemaps opened to what they list."""
        queue, pages, seen = list(self.source.seeds), [], set()
        while queue:
            uri = str(URL(queue.pop(0)))
            if uri in seen:
                continue
            seen.add(uri)
            if urlsplit(uri).hostname not in self.source.hosts:
                self.refuse("host not in hosts")
                continue
            if not uri.rsplit("/", 1)[-1].startswith("sitemap"):
                pages.append(uri)
                continue
            answer = await self.get(uri)
            if answer is None or answer[0] != 200:
                self.listed_all = False
                if answer is not None:
                    self.fail(f"sitemap answered {answer[0]}")
                continue
            queue += listed(answer[2])
        return pages

    async def visit(self, pages: list[str]) -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()
        for uri in pages:
            queue.put_nowait(uri)
        self.done, self.told = 0, 0.0

        async def worker() -> None:
            while not queue.empty():
                await self.page(queue.get_nowait())
                self.done += 1
                if time.monotonic() - self.told > 0.5 or self.done == len(pages):
                    self.told = time.monotonic()
                    process.progress(self.done, len(pages), "pages", **self.counts)

        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, self.source.connections * len(self.source.hosts))):
                group.create_task(worker())

    async def page(self, uri: str) -> None:
        known = self.known.get(uri)
        headers = {}
        if known and known["status"] == 200:
            if known["etag"]:
                headers["If-None-Match"] = known["etag"]
            if known["modified"]:
                headers["If-Modified-Since"] = known["modified"]
        answer = await self.get(uri, headers)
        if answer is None:
            return
        status, head, body = answer
        if status == 304 and known:
            self.counts["unchanged"] += 1
            return
        if status in (404, 410):
            self.counts["gone"] += 1
            if known:
                self.rows[uri] = {**known, "status": status}
            return
        if status != 200:
            self.fail(f"status {status}")
            return
        body_digest = hashlib.sha256(body).hexdigest()
        if known and known["sha256"] == body_digest and known["status"] == 200:
            self.counts["unchanged"] += 1
            return
        if self.segment is None:
            self.segment = raw.Segment(self.folder, self.agent)
        fetched = raw.now()
        lines = [f"HTTP/1.1 {status} OK"]
        lines += [f"{k}: {v}" for k, v in head.items() if k.lower() not in ("content-encoding", "transfer-encoding", "content-length")]
        offset = self.segment.add(uri, ("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n").encode(), body, fetched)
        media, _, parameters = head.get("Content-Type", "").partition(";")
        self.rows[uri] = {
            "uri": uri, "fetched": fetched, "status": status, "media": media.strip() or None,
            "charset": parameters.partition("charset=")[2].strip(' "') or None,
            "etag": head.get("ETag"), "modified": head.get("Last-Modified"), "sha256": body_digest,
            "raw_file": self.segment.name, "raw_locator": str(offset),
            "signals": head.get("X-Robots-Tag") or None,
        }
        self.counts["fetched"] += 1
        self.counts["bytes"] += len(body)

    async def get(self, uri: str, headers: dict[str, str] | None = None) -> tuple[int, Any, bytes] | None:
        """One page, politely: (status, headers, body), or None where it was refused or failed."""
        parts = urlsplit(uri)
        host = await self.host(f"{parts.scheme}://{parts.netloc}")
        if host.rules is None or not host.rules.can_fetch(uri, self.token):
            self.refuse("robots.txt" if host.rules else "robots.txt cannot be had")
            return None
        return await self.request(uri, host, headers)

    async def request(self, uri: str, host: Host | None, headers: dict[str, str] | None = None) -> tuple[int, Any, bytes] | None:
        limit = int(self.settings.max_page_mb * 2**20) if host else ROBOTS_BYTES
        why = ""
        for attempt in range(self.settings.attempts):
            if host:
                await host.turn()
            wait = min(2.0**attempt, MAX_DELAY_S)
            try:
                async with self.session.get(uri, headers=headers, allow_redirects=False) as response:
                    if response.status not in HEALS:
                        body = await response.content.read(limit + 1)
                        while len(body) <= limit and not response.content.at_eof():
                            body += await response.content.read(limit + 1 - len(body))
                        if len(body) > limit and host:
                            self.refuse("too large")
                            return None
                        return response.status, response.headers, body[:limit]
                    why = f"status {response.status}"
                    after = response.headers.get("Retry-After", "")
                    wait = float(after) if after.isdigit() else wait
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                why = f"{type(error).__name__}: {error}"[:120]
            if attempt + 1 < self.settings.attempts:
                await asyncio.sleep(min(wait, MAX_DELAY_S))
        if host:
            self.fail(why)
            return None
        raise ConnectionError(why)

    async def host(self, site: str) -> Host:
        """A host's rules, asked once a night: 4xx allows all, 5xx and silence allow nothing (RFC 9309)."""
        if site not in self.hosts:
            rules: Protego | None
            try:
                answer = await self.request(f"{site}/robots.txt", None)
                assert answer is not None
                status, _, body = answer
                text = body.decode("utf-8", "replace") if status == 200 else ""
                rules = Protego.parse(text) if status < 500 else None
            except ConnectionError as error:
                log.warning("%s/robots.txt: %s", site, error)
                self.fail(str(error))
                rules = None
            asked = (rules.crawl_delay(self.token) if rules else None) or 0.0
            self.hosts[site] = Host(rules, max(asked, self.source.delay_s))
        return self.hosts[site]

    def refuse(self, reason: str) -> None:
        self.counts["refused"] += 1
        self.reasons[reason] += 1

    def fail(self, reason: str) -> None:
        self.counts["failed"] += 1
        self.reasons[reason] += 1


def listed(body: bytes) -> list[str]:
    """The addresses a sitemap or a sitemap index lists; entities and the network stay closed."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True, huge_tree=False)
    try:
        tree = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise Refused(f"a sitemap is not XML: {error}") from error
    return [] if tree is None else [loc.text.strip() for loc in tree.iter("{*}loc") if loc.text]
