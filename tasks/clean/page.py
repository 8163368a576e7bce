"""HTML pages: their main text as blocks, and what a host repeats on page after page.

A page is cut at its block elements. What its markup calls navigation is left out at once; what else is repeated over a
host's pages is learned from the whole host and cut when all of them were read, so nothing is guessed from one page.
Measured on real pages beside trafilatura: docs/log.md.
"""

import hashlib
import re
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress

from tasks.clean.part import Unreadable
from tidemill.web import charset

OUT = (
    "script,style,noscript,template,nav,footer,aside,form,iframe,svg,button,select,textarea,object,a.headerlink,"
    "[role=navigation],[role=search],[role=contentinfo],[role=banner],[role=complementary],[hidden],[aria-hidden=true]"
)
NAMED = re.compile(
    r"(?:^|[\s_-])(?:nav|menu|breadcrumb|footer|pagination|pager|related(?:$|\s)|share|social|cookie|copyright|advert|skip|toolbar)|sidebar"
)
WHOLE = "h1,main,article,[role=main]"  # an element that holds one of these is no navigation, whatever its class is called
BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "dialog",
        "dir",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hgroup",
        "hr",
        "html",
        "li",
        "main",
        "menu",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "tr",
        "ul",
    ]
)
LINKED = 0.5  # a block with more of its letters in links is one of links
LEAST = 3  # pages, below which nothing is called repeated
LINKED_SHARE = 0.01  # of a host's pages: links that stand on so many of them
PLAIN_SHARE = 0.2  # other blocks
MUST_STAY = 0.2  # of a page's letters outside links; else only its links are cut: its pages are nearly the same
MOST_BLOCKS = 200_000


@dataclass
class Page:
    title: str = ""
    language: str = ""
    blocks: list[tuple[str, bool]] = field(default_factory=list)  # text, whether it is of links


def mended(text: str) -> str:
    """Text that was decoded wrongly once, put right; other text as it is (ftfy's defaults would alter clean pages too)."""
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    return fix_encoding(text) if not text.isascii() and is_bad(text) else text


def read(body: bytes, header: str | None) -> Page:
    """A page's title, language and blocks. `header` is the charset that the server declared. Raises Unreadable."""
    from selectolax.lexbor import LexborHTMLParser

    if b"\0" in body[:1024] and not body.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("not a page: it has bytes of a binary file")
    tree = LexborHTMLParser(charset.decode(body, header))
    if tree.body is None:
        raise Unreadable("a page without a body")
    title, root = tree.css_first("title"), tree.css_first("html")
    language = (
        (root.attributes.get("lang") or root.attributes.get("xml:lang") or "") if root else ""
    )
    for node in tree.body.css(OUT):
        node.decompose()
    for node in tree.body.css("[class],[id]"):
        if (
            node.tag not in ("body", "main", "article")
            and NAMED.search(
                f"{node.attributes.get('class') or ''} {node.attributes.get('id') or ''}".lower()
            )
            and not node.css(WHOLE)
        ):
            node.decompose()
    page = Page(" ".join(mended(title.text()).split())[:500] if title else "", language[:40], [])
    for text, linked in _blocks(tree.body):
        page.blocks.append((mended(text), linked))
        if len(page.blocks) > MOST_BLOCKS:
            raise Unreadable(f"more than {MOST_BLOCKS:,} blocks")
    return page


def _blocks(body: object) -> Iterable[tuple[str, bool]]:
    """Runs of text within one block element, and whether most of it is in links."""
    parts: list[str] = []
    last = in_links = total = 0
    above: dict[int, tuple[int, bool]] = {}
    for node in body.traverse(include_text=True):  # type: ignore[attr-defined]
        tag = node.tag
        if tag != "-text":
            if tag in ("br", "td", "th"):
                parts.append(" ")
            continue
        parent = node.parent
        known = above.get(parent.mem_id)
        if known is None:
            up, link = parent, False
            while up is not None and up.tag not in BLOCKS:
                link = link or up.tag == "a"
                up = up.parent
            known = above[parent.mem_id] = (up.mem_id if up is not None else 0, link)
        block, link = known
        if block != last:
            if text := " ".join("".join(parts).split()):
                yield text, in_links > LINKED * total
            parts, in_links, total, last = [], 0, 0, block
        said = node.text_content or ""
        parts.append(said)
        size = len(said.strip())
        total += size
        if link:
            in_links += size
    if text := " ".join("".join(parts).split()):
        yield text, in_links > LINKED * total


def marks(page: Page) -> bytes:
    """Each block as eight bytes: its hash, the lowest bit saying whether it is of links."""
    found = []
    for text, linked in page.blocks:
        number = int.from_bytes(
            hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big"
        )
        found.append(number & ~1 | linked)
    return struct.pack(f">{len(found)}Q", *found)


def numbers(marked: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(marked) // 8}Q", marked)


class Host:
    """What a host's pages have in common. Pages that are the same count once."""

    def __init__(self) -> None:
        self.pages = 0
        self.on: Counter[int] = Counter()
        self.seen: set[bytes] = set()

    def add(self, marked: bytes) -> None:
        name = hashlib.blake2b(marked, digest_size=12).digest()
        if name not in self.seen:
            self.seen.add(name)
            self.pages += 1
            self.on.update(set(numbers(marked)))

    def repeated(self) -> frozenset[int]:
        """The blocks that are on so many pages that they belong to none."""
        least = {1: max(LEAST, self.pages * LINKED_SHARE), 0: max(LEAST, self.pages * PLAIN_SHARE)}
        often = [item for item in self.on.items() if item[1] >= LEAST]  # few are
        return frozenset(number for number, times in often if times >= least[number & 1])


def cuts(marked: bytes, repeated: frozenset[int]) -> tuple[int, ...]:
    """Which of a page's blocks are its host's."""
    found = numbers(marked)
    return tuple(compress(range(len(found)), map(repeated.__contains__, found)))


def staying(blocks: Sequence[tuple[str, bool]], cut: Iterable[int]) -> list[int]:
    """The places of the blocks that are the page's own."""
    gone = set(cut)
    plain = sum(len(text) for text, linked in blocks if not linked)
    stays = sum(
        len(text) for place, (text, linked) in enumerate(blocks) if not linked and place not in gone
    )
    only_links = stays < MUST_STAY * plain
    return [
        place
        for place, (_, linked) in enumerate(blocks)
        if place not in gone or (only_links and not linked)
    ]


def main_text(blocks: Sequence[tuple[str, bool]], cut: Iterable[int]) -> str:
    """The text without what is its host's, a block a line."""
    return "\n".join(blocks[place][0] for place in staying(blocks, cut))
