"""HTML pages: their main text as blocks, and what a host repeats on page after page.

A page is cut at its block elements. What its markup calls navigation is left out at once; what else
is repeated over a host's pages is learned from the whole host and cut when all of them were read,
so nothing is guessed from one page. Measured on real pages beside trafilatura: docs/log.md.
"""

import hashlib
import re
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

from tasks.clean.part import Unreadable
from tidemill.text import normal
from tidemill.web import charset

# What no reader sees, such as what a browser without video shows, or a formula's source.
NEVER_TEXT = (
    "script,style,noscript,template,iframe,svg,button,select,textarea,object,a.headerlink,"
    "video,audio,canvas,annotation,annotation-xml"
)
OUT = (
    "nav,footer,aside,form,[role=navigation],[role=search],[role=contentinfo],[role=banner],"
    "[role=complementary],[hidden],[aria-hidden=true]"
)
# Words of a class or an id by which authors call what is no main text: whole words, `share` but not
# `shareholder`.
_NAMED = re.compile(
    r"nav(?:bar|box|igation|list|links?|menu|items?|s)?|menu(?:s|bar|items?|list|links?)?|"
    r"breadcrumbs?|footer(?:s|nav|links)?"
    r"|paginat(?:ion|or)|pager|shar(?:e|es|ing)|social|cookies?|copyright|advert(?:s|isements?)?"
    r"|skip(?:link|links|nav|to)?|toolbar|sidebar\w{0,2}|\w*sidebar"
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WITHOUT = frozenset(["no", "without", "has", "with", "hide", "is"])  # no-sidebar, page-with-menu
WHOLE = "h1,main,article,[role=main]"  # holds the main text, whatever its class is called
WRAPPER = 0.5  # an element with more than this share of a page's text, links apart, is its wrapper
_BLOCK_NAMES = (
    "address article aside blockquote body caption center dd details dialog dir div dl dt "
    "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend "
    "li listing main menu nav ol p pre search section summary table tbody tfoot thead tr ul "
)
BLOCKS = frozenset(_BLOCK_NAMES.split())
AS_WRITTEN = ("pre", "listing")
LINKED = 0.5  # a block with more of its letters in links is one of links
LEAST = 3  # pages, below which nothing is called repeated
LINKED_SHARE = 0.01  # of a host's pages: links that stand on so many of them
PLAIN_SHARE = 0.2  # other blocks
# of a page's letters outside links; else only its links are cut: its pages are nearly the same
MUST_STAY = 0.2
MOST_BLOCKS = 200_000
BREAK = "\x1e"  # a line break of the page's author, until white space is collapsed; no page has it


@dataclass
class MainText:
    title: str = ""
    language: str = ""
    blocks: list[tuple[str, bool]] = field(default_factory=list)  # text, whether it is of links


def mended(text: str) -> str:
    """Text that was decoded wrongly once, put right; other text as it is.

    ftfy's defaults would alter clean pages too.
    """
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    return fix_encoding(text) if not text.isascii() and is_bad(text) else text


def read(body: bytes, header: str | None) -> MainText:
    """A page's title, language and blocks.

    `header` is the charset that the server declared. Raises Unreadable.
    """
    from selectolax.lexbor import LexborHTMLParser

    _no_binary(body, header)
    tree = LexborHTMLParser(charset.decode(body, header))
    if tree.body is None:
        raise Unreadable("a page without a body")
    title, root = tree.css_first("title"), tree.css_first("html")
    language = ""
    if root:
        language = root.attributes.get("lang") or root.attributes.get("xml:lang") or ""
    _without_navigation(tree.body)
    page = MainText(" ".join(mended(title.text()).split()) if title else "", language[:40], [])
    for text, linked in _blocks(tree.body):
        page.blocks.append((mended(text), linked))
        if len(page.blocks) > MOST_BLOCKS:
            raise Unreadable(f"more than {MOST_BLOCKS:,} blocks")
    return page


def plain(body: bytes, header: str | None) -> MainText:
    """A plain text's paragraphs as blocks; nothing in it is markup. Raises Unreadable."""
    _no_binary(body, header)
    paragraphs = re.split(r"\n[ \t]*\n", charset.decode(body, header).replace("\r\n", "\n"))
    blocks = [(mended(text.strip("\n")), False) for text in paragraphs if text.strip()]
    if len(blocks) > MOST_BLOCKS:
        raise Unreadable(f"more than {MOST_BLOCKS:,} blocks")
    return MainText(blocks=blocks)


def _no_binary(body: bytes, header: str | None) -> None:
    if (charset.known(header) or "").startswith("utf-16"):
        return
    if b"\0" in body[:1024] and not body.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("not a page: it has bytes of a binary file")


def named_as_navigation(names: str) -> bool:
    """Whether a class or an id says that an element is no main text."""
    return any(map(_navigation_name, names.split()))


def _navigation_name(name: str) -> bool:
    words = [word for word in re.split(r"[\W_]+", _CAMEL.sub("-", name).lower()) if word]
    if not _WITHOUT.isdisjoint(words):
        return False
    return bool(words) and (words[-1] == "related" or any(map(_NAMED.fullmatch, words)))


def _without_navigation(body: Any) -> None:
    """Take out what markup and names call navigation.

    An element that holds most of the page's text stays.
    """
    for node in body.css(NEVER_TEXT):
        node.decompose()
    out = body.css(OUT)
    with_main_text = _with_main_text(body)
    for node in body.css("[class],[id]"):
        if node.tag in ("body", "main", "article"):
            continue
        names = f"{node.attributes.get('class') or ''} {node.attributes.get('id') or ''}"
        if node.mem_id not in with_main_text and named_as_navigation(names):
            out.append(node)
    if not out:
        return
    tree = _Tree.of(body)
    navigation = {node.mem_id for node in out if not tree.is_wrapper(node.mem_id)}
    gone: set[int] = set()
    for node_id, parent in tree.parents.items():
        if parent in gone or node_id in navigation:
            gone.add(node_id)
    for node in out:
        if node.mem_id in navigation and tree.parents.get(node.mem_id) not in gone:
            node.decompose()


def _with_main_text(body: Any) -> set[int]:
    """The elements that are, or hold, what is never called navigation; each is looked at once."""
    holders: set[int] = set()
    for node in body.css(WHOLE):
        while node is not None and node.mem_id not in holders:
            holders.add(node.mem_id)
            node = node.parent
    return holders


@dataclass(frozen=True)
class _Tree:
    """The elements below a body, by their numbers.

    Each one's parent, before its children, and its text's size.

    Sizes are in characters outside of links.
    """

    parents: dict[int, int]
    sizes: dict[int, int]
    total: int

    @classmethod
    def of(cls, body: Any) -> "_Tree":
        sizes: dict[int, int] = {}
        in_link: dict[int, bool] = {}
        parents: dict[int, int] = {}
        for node in body.traverse(include_text=True):
            parent = node.parent.mem_id
            if node.tag != "-text":
                in_link[node.mem_id] = node.tag == "a" or in_link.get(parent, False)
                parents[node.mem_id] = parent
            elif not in_link.get(parent):
                sizes[parent] = sizes.get(parent, 0) + len((node.text_content or "").strip())
        for node_id in reversed(parents):
            if node_id in sizes and node_id != body.mem_id:
                parent = parents[node_id]
                sizes[parent] = sizes.get(parent, 0) + sizes[node_id]
        return cls(parents, sizes, sizes.get(body.mem_id, 0))

    def is_wrapper(self, node_id: int) -> bool:
        return self.sizes.get(node_id, 0) > WRAPPER * self.total


@dataclass
class _Block:
    """The run of text that is being read."""

    place: int = 0
    parts: list[str] = field(default_factory=list)
    linked: int = 0
    total: int = 0

    def text(self, as_written: bool) -> str:
        whole = "".join(self.parts)
        if as_written:
            return normal.lines(whole.replace(BREAK, "\n"))
        return "\n".join(filter(None, map(normal.collapsed, whole.split(BREAK))))


@dataclass(frozen=True)
class _Place:
    """Where a text stands: its block element, whether in a link, whether white space is kept."""

    block: int
    linked: bool
    as_written: bool


OUTSIDE = _Place(0, False, False)


def _blocks(body: Any) -> Iterable[tuple[str, bool]]:
    """Runs of text within one block element, and whether most of it is in links."""
    places: dict[int, _Place] = {}
    block, as_written = _Block(), False
    for node in body.traverse(include_text=True):
        tag = node.tag
        if tag != "-text":
            places[node.mem_id] = _place(node, tag, places)
            if tag in ("br", "td", "th"):
                block.parts.append(BREAK if tag == "br" else " ")
            continue
        place = places.get(node.parent.mem_id, OUTSIDE)
        if place.block != block.place:
            if text := block.text(as_written):
                yield text, block.linked > LINKED * block.total
            block, as_written = _Block(place.block), place.as_written
        content = (node.text_content or "").replace(BREAK, " ")
        block.parts.append(content)
        size = len(content.strip())
        block.total += size
        if place.linked:
            block.linked += size
    if text := block.text(as_written):
        yield text, block.linked > LINKED * block.total


def _place(node: Any, tag: str, places: dict[int, _Place]) -> _Place:
    """An element's place by its parent's, so that deep nesting costs no more than flat."""
    parent = node.parent
    above = places.get(parent.mem_id, OUTSIDE) if parent is not None else OUTSIDE
    as_written = above.as_written or tag in AS_WRITTEN
    if tag in BLOCKS:
        return _Place(node.mem_id, False, as_written)
    if tag == "a" and not above.linked:
        return _Place(above.block, True, as_written)
    return above


def marks(page: MainText) -> bytes:
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


class HostBlocks:
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
