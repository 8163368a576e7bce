"""What one HTML page says to a crawler: its links, what it is a copy of, how it may be used.

Read as a browser's tokeniser reads it, tag by tag, and without a tree: a tree of hostile markup costs the square of its
length in time (20,000 open <div>) or in memory (<p><b id=1>, <p><b id=2>, ...). Each character is looked at a few times,
whatever the page (decision 0020).
"""

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from html import unescape

from tidemill.web import charset, urls

HTML = ("text/html", "application/xhtml+xml")
REFRESH = re.compile(
    r"""\s*\d+(?:\.\d*)?\s*[;,\s]\s*(?:url\s*=\s*)?["']?([^"'\s]+)""", re.IGNORECASE
)
MOST_LINKS = 5_000  # of one page; more is no page a person reads

# What is between tags, in quotes and in comments is consumed as it is read (possessive), so nothing is read twice.
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
MARKUP = re.compile(
    r"<(?:[a-rt-z/][^>]*+>?|!--(?:-?>|(?s:.)*?(?:--!?>|\Z))|(script|style)(?=[\s/>])(?s:.)*?(?:</\1(?=[\s/>])[^>]*+>?|\Z)|[s!?][^>]*+>?)",
    re.IGNORECASE,
)


@dataclass
class Page:
    """A page as a crawler reads it; addresses are canonical."""

    links: list[str] = field(default_factory=list)
    metas: list[tuple[str, str]] = field(default_factory=list)
    canonical: str | None = None
    refresh: str | None = None
    licences: list[str] = field(default_factory=list)  # RSL documents
    text: str = ""  # the digest of its words


def read(body: bytes, uri: str, header: str | None, token: str, follow: bool) -> Page:
    """Read a page once for all that is asked of it. Without `follow` its links are left alone."""
    text = _text(body, header)
    page, base, hrefs, in_head = Page(text=digest(text)), "", dict[str, None](), True
    for name, about in tags(text):
        if name == "a" or name == "area":
            href = about.get("href")
            if (
                follow
                and href
                and href[0] != "#"
                and len(hrefs) < MOST_LINKS
                and "nofollow" not in about.get("rel", "").lower().split()
            ):
                hrefs[href.partition("#")[0].strip(urls.CONTROLS)] = None
        elif name == "meta":
            if about.get("name"):
                page.metas.append((about["name"], about.get("content", "")))
            elif in_head and about.get("http-equiv", "").lower() == "refresh":
                found = REFRESH.match(about.get("content", ""))
                page.refresh = urls.joined(base or uri, found.group(1)) if found else None
        elif name == "base":
            base = base or urls.joined(uri, about.get("href", "")) or ""
        elif name == "body":
            in_head = False
        else:
            rel = about.get("rel", "").lower().split()
            if (
                "canonical" in rel and in_head and page.canonical is None
            ):  # below it may be a visitor's own words
                page.canonical = urls.joined(base or uri, about.get("href", ""))
            if "license" in rel and about.get("type", "").lower() == "application/rsl+xml":
                page.licences += (
                    [there] if (there := urls.joined(base or uri, about.get("href", ""))) else []
                )
    said = {
        word
        for name, value in page.metas
        if name.strip().lower() in ("robots", token.lower())
        for word in re.split(r"[,\s]+", value.lower())
    }
    if not said & {"nofollow", "none"}:
        page.links = list(
            dict.fromkeys(there for href in hrefs if (there := urls.joined(base or uri, href)))
        )
    return page


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
    """A tag's attributes, the first of each name. Pages of one site share most of their links, so those are remembered."""
    about: dict[str, str] = {}
    for key, one, two, three in ATTRIBUTE.findall(text):
        value = one or two or three
        about.setdefault(
            key.lower(),
            ENTITY.sub(lambda found: unescape(found.group(0)), value) if "&" in value else value,
        )
    return about


def _text(body: bytes, header: str | None) -> str:
    if header is None or header.lower() in ("utf-8", "utf8"):
        with suppress(
            UnicodeDecodeError
        ):  # by far the most; what a meta tag says otherwise changes no link
            return body.decode("utf-8")
    return charset.decode(body, header)


def digest(text: str) -> str:
    """The digest of a page's words: what a reader would call a change. Markup, scripts and styles are left out."""
    return hashlib.sha256(
        " ".join(MARKUP.sub(" ", text).split()).encode("utf-8", "replace")
    ).hexdigest()[:32]
