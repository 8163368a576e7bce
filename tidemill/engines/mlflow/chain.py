"""The ledger's entries as a chain: each signed, each naming the entry before it.

An entry is a tag `ledger.NNNNNN` of the registered model, JSON with its signature. What might
have to be forgotten, who decided and why, lies in a note beside it, `ledger.NNNNNN.note`. The entry
holds a digest of it under a secret that is in the note alone: a removed note cannot be guessed, and
the chain stays whole. The head, `ledger.head`, counts the entries that were carried out.

An entry that is written and not yet in the head is pending: the alias may or may not have moved.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from tidemill.package import signing
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import canonical, digest

HEAD = "ledger.head"
NAME = re.compile(r"ledger\.([0-9]{6}|[1-9][0-9]{6,17})")


class BrokenChain(Fault):
    """The ledger was changed by somebody other than Tidemill."""

    def __init__(self, application: str, number: int, why: str) -> None:
        super().__init__(
            f"the ledger of {application} is broken at {tag(number)}: {why}; say which version is "
            f"live with: tidemill rollback {application} --to N --why REASON"
        )


class LedgerEntry(BaseModel, frozen=True, extra="forbid"):
    """One decision, as it is signed."""

    application: str
    number: int  # from 1
    at: str
    version: str
    previous: str | None  # the version that was live before
    alias: str | None  # what the registry's alias named then
    digest: str  # of the version's package
    note: str  # a digest of who and why
    before: str  # the digest of the entry before; empty for the first and for one that starts anew
    anew: bool = False  # a person's decision after the ledger was broken: what is older is not read


class Note(BaseModel, frozen=True, extra="forbid"):
    """Who decided and why; it may be removed."""

    by: str
    why: str
    secret: str

    def digest(self) -> str:
        words = canonical([self.by, self.why]).encode()
        return hmac.new(self.secret.encode(), words, hashlib.sha256).hexdigest()


class Head(BaseModel, frozen=True, extra="forbid"):
    """How many entries were carried out, the digest of the last of them, and what was live then."""

    application: str
    count: int
    digest: str
    live: str | None


@dataclass(frozen=True)
class Chain:
    """The entries of an application, found to be whole."""

    application: str
    entries: tuple[LedgerEntry, ...] = ()
    head: Head | None = None

    @property
    def pending(self) -> LedgerEntry | None:
        """The last entry, where it is not in the head yet."""
        last = self.entries[-1] if self.entries else None
        return last if last and (self.head is None or self.head.count < last.number) else None

    @property
    def version(self) -> str | None:
        """The version that is live by the entries that were carried out."""
        if self.pending:
            return self.pending.previous
        return self.head.live if self.head else None

    def carried_out(self) -> list[LedgerEntry]:
        """The entries whose version went live, oldest first."""
        if not self.entries:
            return []
        following = [entry.previous for entry in self.entries[1:]] + [self.version]
        return [
            entry
            for entry, live_after in zip(self.entries, following, strict=True)
            if live_after == entry.version and entry is not self.pending
        ]


def tag(number: int) -> str:
    return f"ledger.{number:06d}"


def note_tag(number: int) -> str:
    return f"{tag(number)}.note"


def noted(by: str, why: str) -> Note:
    """A new note. Bytes of a command line that are no UTF-8 are written out, as \\udcff."""
    words = (text.encode("utf-8", "backslashreplace").decode() for text in (by, why))
    return Note(by=next(words), why=next(words), secret=secrets.token_hex(16))


def signed(content: LedgerEntry | Head) -> str:
    """A tag's value: the content and its signature."""
    body = content.model_dump()
    return canonical({"content": body, "signature": signing.signature(canonical(body))})


def read(application: str, tags: Mapping[str, str], seen: Head | None = None) -> Chain:
    """The chain in a model's tags. `seen` is the newest head that was read before.

    Raises `Broken` where an entry was changed, removed or added by somebody without the key.
    """
    stored = {
        int(match[1]): value for name, value in tags.items() if (match := NAME.fullmatch(name))
    }
    entries = _entries(application, stored)
    head = read_head(application, tags)
    chain = Chain(application, entries, head)
    _check_head(chain)
    if seen:
        _check_seen(chain, seen)
    return chain


def note(entry: LedgerEntry, tags: Mapping[str, str]) -> Note | None:
    """Who decided an entry and why; None where the note was removed. Raises `Broken`."""
    text = tags.get(note_tag(entry.number))
    if text is None:
        return None
    try:
        found = Note.model_validate_json(text)
    except ValidationError:
        found = None
    if found is None or not hmac.compare_digest(found.digest(), entry.note):
        raise BrokenChain(entry.application, entry.number, "its note was changed")
    return found


def _entries(application: str, stored: Mapping[int, str]) -> tuple[LedgerEntry, ...]:
    """The entries since the ledger last started anew, each in its place."""
    opened = {number: _opened(application, number, stored[number]) for number in sorted(stored)}
    begun = [n for n, entry in opened.items() if isinstance(entry, LedgerEntry) and entry.anew]
    first = max(begun, default=1)
    entries: list[LedgerEntry] = []
    for number in range(first, max(opened, default=0) + 1):
        entry = opened.get(number) or BrokenChain(application, number, "the entry was removed")
        if isinstance(entry, BrokenChain):
            raise entry
        if entries:
            _check_follows(entry, entries[-1])
        elif entry.before or (entry.previous is not None and not entry.anew):
            raise BrokenChain(application, number, "it is not the first entry")
        entries.append(entry)
    return tuple(entries)


def _opened(application: str, number: int, text: str) -> LedgerEntry | BrokenChain:
    try:
        body = json.loads(text)
        entry = LedgerEntry.model_validate(body["content"])
        whole = signing.valid(canonical(body["content"]), body["signature"])
    except (ValueError, KeyError, TypeError):
        return BrokenChain(application, number, "it is not an entry of this version of Tidemill")
    if not whole:
        return BrokenChain(application, number, "it was changed, or signed with another key")
    if (entry.application, entry.number) != (application, number):
        return BrokenChain(application, number, f"it belongs to {entry.application}")
    return entry


def _check_follows(entry: LedgerEntry, before: LedgerEntry) -> None:
    if entry.before != digest(before.model_dump()):
        raise BrokenChain(entry.application, entry.number, "the entry before it is another one")
    if entry.previous not in (before.version, before.previous):
        raise BrokenChain(entry.application, entry.number, "another version was live before it")


def read_head(application: str, tags: Mapping[str, str]) -> Head | None:
    """The head in a model's tags; None where there is none. Raises `Broken`."""
    if HEAD not in tags:
        return None
    try:
        body = json.loads(tags[HEAD])
        head = Head.model_validate(body["content"])
        whole = signing.valid(canonical(body["content"]), body["signature"])
    except (ValueError, KeyError, TypeError):
        raise BrokenChain(application, 0, "its head cannot be read") from None
    if not whole or head.application != application:
        raise BrokenChain(application, head.count, "its head was changed")
    return head


def _check_head(chain: Chain) -> None:
    head, last = chain.head, chain.entries[-1] if chain.entries else None
    first = chain.entries[0].number if chain.entries else 1
    if last is None:
        if head:
            raise BrokenChain(chain.application, head.count, "the entries were removed")
        return
    if head is None:
        if last.number > first:  # the very first one may have been cut off before its head
            raise BrokenChain(chain.application, last.number, "its head was removed")
        return
    if head.count > last.number:
        raise BrokenChain(chain.application, head.count, "the entry was removed")
    if head.count < first and last.number == first:
        return  # started anew, and cut off before its head
    if head.count < last.number - 1:
        raise BrokenChain(chain.application, last.number, "its head was put back")
    if head.digest != digest(chain.entries[head.count - first].model_dump()):
        raise BrokenChain(chain.application, head.count, "its head belongs to another entry")


def _check_seen(chain: Chain, seen: Head) -> None:
    """What was read once on this machine must still be there."""
    first = chain.entries[0] if chain.entries else None
    if first and first.anew and first.number > seen.count:
        return
    if chain.head is None or chain.head.count < seen.count:
        raise BrokenChain(
            chain.application,
            seen.count,
            f"{seen.count} entries were here, and {chain.head.count if chain.head else 0} are left",
        )
    at = seen.count - (first.number if first else 1)
    if at >= 0 and digest(chain.entries[at].model_dump()) != seen.digest:
        raise BrokenChain(chain.application, seen.count, "it is another one than was here before")
