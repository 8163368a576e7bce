"""Sitemaps, feeds and what they list: addresses with the time each was changed, where one is told.

A sitemap or an index of them (also gzipped, also one address a line), RSS 0.9 to 2.0, Atom and JSON Feed.
Read piece by piece; entities and the network stay closed.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from lxml import etree

MOST_BYTES = 50 * 2**20  # sitemaps.org: 50 MB and 50,000 addresses, uncompressed
MOST_ENTRIES = 50_000
LISTS = {"urlset": "sitemap", "sitemapindex": "index", "rss": "feed", "RDF": "feed", "feed": "feed"}


class NotAList(ValueError):
    """A body that is neither a sitemap nor a feed; says what it is instead."""


class Entry(NamedTuple):
    """What a list names. `kind` is page, or sitemap or feed where it is a list itself; `modified` in seconds of the epoch."""

    uri: str
    modified: float | None = None
    kind: str = "page"


class Stream(io.RawIOBase):
    """A list's bytes, unpacked as they are read; more than a list may have ends it."""

    def __init__(self, body: bytes) -> None:
        self.file: Any = (
            gzip.GzipFile(fileobj=io.BytesIO(body)) if body[:2] == b"\x1f\x8b" else io.BytesIO(body)
        )
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        try:
            piece = self.file.read(size if size >= 0 else MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise NotAList("not a whole gzip file") from error
        self.given += len(piece)
        if self.given > MOST_BYTES:
            raise NotAList(f"more than {MOST_BYTES // 2**20} MB once it is unpacked")
        return piece


class Listing(list[Entry]):
    """What was listed. `broken` says what was wrong with a list that could be read in part: it may have named more."""

    broken = ""


def listed(body: bytes, media: str = "") -> Listing:
    """What a sitemap or a feed lists, in its order."""
    start = Stream(body).read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
    if media.endswith("json") or start[:1] == b"{":
        return Listing(_json(Stream(body).read()))
    if start[:1] not in (b"<", b"") and b"\0" not in start:
        lines = [
            line.strip()
            for line in Stream(body)
            .read()
            .decode("utf-8-sig", "replace")
            .splitlines()[:MOST_ENTRIES]
        ]
        found = Listing(Entry(line) for line in lines if re.match(r"https?://\S+$", line))
        if not found and any(lines):
            raise NotAList("neither XML nor JSON")
        return found
    return _xml(Stream(body))


def _xml(stream: Stream) -> Listing:
    """Entries as their elements end; an element that was read is let go."""
    kind, listing = "", Listing()
    reading = etree.iterparse(
        stream,
        events=("start", "end"),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        recover=True,
    )
    try:
        for event, node in reading:
            if not isinstance(node.tag, str):
                continue
            name = etree.QName(node).localname
            if event == "start":
                if not kind:
                    if name not in LISTS:
                        raise NotAList(f"its root is <{name[:40]}>, not a sitemap's or a feed's")
                    kind = LISTS[name]
                continue
            if name in ("url", "sitemap") and kind in ("sitemap", "index"):
                found = _place(node, "sitemap" if name == "sitemap" else "page")
            elif name in ("item", "entry") and kind == "feed":
                found = _item(node)
            elif (
                name == "link" and kind == "feed" and node.get("rel") == "next" and node.get("href")
            ):
                found = [Entry(node.get("href").strip(), None, "feed")]
            else:
                continue
            listing += found
            if len(listing) >= MOST_ENTRIES:
                listing.broken = f"more than {MOST_ENTRIES:,} addresses"
                return listing
            node.clear()
            while node.getprevious() is not None:  # its elder siblings were read too
                del node.getparent()[0]
    except etree.XMLSyntaxError as error:
        if not kind:
            raise NotAList(f"not XML: {str(error).split(',')[0][:60]}") from error
    if not kind:
        raise NotAList("empty")
    if reading.error_log:
        listing.broken = str(reading.error_log[0].message).split(",")[0][:60]
    return listing


def _text(node: etree._Element, name: str) -> str:
    found = node.find(f"{{*}}{name}")
    return (found.text or "").strip() if found is not None else ""


def _place(node: etree._Element, kind: str) -> list[Entry]:
    """A sitemap's <url>: its address, and the same page in other languages (hreflang)."""
    modified = moment(_text(node, "lastmod"))
    found = [Entry(uri, modified, kind)] if (uri := _text(node, "loc")) else []
    others = [
        link.get("href", "").strip()
        for link in node.iterfind("{*}link")
        if link.get("rel") == "alternate" and link.get("hreflang")
    ]
    return found + [
        Entry(uri, None, kind)
        for uri in dict.fromkeys(others)
        if uri and uri not in {entry.uri for entry in found}
    ]


def _item(node: etree._Element) -> list[Entry]:
    """A feed's item: its page's address, by Atom's alternate link, RSS's link or a permanent guid."""
    links = list(node.iterfind("{*}link"))
    atom = next(
        (
            link.get("href")
            for link in links
            if link.get("href") and link.get("rel", "alternate") == "alternate"
        ),
        None,
    )
    rss = next((link.text.strip() for link in links if link.text and link.text.strip()), None)
    guid = node.find("{*}guid")
    permanent = (
        guid.text.strip()
        if guid is not None and guid.text and guid.get("isPermaLink", "true") == "true"
        else None
    )
    uri = atom or rss or permanent
    when = next(
        (
            found
            for name in ("updated", "modified", "date", "pubDate", "published")
            if (found := moment(_text(node, name))) is not None
        ),
        None,
    )
    return [Entry(uri.strip(), when)] if uri else []


def _json(body: bytes) -> Iterator[Entry]:
    """JSON Feed 1.1 (also 1): items, then the next page of the feed."""
    try:
        feed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotAList("not JSON") from error
    if not isinstance(feed, dict) or not isinstance(feed.get("items"), list):
        raise NotAList("JSON without items")
    for item in feed["items"][:MOST_ENTRIES]:
        if isinstance(item, dict) and isinstance(item.get("url"), str):
            yield Entry(
                item["url"],
                moment(str(item.get("date_modified") or item.get("date_published") or "")),
            )
    if isinstance(feed.get("next_url"), str):
        yield Entry(feed["next_url"], None, "feed")


def moment(text: str) -> float | None:
    """A W3C date or an HTTP date in seconds of the epoch; None for what is neither. A day means its end."""
    text = text.strip()
    if not text:
        return None
    try:
        when = (
            datetime.fromisoformat(text)
            if len(text) > 10
            else datetime.strptime(text, ("%Y", "%Y-%m", "%Y-%m-%d")[text.count("-")]).replace(
                hour=23, minute=59, second=59
            )
        )
    except (ValueError, IndexError):
        try:
            when = parsedate_to_datetime(text)
        except (ValueError, TypeError):
            return None
    try:
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, OSError):
        return None
