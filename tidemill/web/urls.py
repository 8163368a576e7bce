"""One spelling for each address: WHATWG's (ada-url), without what names a visit rather than a page.

`canonical` is idempotent: the canonical form of a canonical address is itself.
"""

import re
from functools import lru_cache

import ada_url

from tidemill.web.robots import UNRESERVED

MOST_CHARS = 2_000  # of an address; what is longer is a trap or a mistake
MOST_SEGMENTS = 20
REPEATS = 3  # times that one segment of a path may come again
# names of query parameters that say who came from where, or whose session it is
VISITS = re.compile(
    r"utm_\w+|[gdfyt]clid|fbclid|msclkid|twclid|ttclid|igshid|mc_[ce]id|_ga|_gl|_hsenc|_hsmi|__hstc"
    r"|hsctatracking|mkt_tok|vero_id|oly_(?:anon|enc)_id"
    r"|wickedid|ref_src|s_cid|phpsessid|jsessionid|aspsessionid\w*|session_?id|zenid|cfid|cftoken",
    re.IGNORECASE,
)
SESSION = re.compile(r";(?:jsessionid|phpsessid|sid)=[^/?;]*", re.IGNORECASE)
CONTROLS = "".join(map(chr, range(33)))  # what the URL standard trims at both ends
ESCAPE = re.compile("%([0-9A-Fa-f]{2})")


def canonical(uri: str, base: str | None = None) -> str | None:
    """The one spelling of an address; None where it is none of http or https."""
    try:
        whole = ada_url.join_url(base, uri) if base else ada_url.normalize_url(uri)
    except ValueError:
        return None
    return plain(whole)


def plain(whole: str) -> str | None:
    """An address that ada-url gave, in our spelling."""
    whole = whole.partition("#")[0]
    scheme, sign, rest = whole.partition("://")
    if not sign or scheme not in ("http", "https"):
        return None
    host, _, path = rest.partition("/")
    host = host.rpartition("@")[2]
    name, colon, port = host.partition(":") if not host.startswith("[") else (host, "", "")
    if name.endswith("."):
        host = name.rstrip(".") + colon + port
    if not host.rstrip(":") or host.startswith(":"):
        return None
    path, question, query = path.partition("?")
    if ";" in path:
        path = SESSION.sub("", path)
    if "%" in path:
        path = ESCAPE.sub(_escape, path)
    if question:
        pieces = [ESCAPE.sub(_escape, piece) for piece in query.split("&") if piece]
        kept = sorted(
            (piece for piece in pieces if not VISITS.fullmatch(piece.partition("=")[0])),
            key=lambda piece: piece.partition("=")[0],
        )
        query = "?" + "&".join(kept) if kept else ""
    return f"{scheme}://{host}/{path}{query}"


def _escape(match: re.Match[str]) -> str:
    letter = chr(int(match.group(1), 16))
    return letter if letter in UNRESERVED else match.group(0).upper()


@lru_cache(maxsize=65_536)
def _joined(folder: str, uri: str) -> str | None:
    return canonical(uri, folder)


def joined(base: str, uri: str) -> str | None:
    """A page's link as a canonical address.

    Pages of one folder share most of their links, so those are remembered.
    """
    uri = uri.strip(CONTROLS)
    if not uri or uri[0] in "?#":
        return canonical(uri, base)
    return _joined(base[: base.rfind("/", 0, (base + "?").find("?")) + 1], uri)


def site(uri: str) -> str:
    """Scheme, host and port of a canonical address: whose robots.txt it is under."""
    return uri[: uri.index("/", 8)]


def host(uri: str) -> str:
    """The host's name in a canonical address, without its port."""
    name = site(uri).partition("://")[2]
    return name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]


def port(uri: str) -> int:
    scheme, _, name = site(uri).partition("://")
    tail = name.rpartition("]")[2] if name.startswith("[") else name
    return int(tail.partition(":")[2] or (443 if scheme == "https" else 80))


def folder_trap(uri: str) -> str | None:
    """Why an address looks like one of a path without end, or None."""
    if len(uri) > MOST_CHARS:
        return "address too long"
    if uri.count("/") > 6:
        segments = [piece for piece in uri.partition("?")[0].split("/")[3:] if piece]
        if len(segments) > MOST_SEGMENTS:
            return "path without end"
        if max(map(segments.count, segments), default=0) > REPEATS:
            return "path repeats itself"
    return None


def shape(uri: str) -> str | None:
    """What addresses made by one counter have in common: digits as one sign, parameters by name.

    None where there is neither.
    """
    path, question, query = uri.partition("?")
    same = re.sub(r"\d+", "0", path[path.index("/", 8) :])
    if not question and "0" not in same:
        return None
    return (
        same + "?" + "&".join(sorted({piece.partition("=")[0] for piece in query.split("&")}))
        if question
        else same
    )
