"""Canonical addresses: one spelling each, and which folders are traps.

Also which charset a page is in.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.runtime.encodable import encodable, parsed
from tidemill.runtime.files import canonical
from tidemill.web import charset, urls

PIECES = st.text(st.sampled_from("aZ09-._~%/?#&=+;:@!$'()*,[]{}|\\^`\" é漢\t\x00"), max_size=40)


@given(PIECES)
@settings(max_examples=1_500, deadline=None)
def test_a_canonical_address_is_its_own_canonical_address(tail: str) -> None:
    found = urls.canonical("http://Example.COM/" + tail)
    if found is not None:
        assert urls.canonical(found) == found
        assert (
            "#" not in found
            and found.startswith(("http://", "https://"))
            and "@" not in urls.site(found)
        )


@given(PIECES, PIECES)
@settings(max_examples=1_500, deadline=None)
def test_a_link_is_resolved_to_a_canonical_address_or_to_none_and_remembering_changes_nothing(
    path: str, link: str
) -> None:
    base = urls.canonical("https://example.org/" + path)
    if base is None:
        return
    found = urls.joined(base, link)
    assert found == urls.canonical(link, base)
    if found is not None:
        assert urls.canonical(found) == found


@given(st.text(max_size=60))
@settings(max_examples=1_000, deadline=None)
def test_no_text_breaks_it(text: str) -> None:
    found = urls.canonical(text)
    if found is not None:
        assert urls.host(found) and urls.port(found) and urls.site(found) in found
        urls.folder_trap(found)
        urls.shape(found)


SAME = [
    ("HTTP://Example.com:80/a/../b/./c", "http://example.com/b/c"),
    ("https://example.com:443", "https://example.com/"),
    ("http://example.com/%7Ejoe", "http://example.com/~joe"),
    ("http://example.com/a%2fb", "http://example.com/a%2Fb"),
    ("http://user:word@example.com/", "http://example.com/"),
    ("http://example.com./a", "http://example.com/a"),
    ("http://example.com/a?b=2&a=1", "http://example.com/a?a=1&b=2"),
    ("http://example.com/a?", "http://example.com/a"),
    ("http://example.com/a?utm_source=x&id=3&fbclid=9", "http://example.com/a?id=3"),
    ("http://example.com/a;jsessionid=12AB?x=1", "http://example.com/a?x=1"),
    ("http://example.com/a?PHPSESSID=9", "http://example.com/a"),
    ("http://example.com/a?x=2&x=1", "http://example.com/a?x=2&x=1"),
    ("http://bücher.example/ü", "http://xn--bcher-kva.example/%C3%BC"),
    ("http://0x7f.1/", "http://127.0.0.1/"),
    ("http://2130706433/", "http://127.0.0.1/"),
    ("http://[::FFFF:127.0.0.1]/", "http://[::ffff:7f00:1]/"),
    ("http://example.com/a#b", "http://example.com/a"),
    ("http://example.com/%zz", "http://example.com/%zz"),
    ("http://example.com:8080/", "http://example.com:8080/"),
    ("http://example.com/?sid=12", "http://example.com/?sid=12"),
    ("http:/\\example.com\\a", "http://example.com/a"),
    ("ftp://example.com/", None),
    ("javascript:void(0)", None),
    ("http://", None),
    ("http://a b/", None),
    ("data:text/html,x", None),
]


@pytest.mark.parametrize(("text", "wanted"), SAME)
def test_spellings(text: str, wanted: str | None) -> None:
    assert urls.canonical(text) == wanted


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("http://a/b/c/d/e", None),
        ("http://a/" + "x/" * 4 + "y/z/w", "path repeats itself"),
        ("http://a/" + "/".join(f"p{n}" for n in range(25)), "path without end"),
        ("http://a/" + "x" * 3000, "address too long"),
        ("http://a/b/c/b/c/b/c", None),
        ("http://a/b/c/b/c/b/c/b/c", "path repeats itself"),
    ],
)
def test_folders_without_end_are_told(uri: str, why: str | None) -> None:
    assert urls.folder_trap(uri) == why


def test_addresses_of_one_counter_have_one_shape() -> None:
    assert (
        urls.shape("http://a/day/2024-01-02")
        == urls.shape("http://a/day/1999-12-31")
        != urls.shape("http://a/week/1")
    )
    assert (
        urls.shape("http://a/cal?month=1&year=2") == urls.shape("http://a/cal?month=12&year=2024")
        and urls.shape("http://a/about") is None
    )


TEXTS = {
    "cp1251": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "shift_jis": "すべての人間は、生まれながらにして自由であり、"
    "かつ、尊厳と権利とについて平等である。",
    "euc-jp": "すべての人間は、生まれながらにして自由であり、"
    "かつ、尊厳と権利とについて平等である。",
    "gb18030": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心。",
    "big5": "人人生而自由,在尊嚴和權利上一律平等。"
    "他們賦有理性和良心,並應以兄弟關係的精神相對待。"
    "人人有資格享受本宣言所載的一切權利和自由。",
    "utf-8": "Tous les êtres humains naissent libres et égaux",
}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_an_encoding_is_found_where_nobody_declared_it(name: str) -> None:
    text = f"<html><body><p>{TEXTS[name] * 5}</p></body></html>"
    assert charset.decode(text.encode(name)) == text


@pytest.mark.parametrize(
    ("body", "header", "wanted"),
    [
        (b"\xef\xbb\xbfx", "iso-8859-1", "utf-8"),
        (b"\xff\xfex\0", None, "utf-16-le"),
        (b"x", "ISO-8859-1", "cp1252"),
        (b'<meta charset="koi8-r">', None, "koi8-r"),
        (
            b'<meta http-equiv=Content-Type content="text/html; charset=windows-1250">',
            None,
            "cp1250",
        ),
        (b'<meta charset="koi8-r">', "utf-8", "utf-8"),
        (
            "Tous les êtres humains naissent libres et égaux en dignité".encode("latin-1"),
            "utf-8",
            "cp1252",
        ),
        (b"x", "no-such-charset", "utf-8"),
        (b'<?xml version="1.0" encoding="iso-8859-2"?>', None, "iso8859-2"),
        (b'<meta charset="utf-16">', None, "utf-8"),
    ],
)
def test_the_mark_counts_before_the_header_and_the_header_before_the_meta_tag(
    body: bytes, header: str | None, wanted: str
) -> None:
    assert charset.of(body, header) == wanted


@pytest.mark.parametrize(
    ("body", "header", "text"),
    [
        (b"\x93caf\xe9\x94 \x81\x8d\x8f\x90\x9d", "windows-1252", "“café” \x81\x8d\x8f\x90\x9d"),
        (b"\x81\xd2", "windows-1253", "\x81\ufffd"),
        (b"\xad\xa1\xb0\xa1", "euc-jp", "①亜"),
        (b"\x87\x40", "shift_jis", "①"),
        (b"+AGEAYg-", "utf-7", "+AGEAYg-"),  # no encoding of the web, as are those that follow
        (b"abc", "punycode", "abc"),
        (b"abc", "rot13", "abc"),
        (b"abc", "undefined", "abc"),
        (b"abc", "unicode_escape", "abc"),
        (b"abc", "iso-2022-kr", "\ufffd"),  # the standard's replacement
        (b"caf\xc3\xa9", "UTF8", "café"),
        (b"<!-- <meta charset=koi8-r> --><p>caf\xe9</p>" + b" " * 99, "iso-8859-1", "<!--"),
    ],
)
def test_bytes_are_read_as_the_encoding_standard_has_it(
    body: bytes, header: str, text: str
) -> None:
    assert charset.decode(body, header).startswith(text)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'<!-- <meta charset="koi8-r"> --><meta charset="windows-1251">', "cp1251"),
        (b'<!-- <meta charset="koi8-r"> -->', None),
        (b'<a title="<meta charset=koi8-r>">', None),
        (b'<meta name="x" content="text/html; charset=koi8-r">', None),
        (b'<meta charset="no-such"><meta charset=koi8-r>', "koi8-r"),
        (b"<META\nCHARSET = 'KOI8-R' />", "koi8-r"),
        (b"<meta charset=x-user-defined>", "cp1252"),
        (b"<!--><meta charset=koi8-r>", "koi8-r"),
    ],
)
def test_only_a_meta_tag_that_is_one_names_an_encoding(body: bytes, wanted: str | None) -> None:
    assert charset.declared(body) == wanted


@given(st.binary(max_size=200), st.text(max_size=20), st.sampled_from(sorted(charset.LABELS)))
@settings(max_examples=1_000, deadline=None)
def test_no_bytes_and_no_label_break_the_decoder(body: bytes, label: str, known: str) -> None:
    for header in (label, known):
        charset.decode(b"<meta charset=" + label.encode("utf-8", "replace") + b">" + body, header)
        assert encodable(charset.decode(body, header)).encode() is not None


@given(st.text(max_size=30) | st.text(st.characters(categories=["Cs"]), max_size=5))
@settings(max_examples=500, deadline=None)
def test_what_enters_can_be_written(text: str) -> None:
    encodable(text).encode()
    canonical(parsed(json.dumps({"a": text}).encode())).encode()
    assert encodable(text) == text or not text.isascii()
