"""Text from outside, made encodable once, where it enters.

Bytes that are no UTF-8 and JSON escapes such as `\\ud800` become lone surrogates in Python's
strings, and SQLite, parquet and UTF-8 itself refuse those. Past these functions no text holds one.
"""

import json
import re
from typing import Any

SURROGATE = re.compile("[\ud800-\udfff]")
ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
# An escape of JSON: a pair of surrogates, one that stands alone, or any other.
ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def of_bytes(raw: bytes) -> str:
    """UTF-8, or else ISO-8859-1, which gives each byte a letter (RFC 9110, 5.5)."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def encodable(text: str) -> str:
    """The text itself, or one where escaped bytes are letters and half characters are U+FFFD."""
    if text.isascii() or not SURROGATE.search(text):
        return text
    try:
        return of_bytes(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def parsed(body: bytes) -> Any:
    """A JSON value without half characters.

    Raises ValueError, or RecursionError where it is too deep.
    """
    text = body.decode(json.detect_encoding(body), "replace").removeprefix("\ufeff")
    if ESCAPED.search(text):
        text = ESCAPE.sub(lambda match: r"\ufffd" if match[1] else match[0], text)
    return json.loads(text)
