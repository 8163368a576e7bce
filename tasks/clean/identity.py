"""Who a document is: by its address, by its key, else by all that it says.

A page has an address. A record of a table has the key that its source names, else its content, and
records of equal content are numbered: whichever of them is the second, it says the same. Where a
row stands in its file, what the file is called and what conf/ calls the source have no part in it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.clean.part import KnownBy, Part
from tasks.clean.rows import Document
from tidemill.kit import content
from tidemill.runtime.errors import Refused

WITHOUT_ADDRESSES = ("package", "files")  # sources whose members have a place and no address
LONGEST_NAME = 80  # characters of a key that stands in an address
TWICE = "the same record twice"


@dataclass(frozen=True)
class DocumentIdentity:
    """What a document is known by; `doc_id` is not yet numbered among equals."""

    known_by: KnownBy
    doc_id: str
    content_id: str


def of(source_kind: str, address: str, part: Part, said: str) -> DocumentIdentity:
    """A part's identity.

    `address` is that of the part, with its name; `said` is the digest of its content.
    """
    known_by: KnownBy = part.known_by
    if known_by == "address" and source_kind in WITHOUT_ADDRESSES:
        known_by = "content"
    content_id = hashed("content", part.name, said)
    if known_by == "address":
        return DocumentIdentity(known_by, hashed("address", part.name, address), content_id)
    if known_by == "key":
        return DocumentIdentity(known_by, hashed("key", part.name, *part.key), content_id)
    return DocumentIdentity(known_by, content_id, content_id)


def hashed(*words: str) -> str:
    """24 hexadecimal digits for these words in this order."""
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:24]


def said(part: Part) -> str:
    """The digest of all that a part says, as it came: before anything is tidied or marked."""
    if part.identity:
        return _digest([part.part, part.identity])
    fields = [part.part, part.language, part.script, part.original, part.text, part.attributes]
    return _digest([*fields, _payload(part)])


def of_blocks(title: str, language: str, blocks: Sequence[tuple[str, bool]]) -> str:
    """The digest of a page, with the blocks that its host repeats: they may change with others."""
    return _digest([title, language, [list(block) for block in blocks]])


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _payload(part: Part) -> str:
    """A file's own bytes; of one that was encoded here what it shows or sounds like.

    An encoder of another version writes other bytes for the same picture.
    """
    if part.payload is None:
        return ""
    if part.media:
        return content.of_payload(part.payload)
    return hashlib.sha256(part.payload).hexdigest()


@dataclass
class DocumentNames:
    """The names of one source's documents, in the order in which they are read."""

    source: str
    times: dict[int, int] = field(default_factory=dict)  # that a content came before
    contents: dict[int, int] = field(default_factory=dict)  # of a key
    twice: list[str] = field(default_factory=list)  # where other rows of a known key stand
    null: list[str] = field(default_factory=list)  # and rows whose key is null

    def settle(self, document: Document) -> str | None:
        """Give a document its last id and address; why it is dropped, or None."""
        known_by = document.pop("known_by", "address")
        why = None
        if known_by == "content":
            self._numbered(document)
        elif known_by == "key":
            why = self._keyed(document)
        if document.pop("unnamed", False):
            name = f"{document['kind']}-{document['doc_id'][:12]}"
            document["uri"] = joined(document["uri"], name)
        return why

    def _numbered(self, document: Document) -> None:
        content = _number(document["doc_id"])
        before = self.times.get(content, 0)
        self.times[content] = before + 1
        if before:
            document["doc_id"] = hashed(document["doc_id"], str(before + 1))

    def _keyed(self, document: Document) -> str | None:
        if document.pop("null_key", False):
            self.null.append(document["place"])
            return "its key is null"
        key, content = _number(document["doc_id"]), _number(document["content_id"])
        if key not in self.contents:
            self.contents[key] = content
            return None
        if self.contents[key] != content:
            self.twice.append(document["place"])
        return TWICE

    def check(self) -> None:
        """Raises Refused where keys do not name records."""
        file = f"conf/source/{self.source}.yaml"
        remedy = f"correct the rows, or name other columns in `key` of {file}"
        for places, what in (
            (self.null, "rows have a null key"),
            (self.twice, "rows have the key of another row that says something else"),
        ):
            if places:
                raise Refused(
                    f"source {self.source}: {len(places):,} {what}, first {places[0]}; {remedy}"
                )


def joined(address: str, name: str) -> str:
    """The address of a part: after "#", and within a package or a folder after the member."""
    return f"{address}{'/' if '#' in address else '#'}{name}" if name else address


def _number(identity: str) -> int:
    """64 bits of an id: among ten million two agree by chance once in 400,000 corpora."""
    return int(identity[:16], 16)
