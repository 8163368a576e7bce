"""In which encoding a page is.

Its byte order mark, its header, its meta tag, then what its bytes look like.

Encodings and their labels are those of the WHATWG Encoding Standard and no others; Python knows
more, some of which read anything as something (utf-7, punycode).
"""

import codecs
import re

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
REPLACEMENT = "replacement"  # of encodings that hide markup: such a page is one U+FFFD
# Python's codec, then the standard's labels for it.
TABLE = """
utf-8 unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8
cp866 866 cp866 csibm866 ibm866
iso8859-2 csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2
iso8859-3 csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3
iso8859-4 csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4
iso8859-5 csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5
iso8859-5 iso_8859-5:1988
iso8859-6 arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 iso-8859-6-e
iso8859-6 iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987
iso8859-7 csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 iso88597
iso8859-7 iso_8859-7 iso_8859-7:1987 sun_eu_greek
iso8859-8 csiso88598e csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-ir-138 iso8859-8 iso88598
iso8859-8 iso_8859-8 iso_8859-8:1988 visual csiso88598i iso-8859-8-i logical
iso8859-10 csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6
iso8859-13 iso-8859-13 iso8859-13 iso885913
iso8859-14 iso-8859-14 iso8859-14 iso885914
iso8859-15 csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9
iso8859-16 iso-8859-16
koi8-r cskoi8r koi koi8 koi8-r koi8_r
koi8-u koi8-ru koi8-u
mac-roman csmacintosh mac macintosh x-mac-roman
cp874 dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874
cp1250 cp1250 windows-1250 x-cp1250
cp1251 cp1251 windows-1251 x-cp1251
cp1252 ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1
cp1252 iso88591 iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252
cp1253 cp1253 windows-1253 x-cp1253
cp1254 cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989
cp1254 l5 latin5 windows-1254 x-cp1254
cp1255 cp1255 windows-1255 x-cp1255
cp1256 cp1256 windows-1256 x-cp1256
cp1257 cp1257 windows-1257 x-cp1257
cp1258 cp1258 windows-1258 x-cp1258
mac-cyrillic x-mac-cyrillic x-mac-ukrainian
gb18030 chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk gb18030
big5hkscs big5 big5-hkscs cn-big5 csbig5 x-x-big5
euc_jp cseucpkdfmtjapanese euc-jp x-euc-jp
iso2022_jp csiso2022jp iso-2022-jp
cp932 csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis
cp949 cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601
cp949 windows-949
replacement csiso2022kr hz-gb-2312 iso-2022-cn iso-2022-cn-ext iso-2022-kr replacement
utf-16-be unicodefffe utf-16be
utf-16-le csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le
cp1252 x-user-defined
"""
LABELS = {
    label: codec
    for codec, *labels in (line.split() for line in TABLE.strip().splitlines())
    for label in labels
}
SPACE = "\t\n\f\r "
ENTROPY_BYTES = 64 * 1024  # what is looked at where nothing was declared
PRESCAN_BYTES = 4096  # browsers wait for 1,024, and go on looking while they parse

# What the prescan of HTML, 13.2.3.2, takes one at a time: a comment, a tag, or what a `>` ends.
_ATTRIBUTES = rb"""(?:[^>=]++|=\s*+(?:"[^"]*+"?|'[^']*+'?)?+)*+"""
PIECE = re.compile(
    rb"<!--(?:-?>|.*?-->|.*)|<meta(?=[\s/])(" + _ATTRIBUTES + rb")>?"
    rb"|</?[a-z]" + _ATTRIBUTES + rb">?|<[!/?][^>]*+>?",
    re.IGNORECASE | re.DOTALL,
)
ATTRIBUTE = re.compile(rb"""([^\s/>=]++)(?:\s*+=\s*+(?:"([^"]*+)"?|'([^']*+)'?|([^\s>]*+)))?+""")
CONTENT = re.compile(rb"""charset\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s;"']+))""", re.IGNORECASE)
PROLOGUE = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_:.-]+)""")


def known(name: str | None) -> str | None:
    """Python's codec for a declared label, as browsers take it.

    None where the standard has none.
    """
    return LABELS.get(name.strip(SPACE).lower()) if name else None


def of(body: bytes, header: str | None = None) -> str:
    """The codec of a page's bytes, or `REPLACEMENT`.

    What is declared counts, but for UTF-8 that is none.
    """
    for mark, name in MARKS:
        if body.startswith(mark):
            return name
    for codec in (known(header), declared(body)):
        if codec and (codec != "utf-8" or _utf8(body)):
            return codec
    return detected(body)


def declared(body: bytes) -> str | None:
    """The codec that a page's own head names; None where it names none.

    A comment decides nothing.
    """
    start = body[:PRESCAN_BYTES]
    for piece in PIECE.finditer(start):
        if piece[1] and (name := known(_charset(piece[1]))):
            return _readable(name)
    prologue = PROLOGUE.match(start.lstrip())
    name = known(prologue[1].decode("ascii")) if prologue else None
    return _readable(name) if name else None


def _readable(name: str) -> str:
    """A meta tag that can be read as ASCII is not in UTF-16 (HTML, 13.2.3.2)."""
    return "utf-8" if name.startswith("utf-16") else name


def _charset(text: bytes) -> str | None:
    """The label that a meta tag's attributes name: `charset`, or the content of a Content-Type."""
    about: dict[bytes, bytes] = {}
    for key, *values in ATTRIBUTE.findall(text):
        about.setdefault(key.lower(), b"".join(values))
    label = about.get(b"charset")
    if label is None and about.get(b"http-equiv", b"").lower() == b"content-type":
        match = CONTENT.search(about.get(b"content", b""))
        label = match[match.lastindex or 0] if match else None
    return label.decode("latin-1") if label is not None else None


def detected(body: bytes) -> str:
    """The encoding that the bytes look like: UTF-8 where they are it, else by statistics."""
    if _utf8(body):
        return "utf-8"
    from resiliparse.parse.encoding import detect_encoding

    name = detect_encoding(body[:ENTROPY_BYTES]) or ""
    codec = known(name) or known(name.replace("_", "-"))
    return codec if codec and codec != REPLACEMENT else "cp1252"


def decode(body: bytes, header: str | None = None) -> str:
    """A page's text; what cannot be read becomes U+FFFD."""
    return decoded(body, of(body, header)).removeprefix("\ufeff")


def decoded(body: bytes, codec: str) -> str:
    """Bytes in one of the codecs of `known`, read as the standard's decoder reads them."""
    if codec == REPLACEMENT:
        return "\ufffd" if body else ""
    return body.decode(codec, WHATWG)


def _repaired(error: UnicodeError) -> tuple[str, int]:
    """What the standard's indexes hold and Python's lack.

    Bytes of 0x80 to 0x9F that a page of Windows leaves free are control characters; EUC-JP has
    NEC's and IBM's rows.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    at, data = error.start, error.object
    codec = error.encoding.lower()
    if (codec.startswith("cp12") or codec == "cp874" or codec == "charmap") and data[at] < 0xA0:
        return chr(data[at]), at + 1
    if codec.startswith("euc_jp") and (letter := _jis_row(data[at : at + 2])):
        return letter, at + 2
    return "\ufffd", error.end


def _jis_row(pair: bytes) -> str:
    """Two bytes of EUC-JP by way of Shift_JIS, whose codec has the rows.

    Empty where there is no letter.
    """
    if len(pair) < 2 or min(pair) < 0xA1 or max(pair) == 0xFF:
        return ""
    row, cell = pair[0] - 0xA1, pair[1] - 0xA1
    lead = row // 2 + (0x81 if row < 62 else 0xC1)
    trail = cell + 0x9F if row % 2 else cell + 0x40 + (cell >= 63)
    return bytes((lead, trail)).decode("cp932", "ignore")


WHATWG = "whatwg"
codecs.register_error(WHATWG, _repaired)


def _utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
