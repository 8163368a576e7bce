"""What one HTML page says to a crawler: its links, what it is a copy of, how it may be used.

Read as a browser's tokeniser reads it, tag by tag, and without a tree: a tree of hostile markup
costs the square of its length in time (20,000 open <div>) or in memory (<p><b id=1>, <p><b id=2>,
...). Each character is looked at a few times, whatever the page (decision 0020).
"""

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from html import unescape

from tidemill.web import charset, headers, urls

RSL = "application/rsl+xml"
REFRESH = re.compile(
    r"""\s*\d+(?:\.\d*)?\s*[;,\s]\s*(?:url\s*=\s*)?["']?([^"'\s]+)""", re.IGNORECASE
)
MOST_LINKS = 5_000  # of one page; more is no page a person reads

# What is between tags, in quotes and in comments is consumed as it is read (possessive), so
# nothing is read twice.
_ATTRIBUTES = (
    r"""(?:[^>=]++|=\s*+(?:"[^"]*+"?|'[^']*+'?)?+)*+"""  # a quote counts behind an equals sign
)
_RAW = "script|style|textarea|title|xmp|iframe|noembed|noframes"  # whose content is no markup
_WANTED = rf"(?:a|area|base|body|link|meta|{_RAW})(?=[\s/>])"
_COMMENT = r"<!--(?:-?>|(?s:.)*?(?:--!?>|\Z))"
_OTHER = rf"</[^>]*+>?|<(?!{_WANTED})[a-z]{_ATTRIBUTES}>?|<(?!--)[!?][^>]*+>?|<(?![a-z/!?])"
NEXT = re.compile(rf"(?:[^<]++|{_OTHER}|{_COMMENT})*+<({_WANTED})({_ATTRIBUTES})>?", re.IGNORECASE)
ATTRIBUTE = re.compile(r"""([^\s/>=]++)(?:\s*+=\s*+(?:"([^"]*+)"?|'([^']*+)'?|([^\s>]*+)))?+""")
ENTITY = re.compile(
    r"&(?:#[0-9]+;?|#[xX][0-9A-Fa-f]+;?|[A-Za-z][A-Za-z0-9]*;)"
)  # in an attribute `&copy=2` is a parameter
ENDS = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in _RAW.split("|")}
SCRIPT = re.compile(
    rf"<script(?=[\s/])({_ATTRIBUTES})>((?s:.)*?)(?:</script(?=[\s/>])|\Z)", re.IGNORECASE
)
MARKUP = re.compile(
    r"<(?:[a-rt-z/][^>]*+>?|!--(?:-?>|(?s:.)*?(?:--!?>|\Z))"
    r"|(script|style)(?=[\s/>])(?s:.)*?(?:</\1(?=[\s/>])[^>]*+>?|\Z)|[s!?][^>]*+>?)",
    re.IGNORECASE,
)


@dataclass
class Page:
    """A page as a crawler reads it; addresses are canonical."""

    links: list[str] = field(default_factory=list)
    metas: list[tuple[str, str]] = field(default_factory=list)
    canonical: str | None = None
    refresh: str | None = None
    licences: list[str] = field(default_factory=list)  # addresses of RSL documents
    statements: list[str] = field(default_factory=list)  # RSL documents that stand within
    text: str = ""  # the digest of its words


def read(body: bytes, uri: str, header: str | None, token: str, follow: bool) -> Page:
    """Read a page once for all that is asked of it. Without `follow` its links are left alone."""
    text = _text(body, header)
    reading = _Reading(uri, follow)
    reading.page.text = digest(text)
    for name, about in tags(text):
        reading.take(name, about)
    if b"rsl+xml" in body.lower():
        reading.page.statements = statements(text)
    return reading.done(token)


class _Reading:
    """A page as far as its tags were read."""

    def __init__(self, uri: str, follow: bool) -> None:
        self.uri, self.follow, self.page = uri, follow, Page()
        self.base, self.in_head = "", True
        self.hrefs: dict[str, None] = {}

    def take(self, name: str, about: dict[str, str]) -> None:
        if name in ("a", "area"):
            self._anchor(about)
        elif name == "meta":
            self._meta(about)
        elif name == "base":
            self.base = self.base or urls.joined(self.uri, about.get("href", "")) or ""
        elif name == "body":
            self.in_head = False
        else:
            self._link(about)

    def _anchor(self, about: dict[str, str]) -> None:
        href = about.get("href")
        if not self.follow or not href or href[0] == "#" or len(self.hrefs) >= MOST_LINKS:
            return
        if "nofollow" not in about.get("rel", "").lower().split():
            self.hrefs[href.partition("#")[0].strip(urls.CONTROLS)] = None

    def _meta(self, about: dict[str, str]) -> None:
        if about.get("name"):
            self.page.metas.append((about["name"], about.get("content", "")))
        elif self.in_head and about.get("http-equiv", "").strip().lower() == "refresh":
            match = REFRESH.match(about.get("content", ""))
            self.page.refresh = self._joined(match.group(1)) if match else None

    def _link(self, about: dict[str, str]) -> None:
        relations = about.get("rel", "").lower().split()
        there = self._joined(about.get("href", ""))
        if "canonical" in relations and self.in_head and self.page.canonical is None:
            self.page.canonical = there  # below the head it may be a visitor's own words
        if (
            "license" in relations
            and there
            and headers.media_type([about.get("type", "")])[0] == RSL
        ):
            self.page.licences.append(there)

    def _joined(self, href: str) -> str | None:
        return urls.joined(self.base or self.uri, href)

    def done(self, token: str) -> Page:
        """The page, its links in one spelling; none where it says that none is to be followed."""
        said = {
            word
            for name, value in self.page.metas
            if name.strip().lower() in ("robots", token.lower())
            for word in re.split(r"[,;\s]+", value.lower())
        }
        if not said & {"nofollow", "none"}:
            there = (self._joined(href) for href in self.hrefs)
            self.page.links = list(dict.fromkeys(uri for uri in there if uri))
        return self.page


def statements(text: str) -> list[str]:
    """The RSL documents in scripts of their media type (RSL 1.0, "HTML")."""
    found = []
    for match in SCRIPT.finditer(text):
        if headers.media_type([attributes(match[1]).get("type", "")])[0] == RSL:
            found.append(match[2].strip())
    return found


def tags(text: str) -> list[tuple[str, dict[str, str]]]:
    """The start tags that matter to a crawler, with their attributes, in their order."""
    found = []
    at = 0
    while (match := NEXT.match(text, at)) is not None:
        at = match.end()
        name = match.group(1).lower()
        if name in ENDS:
            end = ENDS[name].search(text, at)
            if end is None:
                break
            at = end.end()
            continue
        found.append((name, attributes(match.group(2))))
    return found


@lru_cache(maxsize=16_384)
def attributes(text: str) -> dict[str, str]:
    """A tag's attributes, the first of each name.

    Pages of one site share most of their links, so those are remembered.
    """
    about: dict[str, str] = {}
    for key, one, two, three in ATTRIBUTE.findall(text):
        value = one or two or three
        if "&" in value:
            value = ENTITY.sub(lambda match: unescape(match.group(0)), value)
        about.setdefault(key.lower(), value)
    return about


def _text(body: bytes, header: str | None) -> str:
    if charset.known(header) in (None, "utf-8"):
        with suppress(
            UnicodeDecodeError
        ):  # by far the most; what a meta tag says otherwise changes no link
            return body.decode("utf-8")
    return charset.decode(body, header)


def digest(text: str) -> str:
    """The digest of a page's words: what a reader would call a change.

    Markup, scripts and styles are left out.
    """
    return hashlib.sha256(
        " ".join(MARKUP.sub(" ", text).split()).encode("utf-8", "replace")
    ).hexdigest()[:32]
