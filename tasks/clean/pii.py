"""What must not be learned by heart: addresses, numbers of people and keys, found by form and checksum and replaced by typed marks.

Found: e-mail, public IPv4 and IPv6, telephone numbers (international, North American, or after a word that says so), payment
cards (Luhn, issuer, length), IBAN (ISO 13616, mod 97), national numbers of eleven countries (python-stdnum), keys, tokens and
passwords. The mark says what was there; how many were found is kept, what they were is not.

Not found: names of people, postal addresses, birthdays, number plates. They have no form by which to tell them, and what tells
them by guess marks much else.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

Span = tuple[int, int, str]

FILES = frozenset(
    [
        "png",
        "jpg",
        "jpeg",
        "gif",
        "svg",
        "webp",
        "avif",
        "ico",
        "css",
        "js",
        "mjs",
        "ts",
        "json",
        "html",
        "htm",
        "php",
        "py",
        "rb",
        "go",
        "rs",
        "java",
        "c",
        "h",
        "cpp",
        "md",
        "txt",
        "xml",
        "yml",
        "yaml",
        "pdf",
        "zip",
        "gz",
    ]
)
_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w+%][\w.+%'-]{0,63}(?:@|\s?[\[(](?:at|AT)[\])]\s?)((?:[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.|\s?[\[(](?:dot|DOT)[\])]\s?))+([^\W\d_]{2,24}))(?![\w-])"
)
_AT = re.compile(r"@|[\[(](?:at|AT)[\])]")
_IPV4 = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{1,34}(?![\w:])")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_NUMBERED = re.compile(
    r"(?:\bv|version|release|ver\.?|section|sec\.|chapter|clause|§|build|firmware|kernel|linux|oid)[\s-]*$",
    re.IGNORECASE,
)
_RUN = re.compile(
    r"\d(?:[ ().+/\-\u00a0]{0,3}[\dA-Z]){6,}"
)  # what every number of a person has: seven digits or capitals, little between them
_INTERNATIONAL = re.compile(r"(?<![\w+/.=-])(?:\+|00)\s?\d(?:[\s().\-/\u00a0]{0,3}\d){6,14}(?!\d)")
_AMERICAN = re.compile(
    r"(?<![\w.+/=-])(?:1[-. ])?(?:\(\d{3}\)\s?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w-])"
)
_CALLED = re.compile(
    r"(?:\b(?:tel|t[ée]l|phone|telephone|telefon|téléphone|tel[ée]fono|telefone|fon|mobil|mobile|cell|handy|fax|whatsapp|sms|call(?: us)?(?: at)?|ring)|тел|телефон|電話|电话|전화|هاتف|โทร)"
    r"[.:]{0,2}(?:\s?(?:no|nr|number)[.:]{0,2})?\s{0,2}$",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\(?\d(?:[\s().\-/\u00a0]{0,2}\d){6,14}(?!\d)")
_CARD = re.compile(r"(?<![\w.,+/=-])\d(?:[ -]?\d){12,18}(?![\w-]|[.,]\d)")
_IBAN = re.compile(r"(?<![\w])[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?(?!\w)")

_NATIONAL: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("us.ssn", re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")),
    ("br.cpf", re.compile(r"(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d{2}(?!\w)")),
    (
        "fr.nir",
        re.compile(
            r"(?<!\w)[12] ?\d{2} ?(?:0[1-9]|1[0-2]) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}(?!\w)"
        ),
    ),
    ("es.dni", re.compile(r"(?<![\w-])\d{8}-?[A-HJ-NP-TV-Z](?!\w)")),
    ("es.nie", re.compile(r"(?<![\w-])[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z](?!\w)")),
    ("it.codicefiscale", re.compile(r"(?<!\w)[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?!\w)")),
    ("fi.hetu", re.compile(r"(?<![\w-])[0-3]\d[01]\d{3}[-+A]\d{3}[0-9A-FHJ-NPR-Y](?!\w)")),
    ("se.personnummer", re.compile(r"(?<![\w-])(?:19|20)?\d{2}[01]\d[0-3]\d[-+]\d{4}(?![\w-])")),
    ("cn.ric", re.compile(r"(?<!\w)[1-8]\d{5}(?:19|20)\d{2}[01]\d[0-3]\d{4}[\dX](?!\w)")),
    ("pl.pesel", re.compile(r"(?<![\w.-])\d{2}[0-3]\d[0-3]\d{6}(?![\w-])")),
    ("in_.aadhaar", re.compile(r"(?<![\w-])(?<!\d )[2-9]\d{3} \d{4} \d{4}(?![\w-]| \d)")),
    ("de.idnr", re.compile(r"(?<![\w.-])(?<!\d )[1-9]\d \d{3} \d{3} \d{3}(?![\w-]| \d)")),
)
_KEYS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (hint, re.compile(form, re.DOTALL))
    for hint, form in (
        (
            "-----BEGIN ",
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----.{0,10000}?(?:-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----|\Z)",
        ),
        ("AKIA", r"AKIA[0-9A-Z]{16}\b"),
        ("ASIA", r"ASIA[0-9A-Z]{16}\b"),
        *((f"gh{letter}_", rf"gh{letter}_[A-Za-z0-9]{{36,255}}\b") for letter in "pousr"),
        ("github_pat_", r"github_pat_[A-Za-z0-9_]{22,255}"),
        ("glpat-", r"glpat-[\w-]{20,250}"),
        ("xox", r"xox[abeoprs]-[\w-]{10,250}"),
        ("AIza", r"AIza[\w-]{35}(?![\w-])"),
        ("ya29.", r"ya29\.[\w-]{20,250}"),
        *(
            (f"{letter}k_{kind}_", rf"{letter}k_{kind}_[A-Za-z0-9]{{16,250}}\b")
            for letter in "rsp"
            for kind in ("live", "test")
        ),
        ("sk-", r"sk-(?:[a-z]{2,12}-)?(?=[\w-]{0,80}\d)[\w-]{20,250}"),
        ("hf_", r"hf_[A-Za-z0-9]{30,40}\b"),
        ("npm_", r"npm_[A-Za-z0-9]{36}\b"),
        ("pypi-", r"pypi-[\w-]{50,250}"),
        ("SG.", r"SG\.[\w-]{20,24}\.[\w-]{40,46}"),
        ("eyJ", r"eyJ[\w-]{8,2000}\.eyJ[\w-]{8,4000}\.[\w-]{8,1000}"),
    )
)
_LOGIN = re.compile(r"://[^\s/:@]{1,100}:([^\s/@]{1,100})@")
_VALUE = re.compile(r"[:=]>?\s{0,2}[\"']?([A-Za-z0-9+/=_.~!@#$%^&*-]{12,200})")
_BEARER = re.compile(r"[Bb]earer\s{1,2}([A-Za-z0-9+/=_.~-]{16,400})")
_NAME = re.compile(
    r"(?:api[_-]?key|secret(?:[_-]?(?:access[_-]?)?key)?|access[_-]?key|token|passw(?:or)?d|passphrase|pwd)[\"'\]]{0,2}\s{0,3}$",
    re.IGNORECASE,
)


def marked(text: str) -> tuple[str, dict[str, int]]:
    """The text with each finding replaced by its mark, as [EMAIL], and how many of each kind there were."""
    spans = found(text)
    if not spans:
        return text, {}
    parts, at = [], 0
    for start, end, kind in spans:
        parts += [text[at:start], f"[{kind.upper()}]"]
        at = end
    return "".join([*parts, text[at:]]), dict(sorted(Counter(kind for _, _, kind in spans).items()))


def found(text: str) -> list[Span]:
    """Where something is and of what kind, in order; of two that overlap the more certain one."""
    spans: list[Span] = []
    for recogniser in _for(text):
        for span in recogniser(text):
            if not any(span[0] < end and start < span[1] for start, end, _ in spans):
                spans.append(span)
    return sorted(spans)


def _for(text: str) -> Iterator[Callable[[str], Iterator[Span]]]:
    """The recognisers that can find anything in a text; most texts ask for few."""
    yield secrets
    if "@" in text or _AT.search(text):
        yield emails
    runs = windows(text)
    if runs:
        for recogniser in (ibans, cards, nationals):
            yield partial(recogniser, runs=runs)
    if text.count(".") >= 3:
        yield ipv4
    if text.count(":") >= 2:
        yield ipv6
    if runs:
        yield partial(phones, runs=runs)


def windows(text: str) -> list[tuple[int, int]]:
    """Where a number of a person can be, with a little room to both sides; all forms of numbers are tried there alone."""
    found: list[tuple[int, int]] = []
    for match in _RUN.finditer(text):
        start, end = max(0, match.start() - 8), min(len(text), match.end() + 6)
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def within(
    form: re.Pattern[str], text: str, runs: list[tuple[int, int]]
) -> Iterator[re.Match[str]]:
    for start, end in runs:
        yield from form.finditer(text, start, end)


def secrets(text: str) -> Iterator[Span]:
    for hint, form in _KEYS:
        if hint in text:
            for match in form.finditer(text):
                before = text[match.start() - 1 : match.start()]
                if not (before.isalnum() or before == "_"):
                    yield *match.span(), "secret"
    if "://" in text and "@" in text:
        for match in _LOGIN.finditer(text):
            yield *match.span(1), "secret"
    for match in _VALUE.finditer(text):
        if _NAME.search(text, max(0, match.start() - 24), match.start()) and _chance(
            match.group(1)
        ):
            yield *match.span(1), "secret"
    if "earer " in text:
        for match in _BEARER.finditer(text):
            if _chance(match.group(1)):
                yield *match.span(1), "secret"


def _chance(value: str) -> bool:
    """Whether a value looks drawn by chance: words do not."""
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and _entropy(value) >= 3.0


def _entropy(value: str) -> float:
    """Bits a character, by Shannon."""
    return -sum(
        number / len(value) * math.log2(number / len(value)) for number in Counter(value).values()
    )


def emails(text: str) -> Iterator[Span]:
    at = 0
    for sign in _AT.finditer(text):
        match = _EMAIL.search(text, max(at, sign.start() - 66), min(len(text), sign.end() + 300))
        if (
            match
            and match.start() <= sign.start() < match.end()
            and match.group(2).lower() not in FILES
        ):
            at = match.end()
            yield *match.span(), "email"


def ipv4(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        start, end = match.span()
        before, parts = text[max(0, start - 1) : start], match.group().split(".")
        if before.isalnum() or (before in (".", "_") and before):
            continue
        if (
            any(len(part) > 1 and part[0] == "0" for part in parts)
            or all(int(part) < 30 for part in parts)
            or _NUMBERED.search(text, max(0, start - 12), start)
        ):
            continue  # chapters and releases: an address of small numbers alone is one in ten thousand
        if _public(match.group()):
            yield start, end, "ip"


def ipv6(text: str) -> Iterator[Span]:
    at = 0
    for colons in _COLONS.finditer(text):
        if colons.start() < at:
            continue
        match = _IPV6.search(text, max(at, colons.start() - 5), min(len(text), colons.start() + 50))
        if match and match.start() <= colons.start() < match.end():
            value = match.group() if match.group().endswith("::") else match.group().rstrip(":")
            at = match.end()
            if value.count(":") >= 2 and _public(value):
                yield match.start(), match.start() + len(value), "ip"


def _public(value: str) -> bool:
    """Whether it is an address that somebody on the internet has; a private or documented one is nobody's."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    return (
        address.is_global
        and not address.is_multicast
        and (address.version == 4 or int(address) >> 125 == 1)
    )


def phones(text: str, runs: list[tuple[int, int]]) -> Iterator[Span]:
    import phonenumbers

    def valid(number: str, region: str | None) -> bool:
        try:
            return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
        except phonenumbers.NumberParseException:
            return False

    for match in within(_INTERNATIONAL, text, runs):
        number = match.group()
        if valid("+" + number[2:] if number.startswith("00") else number, None):
            yield *match.span(), "phone"
    for match in within(_AMERICAN, text, runs):
        if valid(match.group(), "US"):
            yield *match.span(), "phone"
    for match in within(_NUMBER, text, runs):
        if _CALLED.search(text, max(0, match.start() - 30), match.start()):
            yield *match.span(), "phone"


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit)
        if place % 2:
            number = number * 2 - 9 if number > 4 else number * 2
        total += number
    return total % 10 == 0


_ISSUERS = re.compile(
    r"(?:4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}|(?:50|5[6-9]|6\d)\d{11,17})"
)


def cards(text: str, runs: list[tuple[int, int]]) -> Iterator[Span]:
    for match in within(_CARD, text, runs):
        digits = re.sub(r"[ -]", "", match.group())
        if (
            _ISSUERS.fullmatch(digits)
            and _grouped(match.group())
            and _luhn(digits)
            and len(set(digits)) > 1
        ):
            yield *match.span(), "card"


def _grouped(number: str) -> bool:
    """Written in one piece, or in groups as cards are printed; a row of a table of numbers is not."""
    groups = re.split(r"[ -]", number)
    return len(groups) == 1 or [len(group) for group in groups] in (
        [4, 4, 4, 4],
        [4, 6, 5],
        [4, 6, 4],
        [4, 4, 4, 1],
        [4, 4, 4, 4, 3],
        [4, 4, 5],
    )


def ibans(text: str, runs: list[tuple[int, int]]) -> Iterator[Span]:
    from stdnum import iban

    for match in within(_IBAN, text, runs):
        value = match.group()
        while value:  # the words after it may look like its last group
            if iban.is_valid(value):
                yield match.start(), match.start() + len(value), "iban"
                break
            value = value.rpartition(" ")[0]


@lru_cache(maxsize=32)
def _module(name: str) -> Any:
    import importlib

    return importlib.import_module(f"stdnum.{name}")


def nationals(text: str, runs: list[tuple[int, int]]) -> Iterator[Span]:
    for name, form in _NATIONAL:
        for match in within(form, text, runs):
            if _module(name).is_valid(match.group()):
                yield *match.span(), "id"
