"""HTTP's headers as their standards read them: media types, links, products.

And whether an answer is HTML.

Names, media types, parameters' names and relations are case-insensitive; a header that may be a
list may stand on several lines (RFC 9110, 5.3).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tidemill.web import charset

HTML = ("text/html", "application/xhtml+xml")
PLAIN = "text/plain"
TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")
PARAMETER = re.compile(
    r"""\s*;\s*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)"""
    r"""(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;,\s"]*)))?)?""",
    re.DOTALL,
)
TARGET = re.compile(r"<([^<>]*)>")  # no address has a bracket, so each is looked at once
ELEMENT = re.compile(r"""(?:[^",]|"(?:[^"\\]|\\.)*"?)+""", re.DOTALL)
ESCAPE = re.compile(r"\\(.)", re.DOTALL)
PRODUCT = re.compile(r"[A-Za-z_-]+")  # RFC 9309, 2.2.1: what robots.txt knows a crawler by
# What browsers take for no type at all, and look at the body instead (MIME Sniffing, 7).
UNKNOWN = ("unknown/unknown", "application/unknown", "*/*")
# How HTML begins where nobody says that it is (MIME Sniffing, 7.1): after blanks, before a blank
# or `>`.
HTML_START = re.compile(
    rb"[\t\n\f\r ]*<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body"
    rb"|br|p)[ >\t\n\f\r]|[\t\n\f\r ]*<!--",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Link:
    """One link of a `Link` header (RFC 8288).

    Its target as it stands there, and its relations in lower case.
    """

    target: str
    relations: frozenset[str]
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def media(self) -> str:
        return media_type([self.parameters.get("type", "")])[0] or ""


def media_type(values: Iterable[str]) -> tuple[str | None, str | None]:
    """The media type in lower case and the charset's label, of all lines of a Content-Type.

    The last that is one counts; a charset said before stays while the type is the same (Fetch,
    "extract a MIME type").
    """
    media = label = None
    for value in ELEMENT.findall(", ".join(values)):
        essence = value.partition(";")[0].strip().lower()
        if not TYPE.fullmatch(essence) or essence == "*/*":
            continue
        if essence != media:
            media, label = essence, None
        label = dict(parameters(value[value.find(";") :])).get("charset", label) or None
    return media, label


def parameters(text: str) -> list[tuple[str, str]]:
    """`;name=value` pairs, the names in lower case, quotes taken off.

    The first of a name stands last.
    """
    pairs = [
        (match[1].lower(), ESCAPE.sub(r"\1", match[2] if match[2] is not None else match[3] or ""))
        for match in _behind(PARAMETER, text, 0)
        if match[1]
    ]
    return pairs[::-1]


def _behind(pattern: re.Pattern[str], text: str, at: int) -> Iterator[re.Match[str]]:
    """Matches that follow each other without a gap."""
    while (match := pattern.match(text, at)) is not None and match.end() > at:
        yield match
        at = match.end()


def links(values: Iterable[str]) -> list[Link]:
    """The links of all lines of a `Link` header that are about the answer itself."""
    found = []
    for value in values:
        at = 0
        while (target := TARGET.search(value, at)) is not None:
            pieces = list(_behind(PARAMETER, value, target.end()))
            at = pieces[-1].end() if pieces else target.end()
            about = dict(parameters(value[target.end() : at]))
            if not about.get("anchor"):  # of another resource
                # Some servers quote as HTML does: rel='next'.
                relations = frozenset(about.get("rel", "").lower().strip("'").split())
                found.append(Link(target[1].strip(), relations, about))
    return found


def product(agent: str) -> str:
    """The product token of a user agent: `tidemill` of `tidemill/1.0 (+mailto:...)`."""
    match = PRODUCT.match(agent)
    return match[0] if match else ""


def is_html(media: str | None, body: bytes) -> bool:
    """Whether a body is HTML: by its media type, or, where it has none, by how it begins."""
    if media is None or media in UNKNOWN:
        return HTML_START.match(charset.decode(body[:512]).encode()) is not None
    return media in HTML
