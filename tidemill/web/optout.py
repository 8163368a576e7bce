"""By which words a page says how it may be used, and what we make of them.

Pure. A signal keeps the words as they were said; what they mean is decided from them, when a page
is fetched and again at every clean, so a later reading or a stricter policy also holds for older
pages.

    [{"signal": "content-usage", "where": "robots.txt", "value": "train-ai=n", "sha256": "..."}]
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin

from tidemill.engines.config.schema import Collect, OptOut
from tidemill.runtime.encodable import encodable, parsed
from tidemill.web import robots
from tidemill.web.headers import product

TDM = (
    "tdmrep.json",
    "header",
    "page",
)  # a later one supersedes an earlier one (TDMRep 2024, "Processing priority")
REFUSING = {
    "train-ai",
    "all",
    "ai",
    "bots",
    "tdm",
    "train-genai",
    "genai",
}  # AIPREF vocab-08, and what its earlier drafts called it
DIRECTIVES = {
    "unavailable_after",
    "max-snippet",
    "max-image-preview",
    "max-video-preview",
    "max-age",
}
WORDS = {
    *("all", "index", "follow", "nofollow", "noarchive", "nosnippet", "nocache", "notranslate"),
    *("noimageindex", "noodp", "noydir", "indexifembedded", "noimageclick", "nopreview"),
    *("noai", "noimageai", "noindex", "none"),
}  # that need no value; behind a name and a colon they say that the name is a crawler's
NO = {"noai": "noai", "noimageai": "noimageai", "noindex": "noindex", "none": "noindex"}
# Content-Signal has no grammar: sites part its pairs by commas, semicolons or blanks.
AI_TRAIN = re.compile(
    r"""(?<![^\s,;"'])ai-train["']?\s*[=:]\s*["']?(yes|no)(?![^\s,;"'])""", re.IGNORECASE
)
RSL_TRAIN = {"ai-train", "train-ai", "ai-all", "all", "ai"}


@dataclass(frozen=True)
class Signal:
    """One statement on how something may be used.

    Which standard, where it stood, its words, and the digest of the file they stood in.
    """

    signal: str
    where: str
    value: str
    sha256: str = ""


@dataclass(frozen=True)
class Decision:
    allowed: bool
    reason: str


def decide(signals: Iterable[Signal], policy: OptOut) -> Decision:
    """Whether a page may be used for training: no where any heeded signal says no."""
    heard = [item for item in effective(signals) if item.signal in policy.heed]
    yes = False
    for item in heard:
        answer = says(item)
        if answer is False:
            return Decision(False, f"{item.signal} ({item.where}): {item.value[:80]}")
        yes = yes or answer is True
    if yes or policy.unknown == "allowed":
        return Decision(True, "it says yes" if yes else "nothing says no")
    return Decision(False, "nothing says yes, and conf/config.yaml has optout.unknown: refused")


def effective(signals: Iterable[Signal]) -> list[Signal]:
    """The signals that count: of TDMRep's places the most specific one that says something."""
    found = list(signals)
    tdm = [item for item in found if item.signal == "tdm-reservation" and says(item) is not None]
    best = max((TDM.index(item.where) for item in tdm if item.where in TDM), default=None)
    return [
        item
        for item in found
        if item.signal != "tdm-reservation"
        or best is None
        or item.where not in TDM
        or item.where == TDM[best]
    ]


def says(item: Signal) -> bool | None:
    """What one signal says of training: True, False, or None where it says nothing."""
    if item.signal == "content-usage":
        values = preferences(item.value)
        if any(values.get(name) == "n" for name in REFUSING):
            return False
        return True if values.get("train-ai") == "y" else None
    if item.signal == "content-signal":
        answers = {match[1].lower() for match in AI_TRAIN.finditer(item.value)}
        return _cautious(answers, yes="yes", no="no")
    if item.signal == "tdm-reservation":
        answers = {piece.partition(";")[0].strip(" \t\"'") for piece in item.value.split(",")}
        return _cautious(answers, yes="0", no="1")
    if item.signal in ("rsl", "ai.txt"):
        return {"no": False, "yes": True}.get(item.value.partition(":")[0])
    return False  # noai, noimageai, noindex and robots.txt are said only to refuse


def _cautious(answers: set[str], yes: str, no: str) -> bool | None:
    """What several answers to one question come to: a no among them counts."""
    if no in answers:
        return False
    return True if yes in answers else None


def preferences(text: str) -> dict[str, str]:
    """AIPREF's `train-ai=y, search=n`.

    The tokens of a structured dictionary (RFC 9651, 3.2), none where it does not parse.

    The last of two equal keys counts; parameters and what is no token are dropped.
    """
    found: dict[str, str | None] = {}
    rest = text.strip(" ")
    while rest:
        key = re.match(r"[a-z*][a-z0-9_.*-]*", rest)
        if not key:
            return {}
        rest = rest[key.end() :]
        value: str | None = None
        if rest.startswith("="):
            item = ITEM.match(rest, 1)
            if not item:
                return {}
            value = item.group(0) if item.lastgroup == "token" else None
            rest = rest[item.end() :]
        parameters = PARAMETERS.match(rest)
        assert parameters is not None
        rest = rest[parameters.end() :].lstrip(" \t")
        found[key.group(0)] = value
        if not rest:
            break
        if not rest.startswith(","):
            return {}
        rest = rest[1:].lstrip(" \t")
        if not rest:
            return {}  # a trailing comma
    return {name: value for name, value in found.items() if value is not None}


# The items of structured fields (RFC 9651, 3.3): a string, bytes, a truth value, a date or number.
_VALUE = r'"(?:[ !#-\[\]-~]|\\["\\])*"|:[A-Za-z0-9+/=]*:|\?[01]|@-?\d+|-?\d+(?:\.\d{1,3})?'
_TOKEN = r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*"
_BARE = rf"(?:{_VALUE}|{_TOKEN})"
_PARAMETERS = rf"(?:; *[a-z*][a-z0-9_.*-]*(?:={_BARE})?)*"
PARAMETERS = re.compile(_PARAMETERS)
_LIST = rf"\( *(?:{_BARE}{_PARAMETERS}(?: +|(?=\))))*\)"
ITEM = re.compile(rf"(?P<list>{_LIST})|(?P<other>{_VALUE})|(?P<token>{_TOKEN})")


# What was heard, and where -----------------------------------------------------------------------


def of_headers(headers: Iterable[tuple[str, str]], token: str) -> list[Signal]:
    """The signals of one response's headers.

    Several Content-Usage lines are one dictionary (RFC 9110, 5.3).
    """
    found, usage = [], []
    for name, value in headers:
        name = name.lower()
        if name == "content-usage":
            usage.append(value)
        elif name == "content-signal":
            found.append(Signal("content-signal", "header", value))
        elif name == "tdm-reservation":
            found.append(Signal("tdm-reservation", "header", value.strip()))
        elif name == "x-robots-tag":
            found += [
                Signal(NO[word], "header", value) for word in words(value, token) if word in NO
            ]
    whole = ", ".join(usage)
    if len(usage) > 1 and not preferences(whole):  # one line that cannot be read silences no other
        return found + [Signal("content-usage", "header", value) for value in usage]
    return found + ([Signal("content-usage", "header", whole)] if usage else [])


FIELDS = {
    "content-usage": ("content-usage",),
    "content-signal": ("content-signal",),
    "tdm-reservation": ("tdm-reservation",),
    "x-robots-tag": tuple(sorted(set(NO.values()))),
}  # a header's name, and the signals it may bring


def renewed(
    signals: Iterable[Signal], headers: Iterable[tuple[str, str]], token: str
) -> list[Signal]:
    """What a page said, with the headers of a 304: they are the current ones (RFC 9110, 15.4.5).

    A header that the 304 leaves out says what it said before.
    """
    lines = list(headers)
    anew = {kind for name, _ in lines for kind in FIELDS.get(name.lower(), ())}
    stays = [item for item in signals if item.where != "header" or item.signal not in anew]
    return [*stays, *of_headers(lines, token)]


def words(value: str, token: str) -> list[str]:
    """The directives of one X-Robots-Tag that are said to us: `otherbot: noindex` is not.

    Only a product token before a directive is a crawler's name. A date has commas and colons too
    (`unavailable_after: Fri, 25 Jun 2027 15:00:00 GMT, noai`), and a directive may be one we do not
    know: what may be read two ways is read as said to us.
    """
    found, ours = [], True
    for piece in value.split(","):
        name, sign, behind = (part.strip().lower() for part in piece.partition(":"))
        if sign and _names_a_crawler(name, behind):
            ours = name.partition("/")[0] in ("*", token.lower())
            name = ""
        if ours:
            found += re.split(r"[\s;]+", f"{name} {behind}".strip())
    return [word for word in found if word]


def _names_a_crawler(name: str, behind: str) -> bool:
    if name in DIRECTIVES or not re.fullmatch(r"\*|[a-z_-]+[0-9]*(?:/\S*)?", name):
        return False
    first = re.match(r"[a-z_-]*", behind)
    return first is not None and (first[0] in WORDS or first[0] in DIRECTIVES)


def of_page(metas: Iterable[tuple[str, str]], token: str) -> list[Signal]:
    """The signals of a page's <meta name content> pairs, in its order."""
    found = []
    for name, value in metas:
        name = name.strip().lower()
        if name in ("robots", token.lower()):
            said = re.split(r"[,;\s]+", value.lower())
            found += [Signal(NO[word], "page", value) for word in said if word in NO]
        elif name == "tdm-reservation":
            found.append(Signal("tdm-reservation", "page", value.strip()))
        elif name == "content-usage":
            found.append(Signal("content-usage", "page", value))
    return found


def of_site(files: Mapping[str, bytes], uri: str, token: str) -> list[Signal]:
    """What a site's own files say of one address.

    They are robots.txt, /.well-known/tdmrep.json, /ai.txt, and RSL licences by their address.
    """
    found: list[Signal] = []
    for name, body in files.items():
        if not body:
            continue
        digest = hashlib.sha256(body).hexdigest()
        if name == "robots.txt":
            rules = _rules(body, token)
            if not rules.allows(uri):
                found.append(Signal("robots.txt", name, "disallowed", digest))
            found += [Signal("content-usage", name, value, digest) for value in rules.usages(uri)]
            found += [Signal("content-signal", name, value, digest) for value in rules.signals(uri)]
        elif name == "tdmrep.json":
            found += [Signal("tdm-reservation", name, value, digest) for value in tdmrep(body, uri)]
        elif name == "ai.txt":
            found += [Signal("ai.txt", name, value, digest) for value in ai_txt(body, uri, token)]
        else:
            found += [Signal("rsl", name, value, digest) for value in rsl(body, uri, name)]
    return found


@lru_cache(maxsize=256)
def _rules(body: bytes, token: str) -> robots.Robots:
    """A site's file is asked for each of its pages."""
    return robots.parse(body, token)


def tdmrep(body: bytes, uri: str) -> list[str]:
    """The tdm-reservation of the most specific rule of a tdmrep.json.

    None where the file is no list of rules.
    """
    try:
        rules = parsed(body)
    except (ValueError, RecursionError):
        return []
    pairs = [
        (pattern, _reservation(rule["tdm-reservation"]))
        for rule in (rules if isinstance(rules, list) else [])
        if isinstance(rule, dict)
        and isinstance(rule.get("location"), str)
        and "tdm-reservation" in rule
        for pattern in robots.patterns(rule["location"])
    ]
    return robots.longest(pairs, robots.target(uri))


def _reservation(value: Any) -> str:
    """1 and 0 as people write them in JSON: as numbers, texts or truth values."""
    if isinstance(value, bool | float) and value in (0, 1):
        return str(int(value))
    return str(value).strip()


def ai_txt(body: bytes, uri: str, token: str) -> list[str]:
    """What /ai.txt says: robots.txt's form, of use rather than of fetching.

    HTML in its place says nothing.
    """
    if body.lstrip()[:1] == b"<":
        return []
    rules = _rules(body, token)
    if not rules.group.rules:
        return []
    return ["yes: allowed" if rules.allows(uri) else "no: disallowed"]


def rsl(body: bytes, uri: str, at: str) -> list[str]:
    """What an RSL document says of an address.

    These are the licences of the most specific content that matches it.

    A licence says no where it prohibits training, permits other uses only, or asks for payment we
    did not make.
    """
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=False, recover=False
    )
    try:
        tree = etree.fromstring(body.lstrip(b"\xef\xbb\xbf \t\r\n"), parser)
    except (etree.XMLSyntaxError, ValueError):
        return []
    matching = [
        (len(pattern), content)
        for content in tree.iter("{*}content")
        for pattern in _matching(content.get("url") or "/", uri, at)
    ]
    most = max((length for length, _ in matching), default=0)
    return [
        _license(one)
        for length, content in matching
        if length == most
        for one in content.iter("{*}license")
    ]


def _matching(place: str, uri: str, at: str) -> list[str]:
    """The patterns of a content's `url`, in a document at `at`, that match an address."""
    try:
        whole = urljoin(at, place)
    except ValueError:
        return []
    if whole.split("/", 3)[:3] != uri.split("/", 3)[:3]:
        return []
    path = robots.target(uri)
    patterns = robots.patterns("/" + "/".join(whole.split("/", 3)[3:]))
    return [pattern for pattern in patterns if robots.matches(pattern, path)]


def of_documents(documents: Iterable[str], uri: str) -> list[Signal]:
    """What RSL documents that stand within a page say of it."""
    return [
        Signal("rsl", "page", encodable(value), hashlib.sha256(text.encode()).hexdigest())
        for text in documents
        for value in rsl(text.encode(), uri, uri)
    ]


def _license(node: Any) -> str:
    def uses(kind: str) -> set[str] | None:
        texts = [
            item.text or ""
            for item in node.iter(f"{{*}}{kind}")
            if item.get("type", "usage") == "usage"
        ]
        return (
            {word.lower() for text in texts for word in re.split(r"[,\s]+", text) if word}
            if texts
            else None
        )

    prohibited, permitted = uses("prohibits"), uses("permits")
    paid = [
        item.get("type", "")
        for item in node.iter("{*}payment")
        if item.get("type", "free") not in ("free", "attribution")
    ]
    if prohibited and prohibited & RSL_TRAIN:
        return f"no: prohibits {', '.join(sorted(prohibited))}"
    if permitted is not None and not permitted & RSL_TRAIN:
        return f"no: permits only {', '.join(sorted(permitted))}"
    if paid:
        return f"no: asks for payment ({', '.join(paid)})"
    return "yes: permits " + ", ".join(sorted(permitted)) if permitted else "unknown: names no use"


class Stated:
    """What sites say now: a page's row gets it beside what was said when the page was fetched."""

    def __init__(self, files: Mapping[str, Mapping[str, bytes]], settings: Collect) -> None:
        self.files = {site: said for site, said in files.items() if any(said.values())}
        self.token = product(settings.user_agent)

    def now(self, uri: str, own: str | None) -> str | None:
        """A page's signals, its own and its site's latest, as a manifest keeps them."""
        files = self.files.get("/".join(uri.split("/", 3)[:3]))
        of_its_site = of_site(files, uri, self.token) if files else []
        return written([*read(own), *of_its_site]) if of_its_site else own


# As they are kept --------------------------------------------------------------------------------


def written(signals: Iterable[Signal]) -> str | None:
    """Signals as a manifest keeps them; None where nothing was said."""
    rows = [
        {name: value for name, value in asdict(item).items() if value}
        for item in dict.fromkeys(signals)
    ]
    return json.dumps(rows, sort_keys=True, ensure_ascii=False) if rows else None


def read(text: str | None) -> list[Signal]:
    """Signals as they were kept; a manifest of before has X-Robots-Tag's bare words."""
    if not text:
        return []
    if not text.startswith("["):
        return [
            Signal(NO[word], "header", text)
            for word in re.split(r"[,\s:]+", text.lower())
            if word in NO
        ]
    return [
        Signal(row["signal"], row["where"], row.get("value", ""), row.get("sha256", ""))
        for row in json.loads(text)
    ]
