"""Text from outside (a page's title, a header, a host, a person's note), made safe for one place.

Each place has its own language, so each has one function: `line` for logs and plain output,
`terminal` for rich's markup, `markdown` for artifacts and cards, `html` for HTML and XML,
`csv_cell` for spreadsheets, `plot` for matplotlib. None of them refuses a text.
"""

import html as _html
import logging
import re
import unicodedata
from typing import Any

# Categories of Unicode that move the cursor or the reading direction, or cannot be written:
# controls, format characters (bidirectional overrides among them), surrogates, line separators.
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
JOINERS = "\u200c\u200d"  # of category Cf, and part of words in Persian, Hindi and emoji
FORMULA = ("=", "+", "-", "@")  # what begins a formula; OWASP, "CSV Injection"

# Where each stands it may begin markup: CommonMark 0.31, with tables and strikethrough of GFM.
_MARKUP = re.compile(r"[\\`*\[\]<>|~!]|(?<![^\W_])_|_(?![^\W_])")
_LEADING = re.compile(r"^(?:[#+=-]|\d+(?=[.)]))")
_ENTITY = re.compile(r"&(?=#|\w+;)")
_LINK = re.compile(r"(?<=\w)://|(?<=www)\.|@", re.IGNORECASE)  # GFM makes links of these by itself


def line(text: object) -> str:
    """The text on one line; what cannot be seen is written as Python would, as `\\x1b`."""
    words = " ".join(str(text).split())
    if words.isprintable():
        return words
    return "".join(_seen(letter) for letter in words)


def _seen(letter: str) -> str:
    if letter in JOINERS or unicodedata.category(letter) not in UNSEEN:
        return letter
    return letter.encode("unicode_escape").decode("ascii")


def _seen_or_space(letter: str) -> str:
    return letter if letter in "\t\n\r" else _seen(letter)


def terminal(text: object) -> str:
    """The text as rich's markup that shows it as it is."""
    from rich.markup import escape

    return escape(line(text))


def markdown(text: object) -> str:
    """The text as Markdown that shows it as it is: no link, no image, no HTML, no table's cell."""
    words = _ENTITY.sub("&amp;", line(text))
    words = _MARKUP.sub(lambda match: "\\" + match.group(), words)
    words = _LEADING.sub(_leading, words)
    return _LINK.sub(lambda match: _numbered(match.group()), words)


def _leading(match: re.Match[str]) -> str:
    mark = match.group()
    return f"&#{ord(mark[0])};{mark[1:]}" if mark.isdigit() else f"\\{mark}"


def _numbered(mark: str) -> str:
    """Its first character by its number, which is read after links were looked for."""
    return f"&#{ord(mark[0])};{mark[1:]}"


def html(text: object) -> str:
    """The text for HTML or XML, between tags or in an attribute's quotes; its lines are kept."""
    return _html.escape("".join(map(_seen_or_space, str(text))), quote=True)


def csv_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    words = line(value)
    return f"'{words}" if words.startswith(FORMULA) else words


def plot(text: object) -> str:
    """The text for matplotlib, which reads what stands between two dollar signs as mathematics."""
    return line(text).replace("$", r"\$")


class OneLine(logging.Formatter):
    """A log in which no message can pretend to be another line; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = line(record.message)
        return super().formatMessage(record)


def one_line_logs() -> None:
    """Let all handlers of the root logger write one line for each message."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(OneLine("%(message)s"))
