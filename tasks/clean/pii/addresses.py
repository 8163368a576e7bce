"""Addresses of mailboxes and of machines."""

import ipaddress
import re
from collections.abc import Iterator

from tasks.clean.pii.spans import WORD, Span, words

# Endings of files that are no top-level domain. An ending that is both (.rs, .md, .py, .zip) is a
# mailbox's.
FILES = words(
    "png jpg jpeg gif svg webp avif ico css js mjs ts tsx jsx json html htm php rb go java c h cpp"
    " txt xml yml yaml pdf gz tar exe dll whl jar"
)
ACCOUNTS = words("git hg svn bzr gitea forgejo aur")  # nobody's mailbox
# Top-level domains that are believed where the address is spelled out or spaced. English words are
# not among them.
SPELLED = (
    "com|net|org|edu|gov|info|biz|eu|de|fr|es|nl|uk|ch|pl|cz|sk|hu|ro|bg|hr|rs|si|gr|pt|br|mx|ar|"
    "cl|co|pe|ca|au|nz|jp|cn|kr"
    "|tw|hk|ru|ua|by|se|dk|fi|ee|lv|lt|ie|za|il|tr|tech|dev|app|io"
)
_SIGN = (
    r"(?:@|%40|&#64;|&commat;|[|*]at[|*]|\s{0,2}[\[({<]\s?(?:at|ät|a|et|@|arobase|arroba|"
    r"chiocciola|собака|małpa)\s?[\])}>]\s{0,2})"
)
_DOT = (
    r"(?:\.|[|*]dot[|*]|\s{0,2}[\[({<]\s?(?:dot|punkt|point|punto|ponto|punt|точка|kropka|"
    r"\.)\s?[\])}>]\s{0,2})"
)
_LOOSE_DOT = rf"(?:{_DOT}|\s\.\s)"
_LOCAL = rf"(?<![{WORD}.+%'-])[{WORD}+%](?:[{WORD}.+%'-]{{0,62}}[{WORD}+%-])?"
_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_TOP = rf"([A-Za-z]{{2,24}}(?![{WORD}-])|xn--[A-Za-z0-9-]{{2,50}}|[^\W\d_A-Za-z]{{2,10}}(?![\w-]))"
_EMAIL = re.compile(rf"({_LOCAL}){_SIGN}((?:{_LABEL}{_LOOSE_DOT})+{_TOP})", re.IGNORECASE)
_DOMAIN_BEHIND = re.compile(rf"\s?{_LABEL}{_LOOSE_DOT}", re.IGNORECASE)
_SPACED = re.compile(
    rf"{_LOCAL}\s@\s(?:[a-z0-9][a-z0-9-]{{1,61}}\s?\.\s?)+(?:{SPELLED})(?![\w(-])", re.IGNORECASE
)
_SPELLED_OUT = re.compile(
    rf"{_LOCAL}\s(?:at|arobase|arroba|ät|chiocciola)\s[a-z0-9][a-z0-9-]{{1,61}}"
    rf"(?:\s(?:dot|point|punto|ponto|punkt)\s[a-z0-9-]{{2,30}}){{0,3}}"
    rf"\s(?:dot|point|punto|ponto|punkt)\s(?!by\b)(?:{SPELLED})(?![\w-])",
    re.IGNORECASE,
)
_AT = re.compile(
    r"@|%40|&#64;|&commat;|[|*]at[|*]|[\[({<]\s?(?:at|ät|a|et|arobase|arroba|chiocciola|собака|"
    r"małpa)\s?[\])}>]",
    re.IGNORECASE,
)
_AT_WORD = re.compile(
    r"\s(?:at|arobase|arroba|ät|chiocciola)\s[\w-]{2,62}\s(?:dot|point|punto|ponto|punkt)\s",
    re.IGNORECASE,
)
_DENSITY = re.compile(r"\d{1,2}x\.", re.IGNORECASE)  # icon@2x.zip
_RELEASE = re.compile(r"v?\d+\.\d+[.-]", re.IGNORECASE)  # tool@1.2.3-beta.rs

_BETWEEN = r"(?:\.|\[\.\]|\(\.\)|\[dot\])"
# Behind it may stand a port, as tcpdump writes it: `81.2.69.160.443 > `.
_IPV4 = re.compile(
    rf"(?<!\d)\d{{1,3}}(?:{_BETWEEN}\d{{1,3}}){{3}}(?![{WORD}]|\.\d(?!\d{{0,4}}(?:\s>\s|:\s)))"
)
_IPV6 = re.compile(rf"(?<![{WORD}:.])[0-9A-Fa-f]{{1,4}}:[0-9A-Fa-f:]{{1,34}}(?![{WORD}:])")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_NUMBERED = re.compile(
    r"(?:\bv|version|release|\bver\.?|section|sec\.|chapter|clause|§|build|firmware|kernel|linux"
    r"|oid|driver|[a-z][/_-]|(?<!ip)(?<!src)(?<!dst)(?<!addr)(?<!host)\s?[=~<>!]=)[\s-]*$",
    re.IGNORECASE,
)
_MACHINE = re.compile(
    r"(?:\bip(?:v4)?|\bdns|\bnameserver|\bhost|\baddr(?:ess)?|адрес|\bfrom|\bclient|\bserver|"
    r"\bping|\bssh|\bresolver|\bpeer|地址|//|アドレス)"
    r"[\s:=\"'()\[-]{0,4}(?:is |at |on |は)?$",
    re.IGNORECASE,
)
SMALL = 30  # chapters and releases: an address of smaller numbers alone is one in ten thousand


def may_have_email(text: str) -> bool:
    return "@" in text or bool(_AT.search(text) or _AT_WORD.search(text))


def emails(text: str) -> Iterator[Span]:
    at = 0
    for sign in _AT.finditer(text):
        if not _DOMAIN_BEHIND.match(text, sign.end()):
            continue
        start, stop = max(at, sign.start() - 68), min(len(text), sign.end() + 300)
        match = _EMAIL.search(text, start, stop)
        if match and match.start() <= sign.start() < match.end() and _mailbox(match):
            at = match.end()
            yield *match.span(), "email"
            continue
        match = _SPACED.search(text, start, stop) if sign.group() == "@" else None
        if match and match.start() <= sign.start() < match.end():
            at = match.end()
            yield *match.span(), "email"
    for sign in _AT_WORD.finditer(text):
        match = _SPELLED_OUT.search(
            text, max(0, sign.start() - 66), min(len(text), sign.end() + 120)
        )
        if match and match.start() <= sign.start() < match.end():
            yield *match.span(), "email"


def _mailbox(match: re.Match[str]) -> bool:
    """Whether what has the form of a mailbox is one.

    A file, a release or an account of a version control system is none.
    """
    local, domain, top = match.groups()
    if top.lower() in FILES or _DENSITY.match(domain) or _RELEASE.match(domain):
        return False
    behind = match.string[match.end() : match.end() + 1]
    return local.lower() not in ACCOUNTS or behind not in (":", "/")


def ipv4(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        start, end = match.span()
        before = text[max(0, start - 24) : start]
        if before and (_letter(before[-1]) or before[-1] in "._"):
            continue
        value = re.sub(r"[^\d.]", "", re.sub(_BETWEEN, ".", match.group()))
        parts = value.split(".")
        if any(len(part) > 1 and part[0] == "0" for part in parts) or _NUMBERED.search(before):
            continue
        if all(int(part) < SMALL for part in parts) and not _MACHINE.search(before):
            continue
        if _public(value):
            yield start, end, "ip"


def _letter(letter: str) -> bool:
    return re.match(f"[{WORD}]", letter) is not None


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
    """Whether it is an address that somebody on the internet has.

    A private or documented one is nobody's.
    """
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    is_unicast = address.is_global and not address.is_multicast
    return is_unicast and (address.version == 4 or int(address) >> 125 == 1)
