"""Small facts about text that several steps need: letters, scripts, what counts as the same text."""

import hashlib
import re
import unicodedata
from collections import Counter
from functools import lru_cache

_PLACE = re.compile(r"%\([A-Za-z_]+\)[a-z]|%[a-z]|\$\{[^}]*\}|\{[^}]*\}|<[^>]*>|&[a-z]+;")


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class _Kept(dict[int, int]):
    """For str.translate: letters and marks stay, everything else becomes a space; filled as it is asked."""

    def __missing__(self, code: int) -> int:
        self[code] = code if unicodedata.category(chr(code))[0] in "LM" else 32
        return self[code]


_KEPT = _Kept()


def letters(text: str) -> int:
    """How many letters a text has."""
    return sum(map(str.isalpha, text))


@lru_cache(maxsize=200_000)
def _script(character: str) -> str:
    from fontTools.unicodedata import script

    return script(character)


def script(text: str) -> str:
    """The script of most of a text's letters (ISO 15924); Zyyy where it has none."""
    found: Counter[str] = Counter()
    for character, number in Counter(text).items():
        if character.isalpha():
            found[_script(character)] += number
    found.pop("Zyyy", None)
    found.pop("Zinh", None)
    if not found:
        return "Zyyy"
    # Japanese mixes three scripts and Korean two; their names stand for the mixture (ISO 15924 Jpan, Kore).
    if found["Hira"] + found["Kana"]:
        return "Jpan"
    if found["Hang"]:
        return "Kore"
    return min(found, key=lambda name: (-found[name], name))


def tidy(text: str) -> str:
    """NFC, control characters and runs of white space out."""
    return " ".join(_CONTROL.sub(" ", unicodedata.normalize("NFC", text)).split())


def prose(text: str) -> str:
    """A user-interface string without its placeholders and markup."""
    return " ".join(_PLACE.sub(" ", text).split())


def same(text: str) -> str:
    """What two copies of a text have in common: case, punctuation, digits and spacing left out."""
    return " ".join(text.casefold().translate(_KEPT).split())


def runs(text: str, size: int) -> list[tuple[str, ...]]:
    """Every `size` words in a row of a text's `same` form; twice as many letters where it is written without spaces."""
    words = same(text).split()
    if len(words) * 12 <= sum(map(len, words)):
        letters = "".join(words)
        return [(letters[at : at + 2 * size],) for at in range(len(letters) - 2 * size + 1)]
    return [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def doc_id(source: str, uri: str) -> str:
    return hashlib.sha256(f"{source} {uri}".encode()).hexdigest()[:24]


def in_letters(payload: bytes) -> str:
    """A payload's name for the search for copies: 24 letters of its sha256, too short to be nearly like another."""
    return (
        hashlib.sha256(payload)
        .hexdigest()[:24]
        .translate(str.maketrans("0123456789", "ghijklmnop"))
    )


def sought(text: str, payload: bytes | None) -> str:
    """What is compared when copies are sought."""
    return text if payload is None else in_letters(payload)
