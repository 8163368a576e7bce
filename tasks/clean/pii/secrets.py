"""Keys, tokens and passwords.

Known by their issuer's form, or by the name before a value that looks drawn by chance.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator

from tasks.clean.pii.spans import Span

_KEYS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (hint, re.compile(form, re.DOTALL))
    for hint, form in (
        (
            "-----BEGIN ",
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----.{0,10000}?(?:-----END [A-Z "
            r"]{0,30}PRIVATE KEY(?: BLOCK)?-----|\Z)",
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
    r"(?:api[_-]?key|secret(?:[_-]?(?:access[_-]?)?key)?|access[_-]?key|token|passw(?:or)?d|"
    r"passphrase|pwd)[\"'\]]{0,2}\s{0,3}$",
    re.IGNORECASE,
)


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
