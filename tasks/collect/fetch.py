"""One HTTP answer, bounded in every way: time, headers, bytes as they come and bytes once unpacked.

No cookies, no proxies of the environment, no redirects followed: each is an address of its own for
the frontier.
"""

import asyncio
import errno
import re
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import brotli
from backports import zstd
from yarl import URL

from tasks.collect.resolver import Names, NotPublic
from tidemill.runtime.encodable import encodable
from tidemill.web import headers

ACCEPTED = "gzip, deflate, br, zstd"
ENCODINGS = {
    **{name: name for name in ("gzip", "deflate", "br", "zstd")},
    "x-gzip": "gzip",
}
# Codings that exist (IANA) and that we did not ask for.
OTHER_CODINGS = (
    *("compress", "x-compress", "exi", "pack200-gzip", "aes128gcm", "dcb", "dcz"),
    *("lzma", "xz", "bzip2"),
)
MOST_PATIENCE_S = 30 * 86_400.0  # of a Retry-After: a host that asks for more is asked next month
STAGES = 3  # encodings on top of each other
MEMBERS = 1_000
PIECE = 64 * 1024
WINDOW_LOG = 23  # of zstd: 8 MB, what RFC 9659 lets HTTP use
HOP = {"content-encoding", "transfer-encoding", "content-length", "connection", "keep-alive"}


class Failed(Exception):
    """No answer that can be used.

    `reason` is one of few; `heals` says whether asking again can help.
    """

    def __init__(self, reason: str, detail: str = "", heals: bool = True) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.heals = reason, heals


class TooMuch(Exception):
    """A body over the limit, as it came or once it is unpacked."""


class Answer:
    """A status, headers in their order, and the body without its content encodings."""

    __slots__ = ("body", "headers", "seconds", "status", "wire")

    def __init__(
        self,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
        seconds: float = 0.0,
        wire: int = 0,
    ) -> None:
        self.status, self.headers, self.body, self.seconds, self.wire = (
            status,
            headers,
            body,
            seconds,
            wire,
        )

    def all(self, name: str) -> list[str]:
        """The values of every header of that name (in lower case), in their order."""
        return [value for key, value in self.headers if key.lower() == name]

    def get(self, name: str) -> str | None:
        """The first header of that name (in lower case), of those that have one line."""
        return next(iter(self.all(name)), None)

    def media(self) -> tuple[str | None, str | None]:
        """The media type in lower case and the declared charset."""
        return headers.media_type(self.all("content-type"))

    def links(self) -> list[headers.Link]:
        """The links of its `Link` headers (RFC 8288)."""
        return headers.links(self.all("link"))

    def head(self) -> bytes:
        """The head as a WARC keeps it.

        What describes the connection or an encoding that is gone is left out.
        """
        lines = [
            f"HTTP/1.1 {self.status} OK" if self.status == 200 else f"HTTP/1.1 {self.status} -"
        ]
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() not in HOP]
        return ("\r\n".join([*lines, f"Content-Length: {len(self.body)}"]) + "\r\n\r\n").encode(
            "utf-8", "surrogateescape"
        )

    def retry_after_s(self) -> float | None:
        """How long it asks us to stay away, in seconds: a number, or a date.

        The longest of several counts.
        """
        waits = [_patience_s(value.strip()) for value in self.all("retry-after")]
        return max((wait for wait in waits if wait is not None), default=None)


def _patience_s(value: str) -> float | None:
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", value):
        return min(float(value), MOST_PATIENCE_S)
    try:
        until = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        return None
    return min(max(0.0, until - time.time()), MOST_PATIENCE_S)


def _header(text: str) -> str:
    """A header's name or value on one line, in letters that any table takes."""
    return re.sub(r"[\r\n\0]+\s*", " ", encodable(text)).strip()


class Fetcher:
    """A session for one source. Use it as a context."""

    def __init__(
        self,
        names: Names,
        agent: str,
        timeout_s: float,
        most_bytes: int,
        per_host: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.names, self.agent, self.timeout_s, self.most_bytes, self.per_host, self.tls = (
            names,
            agent,
            timeout_s,
            most_bytes,
            per_host,
            tls,
        )

    async def __aenter__(self) -> "Fetcher":
        connector = aiohttp.TCPConnector(
            resolver=self.names,
            use_dns_cache=False,
            limit=0,
            limit_per_host=self.per_host,
            socket_factory=self.names.socket,
            ssl=self.tls or True,
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self.timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": self.agent, "Accept-Encoding": ACCEPTED, "Accept": "*/*"},
            skip_auto_headers=("Accept",),
        )
        # The client would ask once more, at once, where a kept connection was reset (RFC 9112,
        # 9.3.1). When we ask again is the host's turn to say, and the client has no setting for it
        # (tests/test_crawl.py counts).
        self.session._retry_connection = False
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def get(
        self,
        uri: str,
        asking: dict[str, str] | None = None,
        most_bytes: int | None = None,
        cut: bool = False,
        accept: Callable[[Answer], bool] | None = None,
    ) -> Answer:
        """One answer, to a request with the headers `asking`.

        A body whose head is not accepted is not read.

        Raises `Failed`, or `TooMuch` over the limit; with `cut` the body's beginning is given
        instead.
        """
        limit = self.most_bytes if most_bytes is None else most_bytes
        began = time.monotonic()
        try:
            async with self.session.get(
                URL(uri, encoded=True), headers=asking, allow_redirects=False
            ) as response:
                lines = [(_header(key), _header(value)) for key, value in response.headers.items()]
                answer = Answer(response.status, lines, b"")
                if accept is None or accept(answer):
                    answer.body, answer.wire = await _body(response, limit, cut)
                else:
                    response.close()
                answer.seconds = time.monotonic() - began
                return answer
        except (Failed, TooMuch, MemoryError):
            raise
        except Exception as error:  # whatever the client makes of an odd answer is that answer's
            raise explained(error) from error


async def _body(response: aiohttp.ClientResponse, limit: int, cut: bool) -> tuple[bytes, int]:
    """A response's body without its encodings, and how many bytes came.

    Nothing over the limit is held.
    """
    pumps = _pumps(response.headers.getall("Content-Encoding", []))
    if not cut and (response.content_length or 0) > limit:
        response.close()
        raise TooMuch  # by its own word; nobody's bytes are wasted on it
    found: list[bytes] = []
    size = wire = 0
    async for chunk in response.content.iter_any():
        wire += len(chunk)
        for piece in _through(pumps, chunk, limit):
            found.append(piece)
            size += len(piece)
            if size > limit:
                response.close()  # what is left of it is not waited for
                if cut:
                    return b"".join(found)[:limit], wire
                raise TooMuch
        if wire > limit and not cut:
            response.close()
            raise TooMuch
    if wire and any(not pump.finished for pump in pumps):
        raise Failed("body cut short", ", ".join(pump.name for pump in pumps))
    return b"".join(found), wire


class _Pump:
    """One decompression, a piece at a time."""

    def __init__(self, name: str, engine: Any) -> None:
        self.name, self.engine, self.made, self.fed, self.members = name, engine, 0, False, 1
        self.over = False  # what follows is no member any more

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self.name == "br":
            return self._brotli(data)
        return self._zstd(data) if self.name == "zstd" else self._zlib(data)

    def _brotli(self, data: bytes) -> Iterator[bytes]:
        piece = self.engine.process(data, output_buffer_limit=PIECE)
        while True:
            if piece:
                yield piece
            elif self.engine.can_accept_more_data() or self.engine.is_finished():
                return
            piece = self.engine.process(b"", output_buffer_limit=PIECE)

    def _zstd(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self.engine.eof:  # frames may follow each other
                data = self.engine.unused_data or data
                if not data:
                    return
                self.again()
            piece = self.engine.decompress(data, PIECE)
            if piece:
                yield piece
            data = b""
            if (self.engine.eof and not self.engine.unused_data) or self.engine.needs_input:
                return

    def _zlib(self, data: bytes) -> Iterator[bytes]:
        if not self.fed and self.name == "deflate" and data:
            if (data[0] & 0x0F) != 8:  # raw deflate, as some servers mean it
                self.engine = zlib.decompressobj(-15)
            self.fed = True
        while data and not self.over:
            if self.engine.eof:
                if self.name == "deflate" or data[:1] != b"\x1f":
                    self.over = True  # padding, which browsers leave alone
                    return
                self.again()
            piece = self.engine.decompress(data, PIECE)
            if piece:
                yield piece
            data = self.engine.unconsumed_tail or self.engine.unused_data

    def again(self) -> None:
        """Begin a further member of gzip or frame of zstd.

        Thousands of them are meant to keep us busy.
        """
        self.members += 1
        if self.members > MEMBERS:
            raise zlib.error("too many members")
        self.engine = _engine(self.name)

    @property
    def finished(self) -> bool:
        return self.engine.is_finished() if self.name == "br" else self.engine.eof


def _engine(name: str) -> Any:
    if name == "br":
        return brotli.Decompressor()
    if name == "zstd":
        return zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
        )
    return zlib.decompressobj(31 if name == "gzip" else 15)


def _pumps(values: list[str]) -> list[_Pump]:
    """The decompressions that a body's encodings ask for, the last one first.

    A name that is no coding (`none`, `utf-8`) is passed over, as browsers do.
    """
    words = [word.strip().lower() for value in values for word in value.split(",")]
    for word in words:
        if word in OTHER_CODINGS:
            raise Failed("unknown encoding", word, heals=False)
    names = [ENCODINGS[word] for word in reversed(words) if word in ENCODINGS]
    if len(names) > STAGES:
        raise Failed("encodings on encodings", ", ".join(words)[:60], heals=False)
    return [_Pump(name, _engine(name)) for name in names]


def _through(pumps: list[_Pump], data: bytes, limit: int) -> Iterator[bytes]:
    """A chunk through the decompressions that are left.

    Each may make a few times the limit, no more.
    """
    if not pumps:
        yield data
        return
    first, *rest = pumps
    try:
        for piece in first.pieces(data):
            first.made += len(piece)
            if rest and first.made > 4 * limit:
                raise TooMuch
            yield from _through(rest, piece, limit)
    except (zlib.error, brotli.error, zstd.ZstdError, MemoryError) as error:
        raise Failed("body does not unpack", f"{first.name}: {error}"[:80], heals=False) from error


REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (asyncio.TimeoutError, "timed out"),
    (aiohttp.ClientConnectorCertificateError, "certificate not valid"),
    (aiohttp.ClientSSLError, "TLS failed"),
    (ssl.SSLError, "TLS failed"),
    (aiohttp.ClientConnectorDNSError, "name not resolved"),
    (aiohttp.ClientPayloadError, "body cut short"),
    (aiohttp.ServerDisconnectedError, "connection closed"),
    (aiohttp.ClientConnectorError, "no connection"),
    (ConnectionResetError, "connection reset"),
    (ConnectionError, "connection lost"),
    (aiohttp.ClientOSError, "connection lost"),
    (aiohttp.ClientError, "not HTTP"),
)  # the first that fits
TOO_LARGE = ("TooLong", "too long", "Too many", "Got more than")  # of a client's words for a head


def explained(error: Exception) -> Failed:
    """A client's error as one of few reasons."""
    text = f"{type(error).__name__}: {error}"
    if "is not a public address" in text or isinstance(getattr(error, "os_error", None), NotPublic):
        return Failed("not a public address", str(error)[:160], heals=False)
    if isinstance(error, aiohttp.ClientResponseError):
        large = any(word in text for word in TOO_LARGE)
        return Failed("headers too large" if large else "not HTTP", str(error.message)[:160])
    reason = next((why for kind, why in REASONS if isinstance(error, kind)), type(error).__name__)
    if reason == "no connection" and isinstance(
        getattr(error, "os_error", None), ConnectionRefusedError
    ):
        reason = "connection refused"
    if reason == "connection lost" and getattr(error, "errno", None) == errno.ECONNRESET:
        reason = "connection reset"
    detail = "" if reason in ("timed out", "connection closed") else str(error)[:160]
    return Failed(reason, detail, heals=reason != "certificate not valid")
