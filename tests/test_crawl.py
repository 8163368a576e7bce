"""The crawler against a real server on loopback."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from warcio.archiveiterator import ArchiveIterator

from tasks import config
from tasks.collect import raw
from tasks.collect.crawl import Crawl, Resolver
from tasks.errors import Fault

SOURCE = config.source("udhr").model_copy(update={"hosts": ("site.localhost",), "seeds": ("http://site.localhost/sitemap.xml",), "mirror": None, "max_failed": 0.5})
SETTINGS = config.general().collect.model_copy(update={"attempts": 1, "timeout_s": 5.0})


def night(folder: Path, answer: Callable[[web.Request], web.Response]) -> Crawl:
    """One night against a site whose pages `answer` gives."""

    async def go() -> Crawl:
        async def handle(request: web.Request) -> web.Response:
            return answer(request)

        app = web.Application()
        app.router.add_get("/{name:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            crawl = Crawl(SOURCE, SETTINGS, folder, {"site.localhost": runner.addresses[0][1]})
            await crawl.run()
            raw.save_manifest(folder, crawl.rows.values())
            return crawl
        finally:
            await runner.cleanup()

    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(go())


def site(robots: str = "User-agent: *\nAllow: /\n", robots_status: int = 200, listed: str = "abc", sitemap: int = 200, bodies: str = "1") -> Callable[[web.Request], web.Response]:
    def answer(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name == "robots.txt":
            return web.Response(text=robots, status=robots_status)
        if name == "sitemap.xml":
            places = "".join(f"<url><loc>http://site.localhost/{page}</loc></url>" for page in listed)
            return web.Response(text=f"<urlset>{places}<url><loc>http://site.localhost/sitemap-more.xml</loc></url></urlset>", content_type="application/xml")
        if name == "sitemap-more.xml":
            return web.Response(text="<urlset><url><loc>http://site.localhost/z</loc></url></urlset>", status=sitemap)
        tag = f'"{name}{bodies}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304)
        return web.Response(text=f"<p>{name} {bodies}</p>", headers={"ETag": tag})

    return answer


def test_a_second_night_of_the_same_pages_writes_nothing(tmp_path: Path) -> None:
    first = night(tmp_path, site())
    assert first.counts["fetched"] == 4
    files = sorted(path.name for path in tmp_path.iterdir())
    again = night(tmp_path, site())
    assert (again.counts["unchanged"], again.counts["fetched"]) == (4, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    changed = night(tmp_path, site(bodies="2"))
    assert changed.counts["fetched"] == 4


def test_another_reader_reads_what_was_stored(tmp_path: Path) -> None:
    night(tmp_path, site())
    (segment,) = tmp_path.glob("*.warc.gz")
    with segment.open("rb") as file:
        found = {record.rec_headers["WARC-Target-URI"]: record.content_stream().read() for record in ArchiveIterator(file) if record.rec_type == "response"}
    assert found["http://site.localhost/a"] == b"<p>a 1</p>"
    ours = {row["uri"]: body for row, body in raw.bodies(tmp_path, raw.manifest(tmp_path).values())}
    assert ours == found


def test_robots_txt_is_obeyed(tmp_path: Path) -> None:
    crawl = night(tmp_path, site(robots="User-agent: *\nDisallow: /b\n"))
    assert sorted(crawl.rows) == [f"http://site.localhost/{page}" for page in "acz"]
    assert crawl.reasons["robots.txt"] == 1


def test_a_robots_txt_that_answers_5xx_allows_nothing_and_one_that_is_missing_allows_all(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="is empty"):
        night(tmp_path / "a", site(robots_status=503))
    assert len(night(tmp_path / "b", site(robots_status=404)).rows) == 4


def test_a_page_that_is_no_longer_listed_is_gone(tmp_path: Path) -> None:
    night(tmp_path, site())
    crawl = night(tmp_path, site(listed="ab"))
    assert crawl.rows["http://site.localhost/c"]["status"] == 410
    assert crawl.rows["http://site.localhost/a"]["status"] == 200


def test_a_sitemap_that_fails_makes_no_page_gone(tmp_path: Path) -> None:
    night(tmp_path, site())
    crawl = night(tmp_path, site(sitemap=500))
    assert crawl.rows["http://site.localhost/z"]["status"] == 200


def test_private_addresses_are_not_connected_to() -> None:
    strict = Resolver(allow_loopback=False, mirrors={})
    assert not [address for address in ("127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "224.0.0.1", "100.64.0.1") if strict.permitted(address)]
    assert strict.permitted("93.184.216.34")
    assert Resolver(allow_loopback=True, mirrors={}).permitted("127.0.0.1")
    with pytest.raises(OSError, match=re.escape("not a public address")):
        asyncio.run(strict.resolve("localhost", 80))
