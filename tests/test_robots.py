"""robots.txt, case by case: RFC 9309's own examples, and beside protego wherever that is right."""

import random
import string

import pytest
from protego import Protego

from tidemill.web import robots

RFC = (
    "User-Agent: *\nDisallow: *.gif$\nDisallow: /example/\nAllow: /publications/\n\n"
    "User-Agent: foobot\nDisallow:/\nAllow:/example/page.html\nAllow:/example/allowed.gif\n\n"
    "User-Agent: barbot\nUser-Agent: bazbot\nDisallow: /example/page.html\n\n"
    "User-Agent: quxbot\n\nEOF"
)  # RFC 9309, 5.1
# RFC 9309, 5.2
LONGEST = "User-Agent: foobot\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif\n"

CASES = [  # robots.txt, token, path, allowed
    (RFC, "anybot", "/", True),
    (RFC, "anybot", "/a.gif", False),
    (RFC, "anybot", "/a.gif?x", True),
    (RFC, "anybot", "/example/x", False),
    (RFC, "anybot", "/publications/", True),
    (RFC, "foobot", "/", False),
    (RFC, "foobot", "/example/page.html", True),
    (RFC, "foobot", "/example/allowed.gif", True),
    (RFC, "foobot", "/example/other", False),
    (RFC, "FooBot", "/", False),
    (RFC, "barbot", "/example/page.html", False),
    (RFC, "bazbot", "/example/page.html", False),
    (RFC, "barbot", "/example/", True),
    (RFC, "quxbot", "/example/", True),
    (LONGEST, "foobot", "/example/page/", True),
    (LONGEST, "foobot", "/example/page/disallowed.gif", False),
    (LONGEST, "foobot", "/example/page/disallowed.gif.bak", False),
    ("User-agent: *\nDisallow: /\nAllow: /\n", "t", "/x", True),
    ("User-agent: *\nAllow: /p\nDisallow: /p\n", "t", "/p", True),
    ("User-agent: *\nDisallow: /p\nAllow: /p\n", "t", "/p", True),
    ("User-agent: *\nDisallow:\n", "t", "/x", True),
    ("", "t", "/x", True),
    ("# only words\n", "t", "/x", True),
    ("Disallow: /\n", "t", "/x", True),
    ("User-agent: *\nDisallow: /\n", "t", "/robots.txt", True),
    ("User-agent: *\nDisallow: /fish\n", "t", "/fish", False),
    ("User-agent: *\nDisallow: /fish\n", "t", "/fish.html", False),
    ("User-agent: *\nDisallow: /fish\n", "t", "/Fish", True),
    ("User-agent: *\nDisallow: /fish\n", "t", "/catfish", True),
    ("User-agent: *\nDisallow: /fish*\n", "t", "/fishheads/x", False),
    ("User-agent: *\nDisallow: /fish/\n", "t", "/fish", True),
    ("User-agent: *\nDisallow: /fish/\n", "t", "/fish/?id=1", False),
    ("User-agent: *\nDisallow: /*.php\n", "t", "/a/b.php?c", False),
    ("User-agent: *\nDisallow: /*.php\n", "t", "/windows.PHP", True),
    ("User-agent: *\nDisallow: /*.php$\n", "t", "/a.php", False),
    ("User-agent: *\nDisallow: /*.php$\n", "t", "/a.php?p", True),
    ("User-agent: *\nDisallow: /*.php$\n", "t", "/a.php5", True),
    ("User-agent: *\nDisallow: /fish*.php\n", "t", "/fishheads/catfish.php?p", False),
    ("User-agent: *\nDisallow: /fish*.php\n", "t", "/Fish.PHP", True),
    ("User-agent: *\nAllow: /page\nDisallow: /*.htm\n", "t", "/page.htm", False),
    ("User-agent: *\nAllow: /page\nDisallow: /*.ph\n", "t", "/page.php5", True),
    ("User-agent: *\nAllow: /$\nDisallow: /\n", "t", "/", True),
    ("User-agent: *\nAllow: /$\nDisallow: /\n", "t", "/page.htm", False),
    ("User-agent: *\nDisallow: /a%3cd.html\n", "t", "/a%3Cd.html", False),
    ("User-agent: *\nDisallow: /a%3Cd.html\n", "t", "/a%3cd.html", False),
    ("User-agent: *\nDisallow: /%7Ejoe/\n", "t", "/~joe/", False),
    ("User-agent: *\nDisallow: /~joe/\n", "t", "/%7Ejoe/", False),
    ("User-agent: *\nDisallow: /foo/bar/ツ\n", "t", "/foo/bar/%E3%83%84", False),
    ("User-agent: *\nDisallow: /foo/bar/%E3%83%84\n", "t", "/foo/bar/%E3%83%84", False),
    (
        "User-agent: *\nDisallow: /foo/bar/%62%61%7A\n",
        "t",
        "/foo/bar/baz",
        False,
    ),  # RFC 9309, 2.2.2
    ("User-agent: *\nDisallow: /a%2Fb\n", "t", "/a/b", True),
    ("User-agent: *\nDisallow: /a/b\n", "t", "/a%2Fb", True),
    ("User-agent: *\nDisallow: /?q=\n", "t", "/?q=1", False),
    ("User-agent: *\nDisallow: /*?\n", "t", "/a?b", False),
    ("User-agent: *\rDisallow: /x\r", "t", "/x", False),
    ("User-agent: *\r\nDisallow: /x\r\n", "t", "/x", False),
    ("  User-agent : *  \n\tDisallow :\t/x  # why\n", "t", "/x", False),
    ("user-AGENT: *\ndisALLOW: /x\n", "t", "/x", False),
    (
        (
            "User-agent: a\nDisallow: /x\n\nUser-agent: t\nDisallow: /y\n\nUser-agent: t\n"
            "Disallow: /z\n"
        ),
        "t",
        "/y",
        False,
    ),
    (
        (
            "User-agent: a\nDisallow: /x\n\nUser-agent: t\nDisallow: /y\n\nUser-agent: t\n"
            "Disallow: /z\n"
        ),
        "t",
        "/z",
        False,
    ),
    ("User-agent: t\nDisallow: /y\nUser-agent: *\nDisallow: /x\n", "t", "/x", True),
    ("User-agent: t\n\n\nDisallow: /x\n", "t", "/x", False),
    ("User-agent: t\nSitemap: http://a/s.xml\nDisallow: /x\n", "t", "/x", False),
    ("User-agent: t\nUnknown: 1\nDisallow: /x\n", "t", "/x", False),
    ("User-agent: *\nDisalow: /x\n", "t", "/x", False),
    (
        "User-agent: *\nDisallow: /path/file-with-a-%2A.html\n",
        "t",
        "/path/file-with-a-*.html",
        False,
    ),
    ("User-agent: *\nDisallow: /path/foo-%24\n", "t", "/path/foo-$", False),  # RFC 9309, 2.2.3
]
OURS = [  # where protego reads otherwise, and why we are right
    (
        "\ufeffUser-agent: *\nDisallow: /\n",
        "t",
        "/x",
        False,
        "a byte order mark is no part of the first line (RFC 9309, 2.2: UTF-8)",
    ),
    (
        "User-agent: t/1.0\nDisallow: /x\n",
        "t",
        "/x",
        False,
        "people write a version behind the token; it is meant for us",
    ),
    (
        "User-agent: tide\nDisallow: /\n",
        "tidemill",
        "/x",
        True,
        "the group of another crawler: a product token is matched whole (RFC 9309, 2.2.1)",
    ),
    (
        "<!DOCTYPE html><title>Not found</title>",
        "t",
        "/x",
        False,
        "a page in its place says nothing of rules; unknown is a no",
    ),
    ("User-agent: *\nDisallow: /x\0\n", "t", "/x", False, "NUL bytes are no part of a path"),
]


@pytest.mark.parametrize(("text", "token", "path", "allowed"), CASES)
def test_a_rule_is_read_as_the_rfc_says_and_as_protego_reads_it(
    text: str, token: str, path: str, allowed: bool
) -> None:
    uri = f"http://a.example{path}"
    assert robots.parse(text.encode(), token).allows(uri) is allowed
    assert Protego.parse(text).can_fetch(uri, token) is allowed


@pytest.mark.parametrize(("text", "token", "path", "allowed", "why"), OURS)
def test_where_protego_reads_otherwise_the_rfc_is_on_our_side(
    text: str, token: str, path: str, allowed: bool, why: str
) -> None:
    assert robots.parse(text.encode(), token).allows(f"http://a.example{path}") is allowed, why
    assert Protego.parse(text).can_fetch(f"http://a.example{path}", token) is not allowed, (
        "it agrees by now: move the case above"
    )


def test_bytes_that_are_no_utf8_hold_for_both_readings_and_utf16_is_read() -> None:
    latin = robots.parse("User-agent: *\nDisallow: /caf\xe9\n".encode("latin-1"), "t")
    assert (
        not latin.allows("http://a/caf%E9")
        and not latin.allows("http://a/caf%C3%A9")
        and latin.allows("http://a/cafe")
    )
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        assert not robots.parse("User-agent: *\nDisallow: /x\n".encode(encoding), "t").allows(
            "http://a/x"
        ), encoding


def test_what_is_behind_500_kib_is_not_read_and_a_line_cut_there_is_none() -> None:
    filler = b"#" * (robots.MOST_BYTES - 40) + b"\n"
    body = b"User-agent: *\nDisallow: /\n" + filler + b"Allow: /open/and/more/of/it\nAllow: /late\n"
    rules = robots.parse(body, "t")
    assert (
        not rules.allows("http://a/open")
        and not rules.allows("http://a/late")
        and not rules.allows("http://a/x")
    )
    assert robots.parse(b"User-agent: *\nDisallow: /\nAllow: /late\n", "t").allows("http://a/late")


@pytest.mark.parametrize(
    ("status", "means"),
    [
        (200, "rules"),
        (204, "rules"),
        (301, "all"),
        (400, "all"),
        (401, "all"),
        (403, "all"),
        (404, "all"),
        (410, "all"),
        (429, "nothing"),
        (500, "nothing"),
        (503, "nothing"),
        (599, "nothing"),
        (None, "nothing"),
    ],
)
def test_what_a_status_means(status: int | None, means: str) -> None:
    assert robots.standing(status) == means


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("User-agent: *\nCrawl-delay: 5\n", 5),
        ("User-agent: *\nCrawl-delay: .5\n", 0),
        ("User-agent: *\nCrawl-delay: 1.5\nDisallow: /x\n", 1.5),
        ("User-agent: t\nDisallow:\n\nUser-agent: *\nCrawl-delay: 9\n", 0),
        ("User-agent: *\nCrawl-delay: soon\n", 0),
        ("User-agent: *\nCrawl-delay: 1\nCrawl-delay: 3\n", 3),
    ],
)
def test_crawl_delay(text: str, delay: float) -> None:
    assert robots.parse(text.encode(), "t").delay_s == delay


def test_what_stands_outside_groups_and_in_them_is_found() -> None:
    rules = robots.parse(
        (
            b"Sitemap: http://a/s.xml\nLicense: http://a/all.xml\nUser-agent: t\n"
            b"License: http://a/own.xml\nAllow: /\nSitemap: /b.xml\n"
        ),
        "t",
    )
    assert (rules.sitemaps, rules.licenses, rules.group.licenses) == (
        ("http://a/s.xml", "/b.xml"),
        ("http://a/all.xml",),
        ["http://a/own.xml"],
    )


def test_a_pattern_of_many_stars_stalls_nobody() -> None:
    import time

    rules = robots.parse(b"User-agent: *\nDisallow: /" + b"*a" * 200 + b"*b$\n", "t")
    began = time.monotonic()
    assert rules.allows("http://a/" + "a" * 5000)
    assert (
        time.monotonic() - began < 20
    )  # a thousandth of it where it was measured; a backtracking matcher needs for ever


def test_random_rules_are_read_as_protego_reads_them() -> None:
    """2,000 seeded files of plain rules over a small alphabet, each asked for ten paths."""
    chance = random.Random(7)
    different = []
    for _ in range(2_000):
        lines = ["User-agent: *"]
        for _ in range(chance.randint(1, 6)):
            pattern = (
                "/"
                + "".join(chance.choice("ab/*") for _ in range(chance.randint(0, 5)))
                + chance.choice(["", "", "$"])
            )
            lines.append(f"{chance.choice(['Allow', 'Disallow'])}: {pattern}")
        text = "\n".join(lines)
        ours, theirs = robots.parse(text.encode(), "t"), Protego.parse(text)
        for _ in range(10):
            uri = "http://a.example/" + "".join(
                chance.choice("ab/") for _ in range(chance.randint(0, 7))
            )
            if ours.allows(uri) != theirs.can_fetch(uri, "t"):
                different.append((text, uri))
    assert not different, different[:3]


def test_no_bytes_break_the_reader() -> None:
    chance = random.Random(11)
    seeds = [
        RFC.encode(),
        b"User-agent: *\nContent-Usage: /a train-ai=n\nContent-Signal: ai-train=no\nLicense: x\n",
    ]
    for _ in range(3_000):
        body = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 12)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        robots.parse(bytes(body), "t").allows("http://a/" + chance.choice(string.printable))
