"""robots.txt as RFC 9309 reads it, and what other standards write into it.

    User-agent: tidemill
    Allow: /docs/
    Disallow: /*.pdf$
    Crawl-delay: 2
    Content-Usage: /docs/ train-ai=n

Pure: bytes in, answers out. Whether the file could be had at all is `standing`'s question.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tidemill.runtime.encodable import encodable

MOST_BYTES = 500 * 1024  # RFC 9309, 2.5: what must be read at least, and all that we read
MOST_DELAY_S = 86_400.0  # after a day robots.txt is asked for again, so no gap is longer
UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
DISALLOW = {
    "disallow",
    "dissallow",
    "dissalow",
    "disalow",
    "diasllow",
    "disallaw",
}  # what people write for it
AGENT = {"user-agent", "useragent", "user agent"}


@dataclass
class Group:
    """The lines under one or several user agents."""

    rules: list[tuple[str, bool]] = field(default_factory=list)  # pattern, whether it allows
    usages: list[tuple[str, str]] = field(
        default_factory=list
    )  # Content-Usage: pattern, preference
    signals: list[tuple[str, str]] = field(default_factory=list)  # Content-Signal: pattern, signals
    licenses: list[str] = field(default_factory=list)  # RSL
    delays: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Robots:
    """What one robots.txt says to one product token."""

    group: Group
    licenses: tuple[str, ...] = ()  # of no group: they hold for all
    sitemaps: tuple[str, ...] = ()
    page: bool = False  # HTML, in which no line was one of robots.txt

    def allows(self, uri: str) -> bool:
        """Whether this address may be fetched.

        The longest pattern decides, Allow where two are equally long.
        """
        path = target(uri)
        if path == "/robots.txt":
            return True
        if self.page:
            return False
        best, answer = -1, True
        for pattern, allow in self.group.rules:
            if len(pattern) >= best and matches(pattern, path) and (len(pattern) > best or allow):
                best, answer = len(pattern), allow
        return answer

    @property
    def delay_s(self) -> float:
        return max(self.group.delays, default=0.0)

    def usages(self, uri: str) -> list[str]:
        """The Content-Usage preferences of an address: those of the longest pattern.

        That is AIPREF attach, "Content-Usage Rule Semantics".
        """
        return longest(self.group.usages, target(uri))

    def signals(self, uri: str) -> list[str]:
        """The Content-Signal lines of an address."""
        return longest(self.group.signals, target(uri))


def longest(rules: list[tuple[str, str]], path: str) -> list[str]:
    """What the longest of the patterns that match says; several of one length all count."""
    found = [(len(pattern), value) for pattern, value in rules if matches(pattern, path)]
    most = max((length for length, _ in found), default=0)
    return [value for length, value in found if length == most]


def parse(body: bytes, token: str) -> Robots:
    """What a robots.txt says to the crawler whose product token is `token`."""
    reading = _Reading()
    for line in lines(body):
        reading.take(*_parted(line))
    own = reading.groups.get(token.lower()) or reading.groups.get("*") or Group()
    page = not reading.known and body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"
    return Robots(own, tuple(reading.licenses), tuple(reading.sitemaps), page)


def _parted(line: str) -> tuple[str, str]:
    """A line's name in lower case and its value; some write a blank for the colon."""
    name, sign, value = line.partition(":")
    if not sign and len(words := line.split()) == 2 and words[0].lower() in (*DISALLOW, "allow"):
        name, value = words
    return name.strip().lower(), value.strip()


class _Reading:
    """A robots.txt as far as it was read."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.current: list[Group] = []
        self.naming = False  # the line before was a user agent too
        self.known = 0
        self.licenses: list[str] = []
        self.sitemaps: list[str] = []

    def take(self, name: str, value: str) -> None:
        if name in AGENT:
            self._agent(value)
        elif name == "allow" or name in DISALLOW:
            self.naming = False
            self.known += 1
            for group in self.current:
                group.rules += [(pattern, name == "allow") for pattern in patterns(value)]
        elif name == "crawl-delay" and re.fullmatch(r"\d+(\.\d+)?", value):
            for group in self.current:
                group.delays.append(min(float(value), MOST_DELAY_S))
        elif name in ("content-usage", "content-signal"):
            self._use(name, value)
        elif name == "license" and value:
            self._license(encodable(value))
        elif name == "sitemap" and value:
            self.sitemaps.append(encodable(value))
            self.known += 1

    def _agent(self, value: str) -> None:
        match = re.match(r"\*|[A-Za-z_-]*", value)
        who = match[0].lower() if match else ""
        self.current = [
            *(self.current if self.naming else []),
            self.groups.setdefault(who, Group()),
        ]
        self.naming = True
        self.known += 1

    def _use(self, name: str, value: str) -> None:
        self.naming = False
        path, _, words = "/", "", value
        if value.startswith("/"):
            path, _, words = value.replace("\t", " ", 1).partition(" ")
        for group in self.current:
            said = group.usages if name == "content-usage" else group.signals
            said += [(pattern, encodable(words.strip())) for pattern in patterns(path)]

    def _license(self, value: str) -> None:
        for group in self.current:
            group.licenses.append(value)
        if not self.current:
            self.licenses.append(value)


def lines(body: bytes) -> list[str]:
    """The file's lines without comments; bytes that are no UTF-8 stay as surrogates.

    A line that the limit cuts off is dropped: "Allow: /priv" must not become "Allow: /".
    """
    if len(body) > MOST_BYTES:
        body = body[:MOST_BYTES]
        body = body[: max(body.rfind(b"\n"), body.rfind(b"\r")) + 1]
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = body.decode("utf-16", "replace")
    else:
        text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    text = text.replace("\x00", "")
    return [line.partition("#")[0].strip() for line in re.split(r"\r\n|\r|\n", text)]


def patterns(value: str) -> list[str]:
    """A rule's value as patterns to match with.

    None for an empty one, two where its bytes were Latin-1.
    """
    if not value:
        return []
    value = value if value.startswith(("/", "*")) else "/" + value
    found = [normal(value, pattern=True)]
    if any("\udc80" <= letter <= "\udcff" for letter in value):
        found.append(
            normal(value.encode("utf-8", "surrogateescape").decode("latin-1"), pattern=True)
        )
    return found


def target(uri: str) -> str:
    """Path and query of an address, as rules are compared with them."""
    parts = urlsplit(uri)
    return normal((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def normal(text: str, pattern: bool = False) -> str:
    """One spelling for what RFC 9309, 2.2.2 holds equal.

    Letters outside ASCII are escaped, needless escapes are not.

    An address's own `*` and `$` are escaped, so that only a pattern's are special.
    """
    found = []
    at = 0
    while at < len(text):
        letter = text[at]
        if letter == "%" and re.fullmatch("[0-9A-Fa-f]{2}", text[at + 1 : at + 3]):
            plain = chr(int(text[at + 1 : at + 3], 16))
            found.append(plain if plain in UNRESERVED else text[at : at + 3].upper())
            at += 3
            continue
        special = letter == "*" or (letter == "$" and at == len(text) - 1)
        if letter in "*$" and not (pattern and special):
            found.append(f"%{ord(letter):02X}")
        elif letter > "~" or letter <= " ":
            found += [f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogateescape")]
        else:
            found.append(letter)
        at += 1
    return "".join(found)


def matches(pattern: str, path: str) -> bool:
    """Whether a normal pattern matches a normal path from its beginning.

    Linear, so that no pattern can stall us.
    """
    ends = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    if not rest:
        return not ends or at == len(path)
    last = rest.pop() if ends else None
    for piece in rest:
        found = path.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return last is None or (len(path) - len(last) >= at and path.endswith(last))


def standing(status: int | None) -> str:
    """What an answer for robots.txt means (RFC 9309, 2.3.1).

    "rules" to read, "all" or "nothing" allowed.

    None is no answer at all. A 429 asks for patience and is no statement that there are no rules.
    """
    if status is None or status >= 500 or status == 429:
        return "nothing"
    return "rules" if 200 <= status < 300 else "all"
