"""What benchmarks.crawl runs in other processes: the site and the crawlers.

Each answers with one line of JSON. Runs under the interpreter of the peers too, so nothing of
theirs or ours is imported before it is asked for.
"""

import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path

TOGETHER = 8  # requests at a time, for all of them


def spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def told(pages: int, links: int, cpu_s: float, wall_s: float, **more: float) -> None:
    print(
        json.dumps(
            {
                "pages": pages,
                "links": links,
                "cpu_s": cpu_s,
                "wall_s": wall_s,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                **more,
            }
        ),
        flush=True,
    )


def site(folder: str) -> None:
    """Serve a folder's pages on a free port of 127.0.0.1, with an ETag each; says the port."""
    root = Path(folder)
    answers, unchanged = {}, {}
    for number, path in enumerate(sorted(root.rglob("*.html"))):
        body, tag = path.read_bytes(), f'"{number}"'
        name = "/" + path.relative_to(root).as_posix()
        common = (
            f"ETag: {tag}\r\nCache-Control: max-age=0\r\n"
            "Last-Modified: Mon, 23 Nov 2026 10:00:00 GMT\r\n"
        )
        answers[name] = (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
            f"{common}Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        unchanged[name] = tag.encode(), f"HTTP/1.1 304 Not Modified\r\n{common}\r\n".encode()
    robots = b"User-agent: *\nAllow: /\n"
    answers["/robots.txt"] = (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(robots)}\r\n\r\n"
    ).encode() + robots
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n"

    class Answer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport, self.left = transport, b""

        def data_received(self, data: bytes) -> None:
            self.left += data
            while b"\r\n\r\n" in self.left:
                head, _, self.left = self.left.partition(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode().partition("?")[0]
                tag, short = unchanged.get(path, (b"", b""))
                self.transport.write(
                    short
                    if tag and b"\nif-none-match: " + tag in head.lower()
                    else answers.get(path, missing)
                )  # type: ignore[attr-defined]

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(serve())


def ours(start: str, folder: str) -> None:
    """A night, or the next one where the folder has had one."""
    from tasks.collect import interpret
    from tasks.collect.crawl import Crawl
    from tidemill.engines import config
    from tidemill.engines.config.schema import OptOut, Source

    host, _, port = start.split("/")[2].partition(":")
    source = Source.model_validate(
        {
            "name": "bench",
            "kind": "web",
            "licence": "PSF-2.0",
            "hosts": [host],
            "seeds": [start],
            "ports": [int(port)],
            "allow_loopback": True,
            "depth": 100,
            "delay_s": 0,
            "connections": TOGETHER,
            "revisit_days": [0, 0],
            "max_failed": 1,
            "selector": [{"kind": "whole", "name": "page"}],
            "clean": {},
        }
    )
    found, read = set(), interpret.links.read

    def counting(*given, **named):  # type: ignore[no-untyped-def]
        page = read(*given, **named)
        found.update(page.links)
        return page

    interpret.links.read = counting
    (Path(folder) / "raw").mkdir(parents=True, exist_ok=True)
    crawl = Crawl(
        source,
        config.general().collect,
        OptOut(),
        Path(folder) / "raw",
        Path(folder) / "state",
        quiet=True,
    )
    cpu, wall = spent(), time.monotonic()
    night = asyncio.run(crawl.run())
    told(
        night.fetched + night.unchanged,
        sum(link.startswith(start.rsplit("/", 1)[0]) for link in found),
        spent() - cpu,
        time.monotonic() - wall,
    )


def scrapy(start: str, folder: str) -> None:
    """Scrapy with its LinkExtractor and robots.txt; with a folder also its RFC2616 cache."""
    import scrapy as kit
    from scrapy.crawler import CrawlerProcess
    from scrapy.linkextractors import LinkExtractor

    seen, pages = set(), [0]

    class Spider(kit.Spider):
        name = "bench"
        start_urls = [start]
        allowed_domains = ["127.0.0.1"]
        extractor = LinkExtractor()

        def parse(self, response):  # type: ignore[no-untyped-def]
            pages[0] += 1
            for link in (
                self.extractor.extract_links(response)
                if isinstance(response, kit.http.TextResponse)
                else ()
            ):
                if (there := link.url.partition("#")[0]).startswith(start.rsplit("/", 1)[0]):
                    seen.add(there)
                    yield kit.Request(there)

    settings = {
        "ROBOTSTXT_OBEY": True,
        "LOG_LEVEL": "ERROR",
        "CONCURRENT_REQUESTS": TOGETHER,
        "CONCURRENT_REQUESTS_PER_DOMAIN": TOGETHER,
        "DOWNLOAD_DELAY": 0,
        "TELNETCONSOLE_ENABLED": False,
        "RETRY_ENABLED": False,
        "USER_AGENT": "bench/1.0",
    }
    if folder != "-":
        settings |= {
            "HTTPCACHE_ENABLED": True,
            "HTTPCACHE_POLICY": "scrapy.extensions.httpcache.RFC2616Policy",
            "HTTPCACHE_DIR": folder,
        }
    process = CrawlerProcess(settings)
    process.crawl(Spider)
    cpu, wall = spent(), time.monotonic()
    process.start()
    told(pages[0], len(seen), spent() - cpu, time.monotonic() - wall)


def crawlee(start: str, folder: str) -> None:
    """Crawlee's Parsel crawler, robots.txt on, its storage in memory."""
    os.environ["CRAWLEE_LOG_LEVEL"] = "ERROR"
    from datetime import timedelta
    from urllib.parse import urljoin

    from crawlee import ConcurrencySettings
    from crawlee.crawlers import ParselCrawler
    from crawlee.storage_clients import MemoryStorageClient

    pages, seen = [0], set()

    async def work() -> None:
        crawler = ParselCrawler(
            concurrency_settings=ConcurrencySettings(
                min_concurrency=TOGETHER, max_concurrency=TOGETHER, desired_concurrency=TOGETHER
            ),
            respect_robots_txt_file=True,
            storage_client=MemoryStorageClient(),
            max_request_retries=0,
            configure_logging=False,
            request_handler_timeout=timedelta(seconds=60),
        )

        @crawler.router.default_handler
        async def handle(context):  # type: ignore[no-untyped-def]
            pages[0] += 1
            # Its own extract_links makes a request of every link and took seven times as long: only
            # what is new is handed over.
            found = {
                urljoin(context.request.url, href).partition("#")[0]
                for href in context.selector.css("a::attr(href)").getall()
            }
            new = [
                there
                for there in found
                if there.startswith(start.rsplit("/", 1)[0]) and there not in seen
            ]
            seen.update(new)
            if new:
                await context.add_requests(new)

        await crawler.run([start])

    cpu, wall = spent(), time.monotonic()
    asyncio.run(work())
    told(pages[0], len(seen), spent() - cpu, time.monotonic() - wall)


def frontier(start: str, folder: str) -> None:
    """A million addresses of a thousand hosts, taken up 500 at a time as a crawl finds them.

    A few are leased of each.
    """
    from tasks.collect.frontier import Found, Frontier

    cpu, wall = spent(), time.monotonic()
    store = Frontier(Path(folder) / "frontier.db", Path(folder))
    night, _ = store.night(time.time(), 12)
    for batch in range(2_000):
        store.add(
            [
                Found(
                    f"http://host{(batch * 7 + place) % 1000}.example/"
                    f"section/{batch}/a-page-with-a-name-{place}.html",
                    rank=1,
                )
                for place in range(500)
            ],
            night,
            time.time(),
        )
        if batch % 10 == 0:
            store.commit()
    for number in list(store.hosts.values()):
        store.take(number, 32, time.time())
    store.commit()
    told(
        store.number(),
        len(store.hosts),
        spent() - cpu,
        time.monotonic() - wall,
        disk_mb=(Path(folder) / "frontier.db").stat().st_size / 2**20,
    )


if __name__ == "__main__":
    {"site": site, "ours": ours, "scrapy": scrapy, "crawlee": crawlee, "frontier": frontier}[
        sys.argv[1]
    ](*sys.argv[2:])
