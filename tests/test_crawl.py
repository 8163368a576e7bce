"""The crawler against a small hostile web on loopback: tests/support/site."""

import asyncio
import gzip
import re
import socket
import sqlite3
import ssl
import subprocess
import zlib
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from time import monotonic, time

import brotli
import pytest
from backports import zstd
from selectolax.lexbor import LexborHTMLParser
from warcio.archiveiterator import ArchiveIterator

from tasks.collect import links
from tasks.collect.fetch import Failed, Fetcher
from tasks.collect.interpret import wait_days
from tasks.collect.resolver import Names, NotPublic, permitted
from tests.support.feeds import FEEDS
from tests.support.site import (
    ROBOTS,
    Ask,
    Reply,
    Web,
    each,
    endless,
    html,
    memory,
    night,
    pages,
    sitemap,
    source,
)
from tidemill.engines.config.schema import NightBudget
from tidemill.records import warc
from tidemill.runtime.errors import Fault
from tidemill.web import urls

LISTS = "http://a.localhost/sitemap.xml"


def site(
    listed: str = "bcd",
    version: str = "1",
    robots: bytes = ROBOTS,
    robots_status: int = 200,
    more: int = 200,
):
    """A host whose sitemap lists one-letter pages, and a second sitemap with the page z."""

    def answer(ask: Ask) -> Reply | None:
        name = ask.path[1:]
        if name == "robots.txt":
            return Reply(robots, robots_status, media="text/plain")
        if name == "sitemap.xml":
            return Reply(
                sitemap(
                    *(f"http://a.localhost/{page}" for page in listed),
                    more="<sitemap><loc>/sitemap-more.xml</loc></sitemap>",
                ).encode()
            )
        if name == "sitemap-more.xml":
            return Reply(sitemap("http://a.localhost/z").encode(), more)
        if len(name) != 1:
            return None
        tag = f'"{name}{version}"'
        if ask.headers.get("if-none-match") == tag:
            return Reply(status=304)
        return Reply(f"<p>{name} {version}</p>".encode(), headers={"ETag": tag})

    return answer


def manifest(folder: Path) -> dict[str, dict]:
    return warc.manifest(folder / "raw")


def names(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "raw").iterdir()}


def test_a_second_night_of_the_same_pages_writes_nothing(tmp_path: Path) -> None:
    with Web(a=site()) as web:
        assert night(tmp_path, web, source(LISTS)).fetched == 4
        before, written = (
            names(tmp_path),
            (tmp_path / "raw" / "manifest.parquet").stat().st_mtime_ns,
        )
        again = night(tmp_path, web, source(LISTS))
        assert (tmp_path / "raw" / "manifest.parquet").stat().st_mtime_ns == written
        assert (again.unchanged, again.fetched, again.records) == (4, 0, 4)
        assert names(tmp_path) == before
        web.hosts["a.localhost"] = site(version="2")
        assert night(tmp_path, web, source(LISTS)).fetched == 4
    assert list((tmp_path / "state" / "revisits").glob("*.warc.gz"))


def test_another_reader_reads_what_was_stored_and_what_was_seen_again(tmp_path: Path) -> None:
    with Web(a=site()) as web:
        night(tmp_path, web, source(LISTS))
        night(tmp_path, web, source(LISTS))
    found = {}
    for segment in (
        *(tmp_path / "raw").glob("*.warc.gz"),
        *(tmp_path / "state" / "revisits").glob("*.warc.gz"),
    ):
        with segment.open("rb") as file:
            for record in ArchiveIterator(file, check_digests="raise"):
                found[record.rec_type, record.rec_headers.get("WARC-Target-URI")] = (
                    record.content_stream().read()
                )
                assert record.digest_checker is None or record.digest_checker.passed is not False
    assert found["response", "http://a.localhost/b"] == b"<p>b 1</p>"
    assert ("revisit", "http://a.localhost/b") in found
    ours = {
        row["uri"]: body for row, body in warc.bodies(tmp_path / "raw", manifest(tmp_path).values())
    }
    assert ours == {uri: body for (kind, uri), body in found.items() if kind == "response"}


def test_robots_txt_is_obeyed(tmp_path: Path) -> None:
    with Web(a=site(robots=b"User-agent: *\nDisallow: /b\n")) as web:
        found = night(tmp_path, web, source(LISTS))
        assert "/b" not in web.paths()
    assert sorted(manifest(tmp_path)) == [f"http://a.localhost/{page}" for page in "cdz"]
    assert found.reasons == {"robots.txt": 1}


def test_a_robots_txt_that_answers_5xx_allows_nothing_and_one_that_is_missing_allows_all(
    tmp_path: Path,
) -> None:
    with Web(a=site(robots_status=503)) as web:
        with pytest.raises(Fault, match="is empty"):
            night(tmp_path / "a", web, source(LISTS))
        assert web.paths() == []
    with Web(a=site(robots_status=404)) as web:
        assert night(tmp_path / "b", web, source(LISTS)).fetched == 4


def test_a_page_that_is_no_longer_listed_is_gone_and_comes_back(tmp_path: Path) -> None:
    with Web(a=site()) as web:
        night(tmp_path, web, source(LISTS))
        web.hosts["a.localhost"] = site(listed="bd")
        assert night(tmp_path, web, source(LISTS)).gone == 1
        found = manifest(tmp_path)
        assert (
            found["http://a.localhost/c"]["status"],
            found["http://a.localhost/b"]["status"],
        ) == (410, 200)
        web.hosts["a.localhost"] = site()
        night(tmp_path, web, source(LISTS))
    assert manifest(tmp_path)["http://a.localhost/c"]["status"] == 200


def test_a_sitemap_that_fails_makes_no_page_gone(tmp_path: Path) -> None:
    with Web(a=site()) as web:
        night(tmp_path, web, source(LISTS))
        for status in (500, 404):
            web.hosts["a.localhost"] = site(more=status)
            assert night(tmp_path, web, source(LISTS)).failed == 1
            assert manifest(tmp_path)["http://a.localhost/z"]["status"] == 200


def test_a_page_that_is_missing_three_nights_leaves_the_snapshot_and_one_bad_night_takes_nothing(
    tmp_path: Path,
) -> None:
    there = {"b": True}
    answering = site(listed="bc")

    def answer(ask: Ask) -> Reply | None:
        return Reply(b"gone", 410) if ask.path == "/b" and not there["b"] else answering(ask)

    with Web(a=answer) as web:
        night(tmp_path, web, source(LISTS))
        statuses = []
        for here in (False, True, False, False, False):
            there["b"] = here
            night(tmp_path, web, source(LISTS))
            statuses.append(manifest(tmp_path)["http://a.localhost/b"]["status"])
    assert statuses == [200, 200, 200, 200, 410]


# Links, lists and feeds ---------------------------------------------------------------------------


def test_links_are_followed_as_deep_as_the_source_says_and_no_further(tmp_path: Path) -> None:
    host = pages(
        index=html(
            "top",
            "/one",
            "one#part",
            "http://b.localhost/else",
            "mailto:a@b",
            "/no",
            head='<link rel="canonical" href="/">',
        ),
        one=html("one", "/two"),
        two=html("two", "/three"),
        three=html("three"),
        no=html("no"),
        robots="User-agent: tidemill\nDisallow: /no\n",
    )
    for depth, wanted in (
        (0, ["/"]),
        (1, ["/", "/one"]),
        (2, ["/", "/one", "/two"]),
        (5, ["/", "/one", "/three", "/two"]),
    ):
        with Web(a=host, b=pages(**{"else": "else"})) as web:
            found = night(tmp_path / str(depth), web, source("http://a.localhost/", depth=depth))
            assert sorted(web.paths("a.")) == wanted
            assert web.paths("b.") == []
        assert found.fetched == len(wanted)


def test_nofollow_is_not_followed_and_a_copy_is_stored_once_under_its_canonical_address(
    tmp_path: Path,
) -> None:
    with Web(
        a=pages(
            index=(
                '<html><body><a href="/x" rel="ugc nofollow">x</a><a href="/y">y</a>'
                '<a href="/copy?print=1">c</a></body></html>'
            ),
            x="x",
            y=html("y", "/z", head='<meta name="robots" content="nofollow">'),
            z="z",
            copy=html("the page"),
            **{"copy?print=1": html("the page", head='<link rel="canonical" href="/copy">')},
        )
    ) as web:
        found = night(tmp_path, web, source("http://a.localhost/", depth=3))
        assert sorted(web.paths()) == ["/", "/copy", "/copy?print=1", "/y"]
    assert sorted(manifest(tmp_path)) == [
        "http://a.localhost/",
        "http://a.localhost/copy",
        "http://a.localhost/y",
    ]
    assert found.fetched == 3


def test_allowed_paths_and_media_types_bound_a_source(tmp_path: Path) -> None:
    with Web(
        a=pages(
            index=html("i", "/docs/a", "/docs/b?print=1", "/blog/c", "/docs/pic"),
            **{
                "docs/a": html("a"),
                "docs/b?print=1": html("b"),
                "blog/c": html("c"),
                "docs/pic": Reply(b"\x89PNG", media="image/png"),
            },
        )
    ) as web:
        found = night(
            tmp_path,
            web,
            source(
                "http://a.localhost/",
                depth=1,
                allow=["/docs/", "/$"],
                deny=["/*?print="],
                media=["text/*"],
            ),
        )
        assert sorted(web.paths()) == ["/", "/docs/a", "/docs/pic"]
    assert (found.fetched, found.reasons) == (2, {"media type image/png": 1})


def test_sitemaps_may_be_indexes_gzipped_named_by_robots_txt_and_in_several_languages(
    tmp_path: Path,
) -> None:
    index = (
        b'<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><sitemap>'
        b"<loc>http://a.localhost/one.xml.gz</loc></sitemap></sitemapindex>"
    )
    more = (
        '<url xmlns:x="http://www.w3.org/1999/xhtml"><loc>http://a.localhost/en</loc>'
        '<x:link rel="alternate" hreflang="de" href="http://a.localhost/de"/></url>'
    )
    with Web(
        a=pages(
            robots="User-agent: *\nAllow: /\nSitemap: http://a.localhost/list.xml\n",
            index="seed",
            en="en",
            de="de",
            text="t",
            **{
                "list.xml": Reply(index),
                "one.xml.gz": Reply(
                    gzip.compress(sitemap(more=more).encode()), media="application/gzip"
                ),
                "sitemap.txt": "http://a.localhost/text\n",
            },
        )
    ) as web:
        night(tmp_path, web, source("http://a.localhost/", "http://a.localhost/sitemap.txt"))
    assert sorted(manifest(tmp_path)) == [
        f"http://a.localhost/{page}" for page in ("", "de", "en", "text")
    ]


@pytest.mark.parametrize("kind", sorted(FEEDS))
def test_a_feeds_entries_are_pages_to_visit_and_stay_when_they_leave_the_feed(
    tmp_path: Path, kind: str
) -> None:
    feed = {"body": FEEDS[kind]}
    media = "application/feed+json" if kind == "json" else "application/xml"
    with Web(
        a=pages(feed=lambda ask: Reply(feed["body"], media=media), p1="first", p2="second")
    ) as web:
        found = night(tmp_path, web, source("http://a.localhost/feed", kind="feed"))
        assert (found.fetched, sorted(web.paths())) == (2, ["/feed", "/p1", "/p2"])
        feed["body"] = FEEDS[kind].replace(b"p1", b"p2")
        assert night(tmp_path, web, source("http://a.localhost/feed", kind="feed")).gone == 0
    assert {row["status"] for row in manifest(tmp_path).values()} == {200}


def test_a_feed_that_is_not_xml_is_named_and_the_night_goes_on(tmp_path: Path) -> None:
    with Web(
        a=pages(feed="<html><body>Not found</body></html>"),
        b=pages(feed=Reply(FEEDS["rss"].replace(b"a.localhost", b"b.localhost")), p1="1", p2="2"),
        c=pages(feed=b"\x00\x01\x02 no"),
    ) as web:
        found = night(
            tmp_path,
            web,
            source(
                "http://a.localhost/feed",
                "http://b.localhost/feed",
                "http://c.localhost/feed",
                kind="feed",
            ),
        )
    assert (found.fetched, found.failed) == (2, 2)
    assert [reason for reason in found.reasons if "root is <html>" in reason]


# Politeness ---------------------------------------------------------------------------------------


def gaps(web: Web, name: str) -> list[float]:
    times = web.times(name)
    return [after - before for before, after in pairwise(times)]


def test_a_host_is_asked_one_thing_at_a_time_and_never_sooner_than_its_delay(
    tmp_path: Path,
) -> None:
    with Web(a=site(), b=pages(robots="User-agent: *\nCrawl-delay: 0.4\n", index="b")) as web:
        night(tmp_path, web, source(LISTS, "http://b.localhost/", delay_s=0.1))
        assert min(gaps(web, "a.")) >= 0.099
        assert len(gaps(web, "b.")) == 3 and min(gaps(web, "b.")) >= 0.399


def test_a_host_that_is_slow_is_asked_less_often(tmp_path: Path) -> None:
    slow = each(0.2, b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n", b"ok")
    with Web(a=lambda ask: Reply(pieces=slow) if ask.path in ("/1", "/2") else None) as web:
        night(
            tmp_path,
            web,
            source("http://a.localhost/1", "http://a.localhost/2", delay_s=0.05),
            latency_factor=2.0,
        )
        first, second = (ask.at for ask in web.asked if ask.path in ("/1", "/2"))
    assert (
        second - first >= 0.2 + 0.1
    )  # its answer, then twice a latency that its quick robots.txt had kept low


@pytest.mark.parametrize("value", ["1", "date"])
def test_retry_after_is_kept_to_the_second(tmp_path: Path, value: str) -> None:
    seen: list[float] = []
    until: list[float] = []

    def answer(ask: Ask) -> Reply | None:
        if ask.path == "/robots.txt":
            return None
        if not ask.path.startswith("/p"):
            return Reply(status=404)
        seen.append(time())
        if len(seen) > 1:
            return Reply(b"now")
        until.append(int(time()) + 2.0 if value == "date" else time() + 1)
        return Reply(
            status=429 if value == "1" else 503,
            headers={"Retry-After": formatdate(until[0], usegmt=True) if value == "date" else "1"},
        )

    with Web(a=answer) as web:
        found = night(tmp_path, web, source("http://a.localhost/p"), attempts=2)
    assert found.fetched == 1 and seen[1] >= until[0] - 0.01


def test_a_host_that_asks_for_more_patience_than_a_night_has_is_left_and_named(
    tmp_path: Path,
) -> None:
    with Web(
        a=lambda ask: (
            None
            if ask.path == "/robots.txt"
            else Reply(status=404)
            if not ask.path.startswith("/p")
            else Reply(status=503, headers={"Retry-After": "3600"})
        ),
        b=pages(index="b"),
    ) as web:
        found = night(
            tmp_path,
            web,
            source("http://a.localhost/p1", "http://a.localhost/p2", "http://b.localhost/"),
            attempts=3,
        )
        assert web.paths("a.") == ["/p1"]
        assert re.match(r"2 pages: Retry-After, 3[56]\d\d s", found.waiting["http://a.localhost"])
        assert (
            night(
                tmp_path,
                web,
                source("http://a.localhost/p1", "http://a.localhost/p2", "http://b.localhost/"),
            ).unchanged
            == 1
        )
        assert web.paths("a.") == ["/p1"]  # the next night knows it still


def test_names_that_share_an_address_share_its_patience(tmp_path: Path) -> None:
    with Web(a=pages(index="a"), b=pages(index="b"), c=pages(index="c")) as web:
        for name in ("b.localhost", "c.localhost"):
            web.mirrors[name] = web.mirrors["a.localhost"]
        night(
            tmp_path,
            web,
            source(
                "http://a.localhost/", "http://b.localhost/", "http://c.localhost/", delay_s=0.3
            ),
            per_address=1,
        )
        times = sorted(ask.at for ask in web.asked if ask.path == "/")
    assert len(times) == 3 and min(b - a for a, b in pairwise(times)) >= 0.299


def test_it_says_who_it_is_and_asks_for_what_changed_only(tmp_path: Path) -> None:
    with Web(
        a=pages(
            p=Reply(
                b"page",
                headers={"Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT", "Set-Cookie": "id=1"},
            )
        )
    ) as web:
        night(tmp_path, web, source("http://a.localhost/p"), contact="mailto:someone@example.org")
        night(tmp_path, web, source("http://a.localhost/p"))
        first, second = (ask.headers for ask in web.asked if ask.path == "/p")
    assert re.fullmatch(r"tidemill/\S+ .*\(\+mailto:someone@example\.org\)", first["user-agent"])
    assert second["if-modified-since"] == "Mon, 23 Nov 2026 10:00:00 GMT" and "cookie" not in second


# Safety -------------------------------------------------------------------------------------------

NOT_PUBLIC = (
    "127.0.0.1",
    "::1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "192.0.0.8",
    "198.18.0.1",
    "168.63.129.16",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:0a00:0001::1",
    "2002:5db8:d822::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "2001::1",
    "100::1",
)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_no_address_that_is_not_public_is_connected_to(address: str) -> None:
    assert not permitted(address)


def test_public_addresses_are_and_loopback_where_the_source_says_so() -> None:
    for address in ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"):
        assert permitted(address)
    assert (
        permitted("127.0.0.1", True) and permitted("::1", True) and not permitted("10.0.0.1", True)
    )


@pytest.mark.parametrize(
    "there",
    [
        "http://127.0.0.1:{port}/secret",
        "http://[::ffff:127.0.0.1]:{port}/secret",
        "http://2130706433:{port}/secret",
        "http://0x7f.1:{port}/secret",
        "http://localhost:{port}/secret",
    ],
)
def test_a_private_address_is_refused_in_every_spelling(tmp_path: Path, there: str) -> None:
    with Web(a=pages(secret="secret")) as web:
        port = web.mirrors["a.localhost"][1]
        seed = there.format(port=port)
        from tidemill.web.urls import canonical, host

        web.mirrors.clear()
        wanted = source(seed, allow_loopback=False, ports=[80, 443, port]).model_copy(
            update={"hosts": (host(canonical(seed) or ""),)}
        )
        with pytest.raises(Fault, match="not a public address"):
            night(tmp_path, web, wanted)
        assert not web.asked


def test_every_hop_of_a_redirect_is_checked(tmp_path: Path) -> None:
    with Web(
        a=pages(
            out=Reply(status=302, headers={"Location": "http://10.0.0.1/"}),
            port=Reply(status=301, headers={"Location": "http://10.0.0.1:22/"}),
            file=Reply(status=302, headers={"Location": "file:///etc/passwd"}),
            loop=Reply(status=302, headers={"Location": "/loop"}),
            here=Reply(status=302, headers={"Location": "/there"}),
            there="there",
            no=Reply(status=302, headers={"Location": "/private/x"}),
            robots="User-agent: *\nDisallow: /private\n",
            meta=html("m", head='<meta http-equiv="refresh" content="0; url=http://192.168.0.1/">'),
            **{
                f"r{number}": Reply(status=302, headers={"Location": f"/r{number + 1}"})
                for number in range(9)
            },
        ),
    ) as web:
        web.mirrors["b.localhost"] = ("127.0.0.99", 9)
        wanted = source(
            *(
                f"http://a.localhost/{name}"
                for name in ("out", "port", "file", "loop", "here", "no", "meta", "r0")
            )
        )
        found = night(
            tmp_path,
            web,
            wanted.model_copy(update={"hosts": ("a.localhost", "10.0.0.1", "192.168.0.1")}),
        )
        assert (
            "/there" in web.paths() and "/r6" not in web.paths() and "/private/x" not in web.paths()
        )
    assert sorted(manifest(tmp_path)) == ["http://a.localhost/meta", "http://a.localhost/there"]
    assert found.reasons == {
        "not a public address": 2,
        "redirect to no address": 1,
        "redirects without end": 2,
        "robots.txt": 1,
        "port not in ports": 1,
    }


ZEROS = b"\0" * (200 * 2**20)


def bombs() -> dict[str, tuple[str, bytes]]:
    packer = brotli.Compressor(quality=5)
    br = b"".join([*(packer.process(ZEROS[: 2**24]) for _ in range(12)), packer.finish()])
    once = gzip.compress(ZEROS, 6)
    hollow = gzip.compress(
        gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 10_000_000, 1
    )  # fifty megabytes of blocks that hold nothing
    return {
        "hollow": ("gzip, gzip", hollow),
        "members": ("gzip", gzip.compress(b"") * 100_000),
        "gzip": ("gzip", once),
        "deflate": ("deflate", zlib.compress(ZEROS, 6)),
        "br": ("br", br),
        "zstd": ("zstd", zstd.compress(ZEROS)),
        "stacked": ("gzip, gzip", gzip.compress(once)),
        "deep": ("gzip, gzip, gzip, gzip", gzip.compress(gzip.compress(gzip.compress(once)))),
    }


def test_bombs_are_cut_and_grow_memory_by_no_more_than_64_mb(tmp_path: Path) -> None:
    made = bombs() | {"good": ("identity", b"good")}
    names = sorted(made.keys() - {"good"})
    with Web(
        a=lambda ask: (
            Reply(made[ask.path[1:]][1], headers={"Content-Encoding": made[ask.path[1:]][0]})
            if ask.path[1:] in made
            else None
        )
    ) as web:
        with memory() as grown:
            found = night(
                tmp_path,
                web,
                source(*(f"http://a.localhost/{name}" for name in (*names, "good"))),
                timeout_s=20,
            )
        assert grown[0] < 64
    assert found.reasons == {"too large": 6, "encodings on encodings": 1, "body does not unpack": 1}


def test_bodies_come_whole_out_of_every_encoding(tmp_path: Path) -> None:
    body = "".join(f"<p>{number} ü</p>" for number in range(20_000)).encode()
    packed = {
        "gzip": gzip.compress(body),
        "x-gzip": gzip.compress(body[:1000]) + gzip.compress(body[1000:]),
        "deflate": zlib.compress(body),
        "br": brotli.compress(body),
        "zstd": zstd.compress(body[:5000]) + zstd.compress(body[5000:]),
        "gzip, br": brotli.compress(gzip.compress(body)),
        "identity": body,
    }
    raw_deflate = zlib.compressobj(wbits=-15)
    cases = {
        f"p{number}": (name, content) for number, (name, content) in enumerate(packed.items())
    } | {"raw": ("deflate", raw_deflate.compress(body) + raw_deflate.flush())}
    bad = {
        "cut": ("gzip", packed["gzip"][:-100]),
        "not": ("br", b"\xff" * 100),
        "what": ("compress", body),
    }
    all_of = cases | bad
    with Web(
        a=lambda ask: (
            Reply(all_of[ask.path[1:]][1], headers={"Content-Encoding": all_of[ask.path[1:]][0]})
            if ask.path[1:] in all_of
            else None
        )
    ) as web:
        found = night(tmp_path, web, source(*(f"http://a.localhost/{name}" for name in all_of)))
    stored = {
        row["uri"].rsplit("/", 1)[1]: content
        for row, content in warc.bodies(tmp_path / "raw", manifest(tmp_path).values())
    }
    assert stored == dict.fromkeys(cases, body)
    assert found.reasons == {"body cut short": 1, "body does not unpack": 1, "unknown encoding": 1}


# What hosts do wrong ------------------------------------------------------------------------------


def test_errors_are_counted_as_they_were_made_and_the_night_goes_on(tmp_path: Path) -> None:
    """Each host misbehaves in one way; every fault is named once, and good pages are stored."""
    head = b"HTTP/1.1 200 X\r\nContent-Type: text/html\r\n"

    def only(reply: Reply):
        return lambda ask: (
            reply if ask.path == "/bad" else Reply(b"good") if ask.path == "/good" else None
        )

    hosts = {
        "slow": (
            only(Reply(pieces=endless(head + b"Content-Length: 999999\r\n\r\n", b"x", 0.2))),
            {"timed out": 1},
        ),
        "headers": (
            only(Reply(pieces=endless(head, b"X-More: and more\r\n"))),
            {"headers too large": 1},
        ),
        "line": (
            only(Reply(pieces=endless(head, b"y" * 4096), end="close")),
            {"headers too large": 1},
        ),
        "silent": (only(Reply(pieces=endless(b"", b"", 0.2))), {"timed out": 1}),
        "reset": (only(Reply(pieces=each(0, head), end="reset")), {"connection reset": 1}),
        "short": (
            only(
                Reply(pieces=each(0, head + b"Content-Length: 100\r\n\r\nonly this"), end="close")
            ),
            {"body cut short": 1},
        ),
        "chunks": (
            only(
                Reply(
                    pieces=each(0, head + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nhm"),
                    end="close",
                )
            ),
            {"not HTTP": 1},
        ),
        "noise": (
            only(Reply(pieces=each(0, b"\x16\x03\x01 this is not HTTP\r\n\r\n"), end="close")),
            {"not HTTP": 1},
        ),
        "closed": (only(Reply(pieces=each(0), end="close")), {"connection closed": 1}),
        "large": (only(Reply(pieces=endless(head + b"\r\n", b"z" * 65536))), {"too large": 1}),
        "error": (only(Reply(b"oh", 500)), {"status 500": 1}),
        "forbidden": (only(Reply(b"no", 403)), {"status 403": 1}),
        "teapot": (only(Reply(b"", 204)), {"status 204": 1}),
        "missing": (only(Reply(b"", 404)), {"status 404": 1}),
        "html-robots": (
            lambda ask: (
                Reply(b"<!DOCTYPE html><p>404, sorry")
                if ask.path == "/robots.txt"
                else Reply(b"good")
            ),
            {"robots.txt is a page": 2},
        ),
        "down-robots": (
            lambda ask: Reply(b"", 500) if ask.path == "/robots.txt" else Reply(b"good"),
            {"robots.txt: status 500": 1, "robots.txt cannot be had": 2},
        ),
        "busy-robots": (
            lambda ask: (
                Reply(b"", 429, headers={"Retry-After": "0"})
                if ask.path == "/robots.txt"
                else Reply(b"good")
            ),
            {"robots.txt: status 429": 1, "robots.txt cannot be had": 2},
        ),
        "nul-robots": (
            lambda ask: (
                Reply("User-agent: *\nDisallow: /bad\n".encode("utf-16-le"))
                if ask.path == "/robots.txt"
                else Reply(b"good")
            ),
            {"robots.txt": 1},
        ),
        "latin-robots": (
            lambda ask: (
                Reply("User-agent: *\nDisallow: /b\xe4d\nDisallow: /bad\n".encode("latin-1"))
                if ask.path == "/robots.txt"
                else Reply(b"good")
            ),
            {"robots.txt": 1},
        ),
        "far-robots": (
            lambda ask: (
                Reply(b"", 302, headers={"Location": "/robots2.txt"})
                if ask.path == "/robots.txt"
                else Reply(b"User-agent: *\nDisallow: /bad\n")
                if ask.path == "/robots2.txt"
                else Reply(b"good")
            ),
            {"robots.txt": 1},
        ),
    }
    with Web(
        **{name.replace("-", "_"): answering for name, (answering, _) in hosts.items()}
    ) as web:
        web.mirrors["refused.localhost"] = ("127.0.0.90", 9)
        seeds = [f"http://{name}.localhost/{page}" for name in hosts for page in ("bad", "good")]
        found = night(
            tmp_path,
            web,
            source(*seeds, "http://refused.localhost/bad", "http://nowhere.invalid/bad"),
            timeout_s=1.5,
            max_page_mb=2.0,
        )
    wanted: dict[str, int] = {"robots.txt: connection refused": 1, "name not resolved": 1}
    for _, reasons in hosts.values():
        for reason, count in reasons.items():
            wanted[reason] = wanted.get(reason, 0) + count
    wanted["robots.txt cannot be had"] += 1
    assert found.reasons == wanted
    good = [name for name in hosts if name not in ("html-robots", "down-robots", "busy-robots")]
    assert sorted(manifest(tmp_path)) == sorted(f"http://{name}.localhost/good" for name in good)


def test_a_flapping_host_is_asked_again_and_one_that_never_answers_is_left_alone(
    tmp_path: Path,
) -> None:
    seen: set[str] = set()

    def flapping(ask: Ask) -> Reply | None:
        if not ask.path.startswith("/p"):
            return None
        first = ask.path not in seen and int(ask.path[2:]) % 2 == 0
        seen.add(ask.path)
        return Reply(b"", 503) if first else Reply(ask.path.encode())

    with Web(
        a=flapping, b=lambda ask: Reply(status=503) if ask.path.startswith("/p") else None
    ) as web:
        found = night(
            tmp_path,
            web,
            source(*(f"http://{host}.localhost/p{number}" for host in "ab" for number in range(8))),
            attempts=2,
            give_up=4,
        )
        assert len(web.paths("b.")) <= 8
    assert (found.fetched, found.failed) == (8, 8)
    assert found.reasons["host does not answer"] >= 4


def test_an_etag_that_lies_costs_a_request_and_no_copy(tmp_path: Path) -> None:
    count = {"n": 0}

    def answer(ask: Ask) -> Reply | None:
        if ask.path != "/p":
            return None
        count["n"] += 1
        return Reply(b"the same", headers={"ETag": f'"{count["n"]}"'})

    with Web(a=answer) as web:
        night(tmp_path, web, source("http://a.localhost/p"))
        before = names(tmp_path)
        assert night(tmp_path, web, source("http://a.localhost/p")).unchanged == 1
    assert names(tmp_path) == before


# Traps and budgets --------------------------------------------------------------------------------


def test_traps_are_cut_by_pattern_and_budget_and_reported(tmp_path: Path) -> None:
    def calendar(ask: Ask) -> Reply | None:
        match = re.fullmatch(r"/(?:day/(\d+))?", ask.path)
        return (
            Reply(
                html(
                    f"day {match.group(1)}",
                    f"/day/{int(match.group(1) or 0) + 1}",
                    f"/day/{int(match.group(1) or 0) + 2}",
                ).encode()
            )
            if match
            else None
        )

    def sessions(ask: Ask) -> Reply | None:
        if not ask.path.startswith(("/?", "/page")) and ask.path != "/":
            return None
        return Reply(
            html(
                "shop",
                *(
                    f"/page{n};jsessionid={len(web.asked):x}"
                    f"?PHPSESSID={len(web.asked)}&utm_source=x"
                    for n in range(3)
                ),
            )
            .encode()
            .replace(b"shop", ask.path.encode()[:6])
        )

    def deeper(ask: Ask) -> Reply | None:
        return (
            Reply(html(ask.path, f"{ask.path.rstrip('/')}/up/down").encode())
            if ask.path.startswith(("/up", "/")) and "." not in ask.path
            else None
        )

    def soft(ask: Ask) -> Reply | None:
        links = "".join(f'<a href="/x{ask.path[1:]}{letter}">more</a>' for letter in "ab")
        return Reply(f"<p>Sorry, not found {links}</p>".encode()) if "." not in ask.path else None

    with Web(calendar=calendar, sessions=sessions, deeper=deeper, soft=soft) as web:
        wanted = source(
            *(f"http://{name}.localhost/" for name in ("calendar", "sessions", "deeper", "soft")),
            depth=100,
            budget=NightBudget(host_pages=300, minutes=0.5),
        )
        found = night(tmp_path, web, wanted, same_shape=40, same_text=10)
        asked = {
            name: len(web.paths(f"{name}.")) for name in ("calendar", "sessions", "deeper", "soft")
        }
    assert (
        40 <= asked["calendar"] <= 45
        and asked["sessions"] == 4
        and asked["deeper"] <= 5
        and asked["soft"] <= 25
    )
    assert {
        "addresses that differ by numbers alone",
        "path repeats itself",
        "same words as other pages",
    } <= set(found.reasons)


def test_a_budget_leaves_pages_for_the_next_night(tmp_path: Path) -> None:
    with Web(a=site("bcdefghij")) as web:
        first = night(tmp_path, web, source(LISTS, budget=NightBudget(host_pages=5)))
        assert first.fetched == 3 and "budget" in first.waiting["http://a.localhost"]
        assert night(tmp_path, web, source(LISTS)).records == 10


def test_what_is_wrong_with_a_seed_is_said_at_once(tmp_path: Path) -> None:
    from tidemill.runtime.errors import Refused

    with Web() as web, pytest.raises(Refused, match="the seed 'ftp://a/' is no address of http"):
        night(tmp_path, web, source("ftp://a/"))


def test_one_bad_seed_among_good_ones_is_counted_and_the_night_goes_on(tmp_path: Path) -> None:
    with Web(a=site("bcdefghij")) as web:
        told = night(tmp_path, web, source("ftp://a/", LISTS))
    assert (
        told.failed == 1
        and told.records > 0
        and any("the seed 'ftp://a/' is no address" in reason for reason in told.reasons)
    )


def test_a_source_fails_when_nothing_could_be_had_or_too_much_failed_and_keeps_what_it_had(
    tmp_path: Path,
) -> None:
    with Web(a=site()) as web:
        night(tmp_path, web, source(LISTS))
        before = names(tmp_path)
        web.hosts["a.localhost"] = lambda ask: (
            Reply(status=500) if ask.path in ("/b", "/c") else site(version="2")(ask)
        )
        with pytest.raises(
            Fault, match=r"2 of 4 pages failed \(2 x status 500\), max_failed is 0.1"
        ):
            night(tmp_path, web, source(LISTS, max_failed=0.1))
        assert {
            name: body for name, body in names(tmp_path).items() if not name.startswith(".")
        } == before
        web.hosts["a.localhost"] = site(version="2")
        web.asked.clear()
        assert (
            night(tmp_path, web, source(LISTS, max_failed=0.1)).fetched == 4
        )  # the night goes on: two were had already
        assert sorted(page for page in web.paths() if len(page) == 2) == ["/b", "/c"]


# When a page is asked again -----------------------------------------------------------------------


def test_a_page_is_asked_again_by_how_often_it_changed_within_bounds() -> None:
    bounds = (0.5, 30.0)
    calm = [wait_days(visits, 0, float(visits), bounds) for visits in (1, 3, 10, 30, 300)]
    assert calm == sorted(calm) and 0.5 < calm[0] < 3 and calm[-1] == 30
    busy = [wait_days(20, changes, 20.0, bounds) for changes in (0, 1, 5, 10, 19, 20)]
    assert busy == sorted(busy, reverse=True) and busy[-1] == 0.5
    assert wait_days(0, 0, 0, bounds) == 0.5 and wait_days(10, 5, 10, (0, 0)) == 0
    assert wait_days(20, 5, 20.0, bounds) == pytest.approx(
        1.2, abs=0.15
    )  # changes every third or fourth day; .3 likely after 1.2 days


def test_what_is_not_due_is_not_asked_unless_its_list_says_it_changed(tmp_path: Path) -> None:
    when = {"b": "2020-01-01", "c": "2020-01-01"}

    def answer(ask: Ask) -> Reply | None:
        if ask.path == "/sitemap.xml":
            return Reply(
                sitemap(
                    more="".join(
                        f"<url><loc>/{name}</loc><lastmod>{day}</lastmod></url>"
                        for name, day in when.items()
                    )
                ).encode()
            )
        return Reply(f"{ask.path}{when[ask.path[1:]]}".encode()) if ask.path[1:] in when else None

    wanted = source(LISTS, revisit_days=(2.0, 30.0))
    with Web(a=answer) as web:
        night(tmp_path, web, wanted)
        web.asked.clear()
        night(tmp_path, web, wanted)
        assert web.paths() == ["/sitemap.xml"]
        when["c"] = "2100-01-01T00:00:00+01:00"
        found = night(tmp_path, web, wanted)
        assert web.paths() == ["/sitemap.xml", "/sitemap.xml", "/c"] and (
            found.fetched,
            found.records,
            found.gone,
        ) == (1, 2, 0)


def test_a_page_whose_words_stayed_counts_as_calm_though_its_bytes_are_kept(tmp_path: Path) -> None:
    stamp = {"n": 0}

    def answer(ask: Ask) -> Reply | None:
        stamp["n"] += 1
        return (
            Reply(f"<p>the same words</p><script>var token = {stamp['n']}</script>".encode())
            if ask.path == "/p"
            else None
        )

    with Web(a=answer) as web:
        for _ in range(3):
            assert night(tmp_path, web, source("http://a.localhost/p")).fetched == 1
    db = sqlite3.connect(tmp_path / "state" / "frontier.db")
    assert db.execute("SELECT visits, changes FROM pages").fetchall() == [(2, 0)]
    db.close()


# TLS and names that move --------------------------------------------------------------------------


def test_a_certificate_nobody_vouches_for_is_refused_and_one_that_is_vouched_for_is_not(
    tmp_path: Path,
) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=a.localhost",
            "-addext",
            "subjectAltName=DNS:a.localhost",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    async def ask(trusted: ssl.SSLContext | None) -> bytes:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        names = Names(
            True,
            {
                "a.localhost": ("127.0.0.1", server.sockets[0].getsockname()[1]),
                "b.localhost": ("127.0.0.1", server.sockets[0].getsockname()[1]),
            },
        )
        try:
            async with Fetcher(names, "t", 5.0, 1000, 1, trusted) as fetcher:
                found = (await fetcher.get("https://a.localhost/")).body
                if trusted:
                    with pytest.raises(Failed, match="certificate not valid"):
                        await fetcher.get(
                            "https://b.localhost/"
                        )  # vouched for, but of another name
                return found
        finally:
            server.close()

    with pytest.raises(Failed, match="certificate not valid"):
        asyncio.run(ask(None))
    assert asyncio.run(ask(ssl.create_default_context(cafile=str(certificate)))) == b"ok"


def test_a_name_that_moves_to_loopback_between_two_looks_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: the name is public when it is resolved, and leads inside on connecting."""
    names = Names(False)
    with pytest.raises(NotPublic):
        names.socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80)))

    async def go() -> str:
        answers = iter(["93.184.216.34", "127.0.0.1"])

        async def moved(host: str, *_: object, **__: object) -> list:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 0))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", moved)
        assert await names.addresses("rebind.example") == [("93.184.216.34", socket.AF_INET)]
        names.known.clear()
        async with Fetcher(names, "t", 5.0, 1000, 1) as fetcher:
            with pytest.raises(Failed) as error:
                await fetcher.get("http://rebind.example/")
        return error.value.reason

    assert asyncio.run(go()) == "not a public address"


def test_proxies_and_netrc_of_the_environment_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine a.localhost login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Web(a=pages(p="words")) as web:
        assert night(tmp_path, web, source("http://a.localhost/p")).fetched == 1
        assert all("authorization" not in ask.headers for ask in web.asked)


def test_lists_that_are_bombs_are_named_and_grow_memory_by_no_more_than_64_mb(
    tmp_path: Path,
) -> None:
    entry = b"<url><loc>http://a.localhost/x</loc></url>"
    laughs = (
        b'<!DOCTYPE l [<!ENTITY a "ha">'
        + b"".join(
            f'<!ENTITY {b} "{f"&{a};" * 10}">'.encode()
            for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        )
        + (
            b"]><urlset><url><loc>http://a.localhost/&i;</loc></url><url>"
            b"<loc>http://a.localhost/good</loc></url></urlset>"
        )
    )
    lists = {
        "sitemap-1.xml.gz": gzip.compress(b"<urlset>" + b" " * (120 * 2**20) + entry),
        "sitemap-2.xml.gz": gzip.compress(b"<urlset><url><x>" * 10 + b"y" * (120 * 2**20), 1),
        "sitemap-0.xml": sitemap("http://a.localhost/good").encode(),
        "sitemap-3.xml": laughs,
        "sitemap-4.xml.gz": gzip.compress(entry)[:-5],
        "sitemap-5.xml": b"<urlset>" + b"<a>" * 300_000,
    }
    with Web(
        a=lambda ask: (
            Reply(lists[ask.path[1:]], media="application/xml")
            if ask.path[1:] in lists
            else Reply(b"good")
            if ask.path == "/good"
            else None
        )
    ) as web:
        with memory() as grown:
            found = night(
                tmp_path,
                web,
                source(*(f"http://a.localhost/{name}" for name in lists)),
                timeout_s=20,
            )
        assert grown[0] < 64
    assert "http://a.localhost/good" in manifest(tmp_path)
    assert found.failed == 5


def test_markup_that_costs_a_tree_the_square_of_its_length_is_read_in_proportion() -> None:
    many = 200_000
    bombs = (
        b"<div>" * many,
        b"<a href=/x>" * many,
        b"<p " + b"a=1 " * many + b">",
        b'<p a="' * many,
        b"<a href='" * many,
        b"<script " * many,
        b"<script>" * many,
        b"<!--" * many,
        b"<" * many,
        b"</" * many,
        b"<!" * many,
        b"<a " + b"=" * many,
        b"".join(b"<p><b id=%d>" % number for number in range(50_000)),
        b"<a href='" + b"&amp;" * many + b"'>",
        b"<a " + b"/ " * many,
        b"<a" + b" " * many,
        b"<title>" * many,
        (b"<a b" + b" " * 2000) * 400,
        b"\0" * many,
        b"<style" * many,
        b"<meta content=" * many,
    )
    began = monotonic()
    with memory() as grown:
        for body in bombs:
            links.read(body, "http://h/a", None, "t", True)
    assert (
        monotonic() - began < 60 and grown[0] < 200
    )  # 3 s where it was measured; a tree takes minutes, or gigabytes


TRICKY = (
    (
        '<a href="/1">1</a><A HREF=/2>2</A><a class=x href=\'/3\' title="a > b">3</a>'
        '<area href=/4><a>none</a><a href>none</a><a href="">none</a>'
    ),
    '<!-- <a href="/no"> --><a href="/1">',
    '<!--> <a href="/1"> -->',
    '<!-- never closed <a href="/no">',
    '<script>var a = "<a href=/no>"; if (a < b) {}</script><a href="/1">',
    '<script>"</scripty> <a href=/no>"</script ><a href="/1">',
    '<style><a href="/no"></style><a href="/1">',
    '<textarea><a href="/no"></textarea><a href="/1">',
    '<title><a href="/no"></title><a href="/1">',
    '<div data-x="<a href=/no>"><a href="/1">',
    "<div title='>'><a href=/1>",
    '<a href="/a&amp;b?x=1&copy=2">',
    '<a\nhref\n=\n"/1"\n>',
    '<a href="/1" href="/2">',
    '<a/href="/1"/>',
    "<a href=/1/>",
    '<p><a href="/1" <a href="/2">',
    '<a href="/1">' * 3,
    '<abbr href="/no"><article href="/no"><basefont href="/no">',
    '<base href="/else/"><a href="1"><base href="/no/">',
    '<a href="http://b.example/1"><a href="//b.example/2"><a href="HTTP://H/3">',
    '< a href="/no"><a href="/1">',
    '<?php <a href="/no"> ?><a href="/1">',
    '</a href="/no"><a href="/1">',
    '<iframe><a href="/no"></iframe><a href="/1">',
    '<a href="  /1  "><a href="\t/2">',
)


@pytest.mark.parametrize("text", TRICKY)
def test_links_are_read_as_a_browser_reads_them(text: str) -> None:
    """Beside Lexbor's tree, which is a browser's."""
    base = "http://h/folder/page"
    tree = LexborHTMLParser(text)
    if (node := tree.css_first("base[href]")) is not None:
        base = urls.joined(base, node.attributes["href"] or "") or base
    found = [
        node.attributes["href"]
        for node in tree.css("a[href], area[href]")
        if (node.attributes["href"] or "").strip()
    ]
    assert links.read(text.encode(), "http://h/folder/page", None, "t", True).links == list(
        dict.fromkeys(urls.joined(base, href.partition("#")[0]) for href in found if href)
    )


def test_hosts_go_side_by_side_and_each_keeps_its_gap(tmp_path: Path) -> None:
    def answer(ask: Ask) -> Reply | None:
        return (
            Reply(html(ask.path, "/p1", "/p2").encode())
            if ask.path == "/" or ask.path.startswith("/p")
            else None
        )

    with Web(**{f"h{number}": answer for number in range(40)}) as web:
        began = monotonic()
        assert (
            night(
                tmp_path,
                web,
                source(
                    *(f"http://h{number}.localhost/" for number in range(40)), depth=1, delay_s=0.3
                ),
            ).fetched
            == 120
        )
        assert monotonic() - began < 50  # 2 s where it was measured; one after the other 70
        assert all(min(gaps(web, f"h{number}.")) >= 0.299 for number in range(40))
