"""robots.txt, case by case: RFC 9309's own examples, and beside protego wherever that is right."""

import random
import string

import pytest
from protego import Protego

from tests.support.robots_cases import CASES, OURS, RFC
from tidemill.web import robots

# RFC 9309, 5.2


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
