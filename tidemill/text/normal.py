"""Small facts about text that several steps need: letters, scripts, what is the same text."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

_PLACE = re.compile(r"%\([A-Za-z_]+\)[a-z]|%[a-z]|\$\{[^}]*\}|\{[^}]*\}|<[^>]*>|&[a-z]+;")


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


# Punctuation that changes what is said: C++ is not C#, and R&D is not R D.
_CONTENT_SIGNS = frozenset("#%&@")
# Scripts that put no spaces between words: Han, Kana, Bopomofo, Thai, Lao, Tibetan, Burmese, Khmer,
# Tai.
_UNSPACED = (
    (0x0E00, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x1950, 0x19DF),
    (0x1A20, 0x1AAF),
    (0x2E80, 0x2FDF),
    (0x3005, 0x312F),
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x20000, 0x3FFFF),
)


def is_content(letter: str) -> bool:
    """Whether a character says something: letters, marks, digits, symbols and emoji.

    Other punctuation does not.
    """
    category = unicodedata.category(letter)
    return category[0] in "LMN" or is_symbol(letter)


def is_symbol(letter: str) -> bool:
    """Whether a character is a word by itself.

    Accents that stand alone (Sk) are punctuation, skin tones are not.
    """
    if letter in _CONTENT_SIGNS:
        return True
    category = unicodedata.category(letter)
    return category in ("Sm", "Sc", "So") or (category == "Sk" and letter > "\uffff")


@lru_cache(maxsize=200_000)
def has_no_spaces(letter: str) -> bool:
    """Whether a letter is of a script that is written without spaces between words."""
    return any(first <= ord(letter) <= last for first, last in _UNSPACED)


class _Kept(dict[int, str]):
    """A table for str.translate, filled as it is asked.

    Content stays, a symbol becomes its own word, the rest a space.
    """

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        if invisible(letter):
            self[code] = ""
        elif is_symbol(letter):
            self[code] = f" {letter} "
        else:
            self[code] = letter if is_content(letter) else " "
        return self[code]


_KEPT = _Kept()


# What has no width and is no format character: the grapheme joiner, fillers of Hangul, variation
# selectors.
_NO_WIDTH = frozenset("\u034f\u115f\u1160\u3164\uffa0") | frozenset(
    chr(code) for code in (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
)
_VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2")


def invisible(letter: str) -> bool:
    """Whether a reader sees nothing of it: soft hyphens, zero-width characters and the like."""
    if letter in _NO_WIDTH:
        return True
    return unicodedata.category(letter) == "Cf" and letter not in _VISIBLE_FORMATS


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
    # Japanese mixes three scripts and Korean two; their names stand for the mixture (ISO 15924
    # Jpan, Kore).
    if found["Hira"] + found["Kana"]:
        return "Jpan"
    if found["Hang"]:
        return "Kore"
    return min(found, key=lambda name: (-found[name], name))


def tidy(text: str) -> str:
    """NFC, control characters and runs of white space out."""
    return " ".join(_CONTROL.sub(" ", unicodedata.normalize("NFC", text)).split())


_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_NO_LINE_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_BLANK_LINES = re.compile("\n{3,}")


def lines(text: str) -> str:
    """NFC, with line breaks and indentation as they were.

    Ends of lines, control characters and blank lines in a row go.
    """
    text = _LINE_END.sub("\n", unicodedata.normalize("NFC", text))
    text = _NO_LINE_CONTROL.sub(" ", text)
    body = "\n".join(line.rstrip() for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", body).strip("\n").rstrip()


_CJK = (
    "\u2e80-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uff60\U00020000-"
    "\U0003ffff"
)
_BREAK_IN_CJK = re.compile(rf"(?<=[{_CJK}])[ \t\r\f]*\n\s*(?=[{_CJK}])")


def collapsed(text: str) -> str:
    """White space of markup as a reader sees it.

    One space, and none for a line break in Chinese or Japanese.

    CSS Text Module Level 3, section 4.1.2 (segment break transformation).
    """
    if not text.isascii():
        text = _BREAK_IN_CJK.sub("", text)
    return " ".join(text.split())


def prose(text: str) -> str:
    """A user-interface string without its placeholders and markup."""
    return " ".join(_PLACE.sub(" ", text).split())


def same(text: str) -> str:
    """What two copies of a text have in common.

    Case, punctuation, spacing and invisible characters are left out.

    Digits, symbols and emoji are content. A text of a script without spaces has none.
    """
    words = text.casefold().translate(_KEPT).split()
    return ("" if unspaced(words) else " ").join(words)


def unspaced(words: Sequence[str]) -> bool:
    """Whether most characters of a text are of a script without spaces between words."""
    letters = "".join(words)
    if letters.isascii():
        return False
    counts = Counter(letters)
    without = sum(number for letter, number in counts.items() if has_no_spaces(letter))
    return 2 * without > counts.total()


def runs(text: str, size: int) -> list[tuple[str, ...]]:
    """Every `size` words in a row of a text's `same` form.

    Twice as many letters in a script without spaces.
    """
    words = same(text).split()
    if unspaced(words):
        letters = "".join(words)
        return [(letters[at : at + 2 * size],) for at in range(len(letters) - 2 * size + 1)]
    return [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]


LONG_FIELD = 40


def is_prose(value: object) -> bool:
    """Whether a field of a question is prose, by itself.

    It is where it has over 40 characters; a letter without spaces counts twice.
    """
    if not isinstance(value, str):
        return False
    return len(value) + sum(map(has_no_spaces, value[: LONG_FIELD + 1])) > LONG_FIELD


def prose_of(fields: Mapping[str, object], named: Sequence[str] | None) -> str:
    """The prose of a question: of the fields that an application names, or of all that are prose.

    Of numbers and short names, likeness says nothing.
    """
    return " ".join(
        str(value)
        for name, value in fields.items()
        if (is_prose(value) if named is None else name in named)
    )


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def in_letters(content: bytes) -> str:
    """A payload's name for the search for copies.

    24 letters of its sha256, too short to be nearly like another.
    """
    return hexadecimal_in_letters(hashlib.sha256(content).hexdigest())


def hexadecimal_in_letters(digest: str) -> str:
    return digest[:24].translate(str.maketrans("0123456789", "ghijklmnop"))
