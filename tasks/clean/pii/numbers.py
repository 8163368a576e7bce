"""Numbers with a checksum: payment cards, bank accounts, national numbers."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from tasks.clean.pii.spans import WORD, Span

Windows = list[tuple[int, int]]

# What every number of a person has: seven digits or capitals, little between them.
_RUN = re.compile(r"\d(?:[ \t().+/_-]{0,3}[\dA-Z]){6,}")
_CARD = re.compile(r"(?<!\d)\d(?:[ .+_-]{0,2}\d){12,18}(?!\d)")
_CARD_ALONE = re.compile(rf"(?<![{WORD}.,+/=-])\d{{13,19}}(?![{WORD}-]|[.,]\d)")
_CARD_WORD = re.compile(
    r"(?:card|karte|carte|kart|karta|tarjeta|cart[aã]o|visa|maestro|master ?card|amex|american "
    r"express|diners|jcb|discover"
    r"|\bcc|\bpan|カード|信用卡|卡号|카드|карт[аы])\W{0,4}(?:番号|号|no|nr|number|numéro|n°|is)?\W{0,4}$",
    re.IGNORECASE,
)
_CARD_BEHIND = re.compile(r"\W{0,4}(?:cvc|cvv|exp)", re.IGNORECASE)
GROUPS = (
    (4, 4, 4, 4),
    (4, 6, 5),
    (4, 6, 4),
    (4, 4, 4, 1),
    (4, 4, 4, 4, 3),
    (4, 4, 5),
)  # as cards are printed
_ISSUERS = re.compile(
    r"(?:4\d{12}(?:\d{3}){0,2}"
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|220[0-4]\d{12,15}|9792\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
    r"|(?:50|5[6-9]|6\d)\d{11,17})"
)
_IBAN = re.compile(
    rf"(?:(?<![{WORD}])|(?<=IBAN)|(?<=iban))[A-Za-z]{{2}}\d{{2}}(?:[ .-]?[A-Za-z0-9]){{11,30}}"
)
_NATIONAL: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(form))
    for name, form in (
        ("us.ssn", r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"),
        ("br.cpf", r"(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d{2}(?!\w)"),
        (
            "fr.nir",
            r"(?<!\w)[12] ?\d{2} ?(?:0[1-9]|1[0-2]) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}(?!\w)",
        ),
        ("es.dni", r"(?<![\w-])\d{8}-?[A-HJ-NP-TV-Z](?!\w)"),
        ("es.nie", r"(?<![\w-])[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z](?!\w)"),
        ("it.codicefiscale", r"(?<!\w)[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?!\w)"),
        ("fi.hetu", r"(?<![\w-])[0-3]\d[01]\d{3}[-+A]\d{3}[0-9A-FHJ-NPR-Y](?!\w)"),
        ("se.personnummer", r"(?<![\w-])(?:19|20)?\d{2}[01]\d[0-3]\d[-+]\d{4}(?![\w-])"),
        ("cn.ric", r"(?<!\w)[1-8]\d{5}(?:19|20)\d{2}[01]\d[0-3]\d{4}[\dX](?!\w)"),
        ("pl.pesel", r"(?<![\w.-])\d{2}[0-3]\d[0-3]\d{6}(?![\w-])"),
        ("in_.aadhaar", r"(?<![\w-])(?<!\d )[2-9]\d{3} \d{4} \d{4}(?![\w-]| \d)"),
        ("de.idnr", r"(?<![\w.-])(?<!\d )[1-9]\d \d{3} \d{3} \d{3}(?![\w-]| \d)"),
    )
)


def windows(text: str) -> Windows:
    """Where a number of a person can be, with a little room to both sides.

    All forms of numbers are tried there alone.
    """
    runs: Windows = []
    for match in _RUN.finditer(text):
        start, end = max(0, match.start() - 8), min(len(text), match.end() + 6)
        if runs and start <= runs[-1][1]:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((start, end))
    return runs


def within(form: re.Pattern[str], text: str, runs: Windows) -> Iterator[re.Match[str]]:
    for start, end in runs:
        yield from form.finditer(text, start, end)


def cards(text: str, runs: Windows) -> Iterator[Span]:
    for match in within(_CARD, text, runs):
        value = match.group()
        digits = re.sub(r"\D", "", value)
        if not (_ISSUERS.fullmatch(digits) and len(set(digits)) > 1 and luhn(digits)):
            continue
        groups = tuple(len(group) for group in re.split(r"\D+", value))
        called = _CARD_WORD.search(
            text, max(0, match.start() - 32), match.start()
        ) or _CARD_BEHIND.match(text, match.end())
        printed = len(digits) > 13 and groups in GROUPS  # no bank has issued thirteen for decades
        alone = len(digits) > 13 and _CARD_ALONE.match(text, match.start())
        if printed or alone or (called and (len(groups) == 1 or groups in GROUPS)):
            yield *match.span(), "card"


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit)
        if place % 2:
            number = number * 2 - 9 if number > 4 else number * 2
        total += number
    return total % 10 == 0


def ibans(text: str) -> Iterator[Span]:
    from stdnum import iban

    at = 0
    for match in _IBAN.finditer(text):
        if match.start() < at:
            continue
        places = [place for place in range(*match.span()) if text[place].isalnum()]
        compact = "".join(text[place] for place in places).upper()
        for size in range(min(len(compact), 34), 14, -1):  # words behind it may look like its end
            end = places[size - 1] + 1
            ends_here = not text[end : end + 1].isalnum()
            if ends_here and iban.is_valid(compact[:size], check_country=False):
                at = end
                yield match.start(), end, "iban"
                break


@lru_cache(maxsize=32)
def _module(name: str) -> Any:
    import importlib

    return importlib.import_module(f"stdnum.{name}")


def nationals(text: str, runs: Windows) -> Iterator[Span]:
    for name, form in _NATIONAL:
        for match in within(form, text, runs):
            if _module(name).is_valid(match.group()):
                yield *match.span(), "id"
