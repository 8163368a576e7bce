"""A text as the recognisers read it.

ASCII digits, one kind of space and of hyphen, nothing invisible.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress

from tasks.clean.pii.spans import Span
from tidemill.text.normal import invisible

HYPHENS = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u30fb"
TO_FOLD = (
    (0x80, 0x3400),
    (0xA000, 0xAC00),
    (0xD7B0, 0x20000),
)  # no ideographs, no Hangul syllables


@dataclass(frozen=True)
class Folded:
    """The folded text, and where each of its characters was; None where nothing was left out."""

    text: str
    offsets: list[int] | None = None

    @classmethod
    def of(cls, text: str) -> "Folded":
        if text.isascii():
            return cls(text)
        table, changed, left_out = _tables()
        if not changed.search(text):
            return cls(text)
        folded = text.translate(table)
        if len(folded) == len(text):
            return cls(folded)
        stays = [left_out.match(letter) is None for letter in text]
        return cls(folded, list(compress(range(len(text)), stays)))

    def original(self, span: Span) -> Span:
        """The same finding in the text that was folded."""
        if self.offsets is None:
            return span
        start, end, kind = span
        return self.offsets[start], self.offsets[end - 1] + 1, kind


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[int, str | None], re.Pattern[str], re.Pattern[str]]:
    """What becomes of each character that changes, all of those, and those that are left out."""
    table: dict[int, str | None] = dict.fromkeys(map(ord, HYPHENS), "-")
    for first, last in TO_FOLD:
        for code in range(first, last):
            letter = chr(code)
            if invisible(letter):
                table[code] = None
            elif (plain := _plain(letter)) != letter:
                table[code] = plain
    table |= dict.fromkeys((0xE0001, *range(0xE0020, 0xE0080), *range(0xE0100, 0xE01F0)))
    gone = "".join(re.escape(chr(code)) for code, plain in table.items() if plain is None)
    some = "".join(re.escape(chr(code)) for code in table)
    return table, re.compile(f"[{some}]"), re.compile(f"[{gone}]")


def _plain(letter: str) -> str:
    """One ASCII character for a digit, a space or a hyphen.

    Also for what is ASCII but for its width or weight.
    """
    category = unicodedata.category(letter)
    if category == "Nd":
        return str(unicodedata.digit(letter))
    if category == "Zs":
        return " "
    if category == "Pd":
        return "-"
    compatible = unicodedata.normalize("NFKC", letter)
    is_letter_or_sign = category[0] in "LPS"  # superscripts and fractions are numbers of their own
    if is_letter_or_sign and len(compatible) == 1 and compatible.isascii():
        return compatible
    return letter
