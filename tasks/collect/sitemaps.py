"""Sitemaps, feeds and what they list: addresses with the time each was changed, where one is given.

A sitemap or an index of them (also gzipped, also one address a line), RSS 0.9 to 2.0, Atom and JSON
Feed. Read piece by piece; entities and the network stay closed. What a browser would mend is mended
first: blanks before the declaration, an ampersand that stands for itself, names of HTML, bytes that
are none of the encoding.
"""

import codecs
import gzip
import html
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import urljoin

from lxml import etree

from tidemill.runtime.encodable import encodable, parsed
from tidemill.web import charset

MOST_BYTES = 50 * 2**20  # sitemaps.org: 52,428,800 bytes and 50,000 addresses, uncompressed
MOST_ENTRIES = 50_000
MOST_ALTERNATES = 200  # of one address, in other languages
PIECE = 64 * 1024
LISTS = {"urlset": "sitemap", "sitemapindex": "index", "rss": "feed", "RDF": "feed", "feed": "feed"}
ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)
RSL = "https://rslstandard.org/rsl"
DECLARATION = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_:.-]+)""")
# An ampersand with what may make it a reference; what XML has no letter for.
AMPERSAND = re.compile(r"&(#[0-9]{1,7};|#[xX][0-9A-Fa-f]{1,6};|[A-Za-z][A-Za-z0-9]{0,31};)?")
# A reference, or a mark of CDATA, that the next piece may go on with.
OPEN = re.compile(r"(?:&[#A-Za-z0-9]{0,33}|<(?:!(?:\[[CDAT]{0,5})?)?|\]{1,2})\Z")
NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
XML_ENTITIES = ("amp;", "lt;", "gt;", "quot;", "apos;")
CDATA = re.compile(r"<!\[CDATA\[|\]\]>")


class NotAList(ValueError):
    """A body that is neither a sitemap nor a feed; says what it is instead."""


class Entry(NamedTuple):
    """What a list names: a page, or a sitemap or feed where `kind` says so.

    `modified` is in seconds of the epoch.
    """

    uri: str
    modified: float | None = None
    kind: str = "page"


class Listing(list[Entry]):
    """What was listed.

    `broken` says what was wrong with a list that could be read in part: it may have named more.

    `licences` are the RSL statements within a feed, as one RSL document; empty where there are
    none.
    """

    broken = ""
    licences = b""


class Stream(io.RawIOBase):
    """A list's bytes, unpacked as they are read.

    What is no whole gzip file, or more than a list may have, ends it; `fault` says so.
    """

    def __init__(self, body: bytes) -> None:
        self.file: Any = (
            gzip.GzipFile(fileobj=io.BytesIO(body)) if body[:2] == b"\x1f\x8b" else io.BytesIO(body)
        )
        self.given = 0
        self.fault = ""

    def read(self, size: int = -1) -> bytes:
        wanted = size if size >= 0 else MOST_BYTES + 1
        pieces: list[bytes] = []
        while wanted > 0 and (piece := self._piece(min(wanted, PIECE))):
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        """The next bytes, as many as are unpacked at once; none at the end."""
        if self.fault:
            return b""
        try:
            piece = bytes(self.file.read1(size))
        except (OSError, EOFError, zlib.error):
            self.fault = "not a whole gzip file"
            return b""
        self.given += len(piece)
        if self.given > MOST_BYTES:
            self.fault = f"more than {MOST_BYTES // 2**20} MB once it is unpacked"
            return b""
        return piece


class Mended(io.RawIOBase):
    """The XML of a list in UTF-8, as a browser would mend it; read piece by piece."""

    def __init__(self, stream: Stream, start: bytes) -> None:
        self.stream, self.ahead = stream, start
        self.decoder = codecs.getincrementaldecoder(_encoding(start))(charset.WHATWG)
        self.begun = self.literal = self.declares = False
        self.held = ""  # an ampersand at the end of a piece

    def read(self, size: int = -1) -> bytes:
        while True:
            raw, self.ahead = self.ahead or self.stream.read(PIECE), b""
            text = self.held + self.decoder.decode(raw, final=not raw)
            if not self.begun and (text := text.lstrip("\ufeff \t\r\n\f\v\0")):
                self.begun = True
                text = re.sub(r"\A<\?xml[^>]{0,300}\?>", "", text)
            self.held = ""
            if raw and (open_ := OPEN.search(text)):
                self.held, text = open_[0], text[: open_.start()]
            if text:
                return self._mended(text).encode("utf-8", "replace")
            if not raw:
                return b""

    def _mended(self, text: str) -> str:
        """The text with its bare ampersands escaped.

        Within CDATA one stands for itself already; a list that declares entities of its own is left
        as it is.
        """
        self.declares = self.declares or "<!ENTITY" in text
        pieces, at = [], 0
        for mark in CDATA.finditer(text):
            pieces += [self._references(text[at : mark.start()]), mark[0]]
            self.literal, at = mark[0] != "]]>", mark.end()
        pieces.append(self._references(text[at:]))
        return NO_XML.sub("", "".join(pieces))

    def _references(self, text: str) -> str:
        if self.literal or self.declares or "&" not in text:
            return text
        return AMPERSAND.sub(_reference, text)


def _reference(match: re.Match[str]) -> str:
    """A reference that XML knows, as it stands.

    One of HTML as its letters; else the ampersand itself.
    """
    name = match[1] or ""
    if name in XML_ENTITIES:
        return match[0]
    letters = html.unescape(match[0]) if name else "&"
    return "".join(letter if letter not in "&<>\"'" else f"&#{ord(letter)};" for letter in letters)


def _encoding(start: bytes) -> str:
    """The codec of a list's bytes: by its mark, by its declaration, else UTF-8."""
    for mark, name in charset.MARKS:
        if start.startswith(mark):
            return name
    if b"\0" in start[:4]:
        return "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
    declaration = DECLARATION.search(start, 0, 512)
    codec = charset.known(declaration[1].decode("ascii")) if declaration else None
    return codec if codec and codec != charset.REPLACEMENT and "16" not in codec else "utf-8"


def listed(body: bytes, media: str = "") -> Listing:
    """What a sitemap or a feed lists, in its order. Raises `NotAList`, and nothing else."""
    stream = Stream(body)
    start = stream.read(PIECE)
    plain = start.lstrip(b"\xef\xbb\xbf\xfe\xff \t\r\n\f\v\0")
    if media.endswith("json") or plain[:1] == b"{":
        whole = start + stream.read()
        if stream.fault:
            raise NotAList(stream.fault)
        return Listing(_json(whole))
    if not plain:
        raise NotAList(stream.fault or "empty")
    if plain[:1] != b"<":
        return _lines(start + stream.read(), stream)
    return _Reading(Mended(stream, start)).listing(stream)


def _lines(body: bytes, stream: Stream) -> Listing:
    """One address a line (sitemaps.org, "Text file")."""
    lines = charset.decode(body, "utf-8").splitlines()
    addresses = (line for text in lines if ADDRESS.fullmatch(line := text.strip()))
    found = Listing(Entry(encodable(line)) for line in islice(addresses, MOST_ENTRIES))
    if not found and any(lines):
        raise NotAList(stream.fault or "neither XML nor JSON")
    found.broken = stream.fault
    if next(addresses, None) is not None:
        found.broken = f"more than {MOST_ENTRIES:,} addresses"
    return found


class _Reading:
    """A list of XML, read entry by entry; an element that was read is let go."""

    def __init__(self, stream: Mended) -> None:
        self.kind, self.found, self.count = "", Listing(), 0
        self.licences: list[bytes] = []
        self.whole = False  # its root was closed
        self.events = etree.iterparse(
            stream,
            events=("start", "end"),
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            recover=True,
        )

    def listing(self, stream: Stream) -> Listing:
        try:
            for event, node in self.events:
                if isinstance(node.tag, str) and not self._take(event, node):
                    break
        except etree.LxmlError as error:
            why = str(error).split(",")[0][:60]
            if not self.kind:
                raise NotAList(stream.fault or f"not XML: {why}") from error
            self.found.broken = self.found.broken or why
        if not self.kind:
            raise NotAList(stream.fault or "empty")
        self.found.broken = stream.fault or self.found.broken
        if not self.found.broken:
            self.found.broken = self._fault()
        if self.licences:
            self.found.licences = b"<rsl>" + b"".join(self.licences) + b"</rsl>"
        return self.found

    def _fault(self) -> str:
        """What may have lost an entry; a prefix that nobody declared loses none."""
        errors = [
            str(error.message).split(",")[0][:60]
            for error in self.events.error_log
            if error.level >= etree.ErrorLevels.ERROR
            and error.domain != etree.ErrorDomains.NAMESPACE
        ]
        return errors[0] if errors else ("" if self.whole else "cut short")

    def _take(self, event: str, node: etree._Element) -> bool:
        """One element that begins or ends; False where no more is read."""
        name = local(node)
        if event == "start":
            if not self.kind and name not in LISTS:
                raise NotAList(f"its root is <{name[:40]}>, not a sitemap's or a feed's")
            self.kind = self.kind or LISTS[name]
            return True
        self.whole = self.whole or node.getparent() is None
        entries = self._entries(name, node)
        if entries is None:
            return True
        if self.count == MOST_ENTRIES:
            self.found.broken = f"more than {MOST_ENTRIES:,} addresses"
            return False
        self.count += 1
        self.found += entries
        node.clear()
        parent = node.getparent()
        while parent is not None and node.getprevious() is not None:  # they were read too
            del parent[0]
        return True

    def _entries(self, name: str, node: etree._Element) -> list[Entry] | None:
        """What an element that ended lists; None where it is no entry."""
        if name in ("url", "sitemap") and self.kind in ("sitemap", "index"):
            return _place(node, "sitemap" if name == "sitemap" else "page")
        if self.kind != "feed":
            return None
        if name == "content" and node.tag == f"{{{RSL}}}content":
            self._licence(node, node.get("url") or "/")
            return None
        if name in ("item", "entry"):
            entries = _item(node)
            for content in node.iter(f"{{{RSL}}}content"):
                if entries and not content.get("url"):
                    self._licence(content, entries[0].uri)
            return entries
        if name == "link" and node.get("rel") == "next" and node.get("href"):
            return [Entry(_absolute(node, node.get("href", "")), None, "feed")]
        return None

    def _licence(self, node: etree._Element, place: str) -> None:
        """Keep an RSL statement (RSL 1.0, "RSS"): of the whole feed, or of one item."""
        inside = next(node.iterancestors("{*}item", "{*}entry"), None) is not None
        if not (inside and place == "/"):  # that one waits for its item's address
            copy = etree.fromstring(etree.tostring(node, with_tail=False))
            copy.set("url", place)
            self.licences.append(etree.tostring(copy))


def local(node: etree._Element) -> str:
    """An element's name without its namespace, also where its prefix was never declared."""
    return str(node.tag).rpartition("}")[2].rpartition(":")[2]


def _children(node: etree._Element, name: str) -> Iterator[etree._Element]:
    return (child for child in node if isinstance(child.tag, str) and local(child) == name)


def _text(node: etree._Element, name: str) -> str:
    child = next(_children(node, name), None)
    return "".join(child.itertext()).strip() if child is not None else ""


def _absolute(node: etree._Element, uri: str) -> str:
    """An address by the `xml:base` of its element and of those around it.

    As it stands where there is none.
    """
    try:
        return urljoin(node.base or "", uri.strip())
    except ValueError:
        return uri.strip()


def _place(node: etree._Element, kind: str) -> list[Entry]:
    """A sitemap's <url>: its address, and the same page in other languages (hreflang)."""
    modified = moment(_text(node, "lastmod"))
    found = [Entry(uri, modified, kind)] if (uri := _text(node, "loc")) else []
    others = (
        link.get("href", "").strip()
        for link in _children(node, "link")
        if link.get("rel") == "alternate" and link.get("hreflang")
    )
    named = {entry.uri for entry in found}
    return found + [
        Entry(uri, None, kind)
        for uri in dict.fromkeys(islice(others, MOST_ALTERNATES))
        if uri and uri not in named
    ]


def _item(node: etree._Element) -> list[Entry]:
    """A feed's item: its address by Atom's alternate link, RSS's link or a permanent guid."""
    uri = next((uri for uri in _addresses(node) if uri), None)
    times = (
        moment(_text(node, name))
        for name in ("updated", "modified", "date", "pubDate", "published")
    )
    when = next((time for time in times if time is not None), None)
    return [Entry(uri, when)] if uri else []


def _addresses(node: etree._Element) -> Iterable[str]:
    for link in _children(node, "link"):
        if link.get("href") and link.get("rel", "alternate") == "alternate":
            yield _absolute(link, link.get("href", ""))
    for link in _children(node, "link"):
        if link.text and link.text.strip():
            yield _absolute(link, link.text)
    for guid in _children(node, "guid"):
        if guid.text and guid.get("isPermaLink", "true").strip().lower() == "true":
            yield _absolute(guid, guid.text)


def _json(body: bytes) -> Iterator[Entry]:
    """JSON Feed 1.1 (also 1): items, then the next page of the feed."""
    try:
        feed = parsed(body)
    except (ValueError, RecursionError) as error:
        raise NotAList("not JSON") from error
    if not isinstance(feed, dict) or not isinstance(feed.get("items"), list):
        raise NotAList("JSON without items")
    for item in feed["items"][:MOST_ENTRIES]:
        if isinstance(item, dict) and isinstance(item.get("url"), str):
            when = item.get("date_modified") or item.get("date_published") or ""
            yield Entry(item["url"], moment(str(when)))
    if isinstance(feed.get("next_url"), str):
        yield Entry(feed["next_url"], None, "feed")


DAYS = ("%Y", "%Y-%m", "%Y-%m-%d")


def moment(text: str) -> float | None:
    """A W3C date or an HTTP date in seconds of the epoch; None for what is neither.

    A day means its end.
    """
    text = text.strip()
    for read in (_day, datetime.fromisoformat, parsedate_to_datetime):
        try:
            when = read(text)
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError, OSError):
            continue
    return None


def _day(text: str) -> datetime:
    day = datetime.strptime(text, DAYS[text.count("-")])
    return day.replace(hour=23, minute=59, second=59)
