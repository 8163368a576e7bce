"""In which encoding a page is: its byte order mark, its header, its meta tag, then what its bytes look like."""

import codecs
import re

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]+)""", re.IGNORECASE)
PROLOGUE = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_:.-]+)""")
WHATWG = {
    "iso-8859-1": "windows-1252",
    "latin-1": "windows-1252",
    "latin1": "windows-1252",
    "us-ascii": "windows-1252",
    "ascii": "windows-1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "iso-8859-9": "windows-1254",
    "tis-620": "cp874",
    "x-user-defined": "windows-1252",
    "utf8": "utf-8",
    "unicode": "utf-16-le",
}  # as browsers read them
ENTROPY_BYTES = 64 * 1024  # what is looked at where nothing was declared


def known(name: str | None) -> str | None:
    """The codec a declared name stands for, as browsers take it; None where there is none."""
    if not name:
        return None
    plain = name.strip().lower()
    try:
        return codecs.lookup(WHATWG.get(plain, plain)).name
    except (LookupError, ValueError):
        return None


def of(body: bytes, header: str | None = None) -> str:
    """The encoding of a page's bytes. What is declared counts, but for UTF-8 that is declared and is none."""
    for mark, name in MARKS:
        if body.startswith(mark):
            return name
    meta = META.search(body, 0, 4096) or PROLOGUE.search(body, 0, 1024)
    for declared in (header, meta.group(1).decode("ascii") if meta else None):
        name = known(declared) or ""
        if name and name.startswith("utf-16") and declared is not header:
            name = "utf-8"  # a meta tag that can be read as ASCII is not in UTF-16 (HTML, 13.2.3.2)
        if name and (name != "utf-8" or _utf8(body)):
            return name
    return detected(body)


def detected(body: bytes) -> str:
    """The encoding that the bytes look like: UTF-8 where they are it, else by statistics."""
    if _utf8(body):
        return "utf-8"
    from resiliparse.parse.encoding import detect_encoding

    return known(detect_encoding(body[:ENTROPY_BYTES])) or "windows-1252"


def decode(body: bytes, header: str | None = None) -> str:
    """A page's text; what cannot be read becomes U+FFFD."""
    return body.decode(of(body, header), "replace").removeprefix("\ufeff")


def _utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
