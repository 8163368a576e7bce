"""What a selector gives: parts, or the reason why there are none."""

from dataclasses import dataclass, field
from typing import Literal

KnownBy = Literal["address", "key", "content"]


@dataclass
class Part:
    """One part of a page, before it is judged: `text` is None where it could not be read."""

    name: str
    part: str
    text: str
    language: str = ""
    script: str = ""
    original: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    payload: bytes | None = None  # instead of text
    media: str = ""  # where it is another than the page's
    lines: bool = False  # its lines mean something and stay
    found: dict[str, int] | None = None  # what was personal in it, where that is marked already
    place: str = ""  # where it stood within its page: for people, never part of what it is
    known_by: KnownBy = "address"
    key: tuple[str, ...] = ()  # what its key columns hold, where it is known by them
    identity: str = ""  # what it is known by instead of all its content, where that grows


class Unreadable(Exception):
    """A page that a selector cannot open, with the reason."""
