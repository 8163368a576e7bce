"""What one address's answer may be, whatever it is: that address's outcome, and never another's."""

import gzip
import random
import time
from pathlib import Path

import pytest

from tasks.collect import sitemaps
from tests.support.feeds import FEEDS
from tests.support.site import (
    ROBOTS,
    Answering,
    Ask,
    Reply,
    Web,
    html,
    night,
    pages,
    sitemap,
    source,
)
from tidemill.engines.config.schema import NightBudget
from tidemill.records import warc
from tidemill.runtime.errors import Fault

SOUND = "http://a.localhost/sitemap.xml"
ODD = "http://b.localhost/sitemap.xml"
LISTED = [f"http://a.localhost/{name}" for name in ("1", "2", "3")]


def rows(folder: Path) -> dict[str, dict]:
    return warc.manifest(folder / "raw")


def statuses(folder: Path) -> dict[str, int]:
    return {uri: row["status"] for uri, row in rows(folder).items()}


def sound() -> Answering:
    return pages(sitemap=sitemap(*LISTED), **{name: html(name) for name in ("1", "2", "3")})


def bare(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Reply:
    """An answer whose headers are bytes, as a server may write them."""
    lines = [b"%b: %b\r\n" % line for line in [*headers, (b"Content-Length", b"%d" % len(body))]]
    head = b"HTTP/1.1 %d X\r\n" % status + b"".join(lines) + b"\r\n"

    async def give():  # type: ignore[no-untyped-def]
        yield head + body

    return Reply(pieces=give)


# Each is one answer of the odd host, for one of its paths.
INPUTS: dict[str, tuple[str, list[tuple[bytes, bytes]], bytes]] = {
    "etag": ("/1", [(b"ETag", b'"caf\xe9"')], b"<p>x"),
    "etag of half a letter": ("/1", [(b"ETag", b'"\xed\xa0\x80"')], b"<p>x"),
    "last-modified": ("/1", [(b"Last-Modified", b"\xff\xfe")], b"<p>x"),
    "content-type": ("/1", [(b"Content-Type", b"text/html; charset=caf\xe9")], b"<p>x"),
    "charset utf-7": ("/1", [(b"Content-Type", b"text/html; charset=utf-7")], b"<p>x"),
    "charset undefined": ("/1", [(b"Content-Type", b"text/html; charset=undefined")], b"<p>x"),
    "x-robots-tag": ("/1", [(b"X-Robots-Tag", b"no\xe9, \xffai")], b"<p>x"),
    "content-usage": ("/1", [(b"Content-Usage", b"\xe9=n")], b"<p>x"),
    "meta charset": ("/1", [], b"<meta charset=punycode><p>\xe9\xff"),
    "meta charset idna": ("/1", [], b"<meta charset=idna><p>" + b"\xe9" * 200),
    "meta robots": ("/1", [], b'<meta name=robots content="\xe9\xff"><p>x'),
    "a link to no name": ("/1", [], b'<a href="http://' + b"a" * 70 + b'.localhost/">x</a>'),
    "location": ("/1", [(b"Location", b"http://[::1\xff/")], b""),
    "undeclared image": (
        "/sitemap.xml",
        [],
        sitemap("http://b.localhost/1", more="<url><image:image/></url>").encode(),
    ),
    "robots in latin-1": (
        "/robots.txt",
        [],
        b"User-agent: *\nContent-Usage: caf\xe9=n\nLicense: /\xe9\nSitemap: /\xe9\n",
    ),
    "tdmrep": (
        "/.well-known/tdmrep.json",
        [],
        b'[{"location": "/", "tdm-reservation": "\\ud800"}]',
    ),
    "tdmrep of a deep list": ("/.well-known/tdmrep.json", [], b"[" * 100_000),
    "ai.txt": ("/ai.txt", [], b"User-agent: *\nDisallow: /\xff\n"),
    "retry-after": ("/1", [(b"Retry-After", b"9" * 400)], b"<p>x"),
}


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_an_odd_answer_of_one_host_costs_no_page_of_another(tmp_path: Path, name: str) -> None:
    path, headers, body = INPUTS[name]
    status = 302 if name == "location" else 503 if name == "retry-after" else 200
    usual = pages(sitemap=sitemap("http://b.localhost/1", "http://b.localhost/2"), **{"2": "2"})

    def odd(ask: Ask) -> Reply | None:
        return bare(status, headers, body) if ask.path == path else usual(ask)

    with Web(a=sound(), b=odd) as web:
        for _ in range(2):
            night(tmp_path, web, source(SOUND, ODD, depth=0))
            found = statuses(tmp_path)
            assert all(found.get(uri) == 200 for uri in LISTED)


def chopped(chance: random.Random, body: bytes) -> bytes:
    """A body with some of its bytes changed, added or left out."""
    changed = bytearray(body)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0 if at < len(changed):
                changed[at] = chance.randrange(256)
            case 1:
                changed[at:at] = chance.choice(WORDS)
            case 2:
                del changed[at : at + chance.randint(1, 9)]
            case _:
                changed[at:at] = changed[at // 2 : at // 2 + chance.randint(0, 40)]
    return bytes(changed)


WORDS = [
    *(b"&", b"<", b">", b"\0", b"\xff", b"-", b"a:b:c", b"\\ud800", b"9" * 20, b'xmlns=""'),
    *(b'xml:base="http://["', b"<![CDATA[", b"]]>", b"&#xD800;", b"&#0;", b"<?xml?>"),
    *(b'encoding="utf-7"', b'<!DOCTYPE x [<!ENTITY a "b">]>', b"<meta charset=rot13>"),
]
LISTS = [
    *FEEDS.values(),
    b'<?xml version="1.0" encoding="utf-8"?>\n'
    b'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
    b"<url><loc>http://a/1</loc><lastmod>2026-11-23T10:00:00+01:00</lastmod><image:image/></url>"
    b"<sitemap><loc>http://a/more</loc></sitemap></urlset>",
    b"http://a/1\nhttp://a/2\n",
]


def mutated(times: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(times):
        body = chopped(chance, chance.choice(LISTS))
        try:
            for entry in sitemaps.listed(body, chance.choice(["", "application/json"])):
                entry.uri.encode()
        except sitemaps.NotAList as error:
            str(error).encode()


def test_2000_mutated_lists_raise_nothing_but_that_they_are_none() -> None:
    mutated(2_000, 5)


@pytest.mark.system
def test_20000_mutated_lists_raise_nothing_but_that_they_are_none() -> None:
    mutated(20_000, 6)


def noisy(chance: random.Random) -> Answering:
    """A host whose headers, files, lists and pages are all a little wrong."""

    def answer(ask: Ask) -> Reply:
        bodies = {
            "/robots.txt": ROBOTS + b"Crawl-delay: 0\nContent-Usage: train-ai=y\n",
            "/.well-known/tdmrep.json": b'[{"location": "/", "tdm-reservation": 0}]',
            "/ai.txt": b"User-agent: *\nAllow: /\n",
            "/sitemap.xml": sitemap(*(f"http://b.localhost/{n}" for n in range(6))).encode(),
        }
        page = b'<meta charset="utf-8"><link rel=canonical href="/0"><p>page \xc3\xa9</p>'
        body = chopped(chance, bodies.get(ask.path, page))
        names = [b"ETag", b"Last-Modified", b"X-Robots-Tag", b"Link", b"Content-Usage", b"X"]
        names += [b"Content-Signal", b"TDM-Reservation", b"Content-Type", b"Content-Language"]
        values = [bytes(chance.choices([*range(32, 127), *range(128, 256)], k=12)) for _ in names]
        return bare(200, list(zip(names, values, strict=True))[: chance.randint(0, 10)], body)

    return answer


def noise(folder: Path, rounds: int, seed: int) -> None:
    for number in range(rounds):
        place = folder / str(number)
        with Web(a=sound(), b=noisy(random.Random(seed + number))) as web:
            for _ in range(2):
                night(
                    place,
                    web,
                    source(SOUND, ODD, budget=NightBudget(minutes=0.5)),
                    max_wait_minutes=0.01,
                )
        assert all(statuses(place).get(uri) == 200 for uri in LISTED), number


def test_a_host_of_random_bytes_costs_no_page_of_another(tmp_path: Path) -> None:
    noise(tmp_path, 6, 100)


@pytest.mark.system
def test_a_host_of_random_bytes_costs_no_page_of_another_in_100_rounds(tmp_path: Path) -> None:
    noise(tmp_path, 100, 200)


# Waits and budgets --------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", ["3600", "9" * 400])
def test_a_long_crawl_delay_leaves_its_host_for_the_next_night_named(
    tmp_path: Path, delay: str
) -> None:
    slow = pages(robots=f"User-agent: *\nCrawl-delay: {delay}\n", index="b")
    with Web(a=sound(), b=slow) as web:
        began = time.monotonic()
        found = night(tmp_path, web, source(SOUND, "http://b.localhost/"))
        assert time.monotonic() - began < 30  # two hours by the code of before
    assert list(found.waiting) == ["http://b.localhost"]
    assert "Crawl-delay" in found.waiting["http://b.localhost"]
    assert all(statuses(tmp_path)[uri] == 200 for uri in LISTED)


def test_what_is_in_flight_ends_with_the_night(tmp_path: Path) -> None:
    async def never():  # type: ignore[no-untyped-def]
        import asyncio

        yield b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n"
        await asyncio.sleep(60)

    with Web(a=sound(), b=lambda ask: Reply(pieces=never) if ask.path == "/1" else None) as web:
        wanted = source(SOUND, "http://b.localhost/1", budget=NightBudget(minutes=0.05))
        began = time.monotonic()
        found = night(tmp_path, web, wanted, timeout_s=300.0)
        assert time.monotonic() - began < 30
    assert found.fetched == 3 and list(found.waiting) == ["http://b.localhost"]


# A no that is heard -------------------------------------------------------------------------------


NOES = [
    [("X-Robots-Tag", "unavailable_after: Fri, 25 Jun 2027 15:00:00 GMT, noai")],
    [("X-Robots-Tag", "unavailable_after: Friday, 25-Jun-27 15:00:00 UTC, noai")],
    [("X-Robots-Tag", "otherbot: nofollow"), ("X-Robots-Tag", "NoAI")],
    [("X-Robots-Tag", "some-new-word: 3, noai")],
    [("Content-Usage", "train-ai=n"), ("Content-Usage", "broken,,=")],
    [("TDM-Reservation", "0"), ("TDM-Reservation", "1")],
    [("Content-Signal", "ai-train=yes, ai-train=no")],
]


@pytest.mark.parametrize("headers", NOES)
def test_a_no_is_heard_on_a_page_and_on_a_304(
    tmp_path: Path, headers: list[tuple[str, str]]
) -> None:
    state = {"no": False}

    def answer(ask: Ask) -> Reply | None:
        if not ask.path.startswith("/p"):
            return None
        lines = [(b"ETag", b'"1"'), (b"Content-Type", b"Text/HTML")]
        if state["no"]:
            lines += [(name.encode(), value.encode()) for name, value in headers]
        again = ask.headers.get("if-none-match") == '"1"'
        return bare(304 if again else 200, lines, b"" if again else b"<p>page")

    with Web(a=answer) as web:
        first = source("http://a.localhost/p")
        night(tmp_path, web, first)
        assert statuses(tmp_path) == {"http://a.localhost/p": 200}
        state["no"] = True
        found = night(tmp_path, web, first)
        assert statuses(tmp_path) == {"http://a.localhost/p": 451} and found.refused == 1
        other = source("http://a.localhost/p2", "http://a.localhost/p")
        assert night(tmp_path, web, other).refused == 2


@pytest.mark.parametrize(
    ("media", "followed"),
    [
        ("Text/HTML; Charset=UTF-8", True),
        ("", True),
        ("*/*", True),
        ("text/plain", False),
        ("APPLICATION/XHTML+XML", True),
    ],
)
def test_one_rule_says_what_is_html(tmp_path: Path, media: str, followed: bool) -> None:
    body = b"<!DOCTYPE html><html><meta name=robots content=noai><a href=/x>x</a></html>"
    lines = [(b"Content-Type", media.encode())] if media else []
    with Web(a=lambda ask: bare(200, lines, body) if ask.path == "/" else None) as web:
        if followed:
            with pytest.raises(Fault, match="noai"):
                night(tmp_path, web, source("http://a.localhost/"))
        else:
            night(tmp_path, web, source("http://a.localhost/"))
    assert len(rows(tmp_path)) == (0 if followed else 1)


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ((b"Refresh", b"0; url=/b"), ["/", "/b"]),
        ((b"refresh", b'5;URL="/b"'), ["/", "/b"]),
        ((b"Link", b'</b>; rel="canonical"'), ["/b"]),
        ((b"link", b'</x>; rel=prev, <b>; rel="Canonical alternate"'), ["/b"]),
        ((b"Link", b'</b>; rel=canonical; anchor="/else"'), ["/"]),
        ((b"Link", b"<http://[::1>; rel=canonical"), ["/"]),
    ],
)
@pytest.mark.parametrize("media", [b"text/html", b"text/plain"])
def test_what_a_page_may_say_in_its_head_its_headers_may_say(
    tmp_path: Path, header: tuple[bytes, bytes], kept: list[str], media: bytes
) -> None:
    def answer(ask: Ask) -> Reply | None:
        lines = [(b"Content-Type", media), *([header] if ask.path == "/" else [])]
        return bare(200, lines, b"<p>" + ask.path.encode()) if ask.path in ("/", "/b") else None

    with Web(a=answer) as web:
        night(tmp_path, web, source("http://a.localhost/"))
    assert sorted(rows(tmp_path)) == [f"http://a.localhost{path}" for path in kept]


RSL = (
    '<rsl xmlns="https://rslstandard.org/rsl"><content url="/"><license>'
    "<prohibits type='usage'>ai-train</prohibits></license></content></rsl>"
)


def test_rsl_is_read_within_a_page_and_within_a_feed(tmp_path: Path) -> None:
    script = f'<script type="application/RSL+xml">{RSL}</script>'
    feed = (
        '<rss version="2.0" xmlns:rsl="https://rslstandard.org/rsl"><channel>'
        "<item><link>http://a.localhost/yes</link></item>"
        "<item><link>http://a.localhost/no</link><rsl:content><rsl:license>"
        '<rsl:prohibits type="usage">ai-train</rsl:prohibits></rsl:license></rsl:content></item>'
        "</channel></rss>"
    )
    with Web(a=pages(one=html("x", head=script), feed=feed, yes="yes", no="no")) as web:
        with pytest.raises(Fault, match="rsl"):
            night(tmp_path / "page", web, source("http://a.localhost/one"))
        night(tmp_path / "feed", web, source("http://a.localhost/feed", kind="feed"))
        assert list(statuses(tmp_path / "feed")) == ["http://a.localhost/yes"]
        assert "/no" not in web.paths()


# Lists --------------------------------------------------------------------------------------------


UNTIDY = {
    "a blank line before": "\n\n<?xml version='1.0'?>{}",
    "a mark and blanks": "\ufeff  <?xml version='1.0' encoding='utf-8'?>{}",
    "a bare ampersand": "{}<!-- & -->",
    "no end": "{}",
    "letters of HTML": "<!-- x -->{}",
}


@pytest.mark.parametrize("how", sorted(UNTIDY))
def test_a_list_that_is_not_tidy_sinks_no_small_source(tmp_path: Path, how: str) -> None:
    more = "<url><loc>http://a.localhost/4?a=1&b=2</loc><image:image/></url>"
    if how == "letters of HTML":
        more += "<url><loc>http://a.localhost/&eacute;</loc><title>&nbsp;</title></url>"
    text = UNTIDY[how].format(sitemap(*LISTED, more=more))
    if how == "no end":
        text = text.removesuffix("</urlset>")
    rest = {"1": "1", "2": "2", "3": "3", "4?a=1&b=2": "4", "%C3%A9": "e"}
    with Web(a=pages(sitemap=text, **rest)) as web:
        found = night(tmp_path, web, source(SOUND, max_failed=0.0))
    assert {*LISTED, "http://a.localhost/4?a=1&b=2"} <= statuses(tmp_path).keys()
    assert found.failed == (how == "no end")


def test_50000_addresses_are_legal_and_languages_are_not_counted() -> None:
    one = (
        "<url><loc>http://a/{0}</loc>"
        '<x:link xmlns:x="http://www.w3.org/1999/xhtml" rel="alternate" hreflang="de"'
        ' href="http://a/de{0}"/></url>'
    )
    body = "<urlset>" + "".join(one.format(number) for number in range(50_000))
    whole = sitemaps.listed((body + "</urlset>").encode())
    assert len(whole) == 100_000 and not whole.broken
    more = sitemaps.listed((body + one.format("x") + "</urlset>").encode())
    assert len(more) == 100_000 and more.broken == "more than 50,000 addresses"
    lines = "".join(f"http://a/{number}\n\n" for number in range(50_000))
    assert not sitemaps.listed(lines.encode()).broken
    assert sitemaps.listed((lines + "http://a/x").encode()).broken


def test_addresses_of_a_feed_are_by_its_base() -> None:
    feed = (
        b'<feed xmlns="http://www.w3.org/2005/Atom" xml:base="http://b/x/">'
        b'<entry xml:base="y/"><link href="p"/></entry><entry><link href="/q"/></entry>'
        b'<entry><link xml:base="http://c/" href="r"/></entry></feed>'
    )
    assert [entry.uri for entry in sitemaps.listed(feed)] == [
        "http://b/x/y/p",
        "http://b/q",
        "http://c/r",
    ]


# Requests that nobody counted on ------------------------------------------------------------------


def test_a_reset_is_answered_by_no_second_request_at_once(tmp_path: Path) -> None:
    times: list[float] = []

    def answer(ask: Ask) -> Reply | None:
        if ask.path != "/2":
            return Reply(b"x") if ask.path == "/1" else None
        times.append(ask.at)
        return Reply(b"", end="reset", headers={"Content-Length": "99"}, pieces=nothing)

    async def nothing():  # type: ignore[no-untyped-def]
        for _ in ():
            yield b""

    with Web(a=answer) as web:
        wanted = source("http://a.localhost/1", "http://a.localhost/2", delay_s=0.3)
        night(tmp_path, web, wanted, attempts=2)
    assert len(times) == 2 and times[1] - times[0] >= 0.29


ELSEWHERE = [
    "http://c.localhost/robots.txt",
    "http://10.0.0.1/",
    "http://a.localhost:1/",
    "ftp://x/",
]


@pytest.mark.parametrize("there", ELSEWHERE)
def test_a_robots_txt_that_leads_elsewhere_is_as_if_there_were_none(
    tmp_path: Path, there: str
) -> None:
    usual = pages(p="page")

    def answer(ask: Ask) -> Reply | None:
        if ask.path == "/robots.txt":
            return Reply(status=301, headers={"Location": there})
        return usual(ask)

    with Web(a=answer, c=pages(robots="User-agent: *\nDisallow: /\n")) as web:
        began = time.monotonic()
        ports = {
            "a.localhost": web.mirrors["a.localhost"],
            "c.localhost": web.mirrors["c.localhost"],
        }
        web.mirrors = ports
        found = night(tmp_path, web, source("http://a.localhost/p", delay_s=0.05), attempts=5)
        assert time.monotonic() - began < 30
        assert found.fetched == 1 and web.times("c.") == []


# Canonical addresses ------------------------------------------------------------------------------


def canonical(there: str) -> str:
    return html("the page", head=f'<link rel="canonical" href="{there}">')


CANONICAL = {
    "a loop": ({"one": canonical("/two"), "two": canonical("/one")}, {"/one", "/two"}),
    "gone": ({"one": canonical("/two")}, {"/one"}),
    "forbidden": ({"one": canonical("/private/x")}, {"/one"}),
    "redirects back": (
        {"one": canonical("/two"), "two": Reply(status=301, headers={"Location": "/one"})},
        {"/one"},
    ),
    "a longer loop": (
        {"one": canonical("/two"), "two": canonical("/three"), "three": canonical("/one")},
        {"/one", "/two", "/three"},
    ),
    "outside": ({"one": canonical("/other?no=1")}, {"/one"}),
    "had": ({"one": canonical("/two"), "two": html("the page")}, {"/two"}),
    "redirects on": (
        {
            "one": canonical("/two"),
            "two": Reply(status=301, headers={"Location": "/three"}),
            "three": html("the page"),
        },
        {"/three"},
    ),
}


@pytest.mark.parametrize("how", sorted(CANONICAL))
def test_a_page_whose_canonical_address_cannot_be_had_is_kept_itself(
    tmp_path: Path, how: str
) -> None:
    bodies, kept = CANONICAL[how]
    robots = "User-agent: *\nDisallow: /private\n"
    with Web(a=pages(robots=robots, **bodies)) as web:
        night(tmp_path, web, source("http://a.localhost/one", deny=["/*no="]))
        found = {uri.removeprefix("http://a.localhost") for uri in statuses(tmp_path)}
    assert found <= kept and len(found) == 1


def test_a_copy_of_a_page_that_says_no_is_not_kept(tmp_path: Path) -> None:
    no = html("the page", head='<meta name="robots" content="noai">')
    with Web(a=pages(one=canonical("/two"), two=no, three="3")) as web:
        night(tmp_path, web, source("http://a.localhost/one", "http://a.localhost/three"))
    assert list(statuses(tmp_path)) == ["http://a.localhost/three"]


@pytest.mark.parametrize(
    ("start", "one", "end"),
    [
        ("<urlset>", "<url><loc>http://a.example/{}</loc></url>", "</urlset>"),
        ("", "http://a.example/{}\n", ""),
        ("", "HTTP://a.example/{}\n", ""),
    ],
)
def test_what_can_be_read_of_a_gzip_file_that_is_cut_counts(start: str, one: str, end: str) -> None:
    body = start + "".join(one.format(number) for number in range(3_000)) + end
    found = sitemaps.listed(gzip.compress(body.encode())[:-500])
    assert len(found) > 1_500 and found.broken == "not a whole gzip file"
    assert found[0].uri.lower() == "http://a.example/0"


def test_a_list_longer_than_lists_may_be_counts_as_far_as_it_was_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sitemaps, "MOST_BYTES", 2**20)
    body = b"<urlset><url><loc>http://a.example/</loc></url>" + b" " * 2**21 + b"</urlset>"
    found = sitemaps.listed(gzip.compress(body))
    assert [entry.uri for entry in found] == ["http://a.example/"]
    assert "more than 1 MB" in found.broken
    with pytest.raises(sitemaps.NotAList, match="more than 1 MB"):
        sitemaps.listed(b'{"items": []}' + b" " * 2**21)


def test_an_index_of_binary_bytes_in_gzip_is_no_list() -> None:
    with pytest.raises(sitemaps.NotAList):
        sitemaps.listed(gzip.compress(random.Random(7).randbytes(4_000))[:-9])
