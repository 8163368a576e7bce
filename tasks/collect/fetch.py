"""One HTTP answer, bounded in every way: time, headers, bytes as they come and bytes once unpacked.

No cookies, no proxies of the environment, no redirects followed: each is an address of its own for the frontier.
"""

import asyncio
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

ACCEPTED = "gzip, deflate, br, zstd"
STAGES = 3  # encodings on top of each other
MEMBERS = 1_000
PIECE = 64 * 1024
WINDOW_LOG = 23  # of zstd: 8 MB, what RFC 9659 lets HTTP use
HOP = {"content-encoding", "transfer-encoding", "content-length", "connection", "keep-alive"}


class Failed(Exception):
    """No answer that can be used. `reason` is one of few; `heals` says whether asking again can help."""

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

    def get(self, name: str) -> str | None:
        """The first header of that name (in lower case)."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None

    def media(self) -> tuple[str | None, str | None]:
        """The media type and the declared charset."""
        media, _, parameters = (self.get("content-type") or "").partition(";")
        return media.strip() or None, parameters.partition("charset=")[2].partition(";")[0].strip(
            " \"'"
        ) or None

    def head(self) -> bytes:
        """The head as a WARC keeps it: what describes the connection or an encoding that is gone is left out."""
        lines = [
            f"HTTP/1.1 {self.status} OK" if self.status == 200 else f"HTTP/1.1 {self.status} -"
        ]
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() not in HOP]
        return ("\r\n".join([*lines, f"Content-Length: {len(self.body)}"]) + "\r\n\r\n").encode(
            "utf-8", "surrogateescape"
        )

    def retry_after_s(self) -> float | None:
        """How long it asks us to stay away, in seconds: a number, or a date."""
        value = (self.get("retry-after") or "").strip()
        if value.isascii() and value.isdigit():
            return float(value)
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError, OSError):
            return None


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
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def get(
        self,
        uri: str,
        headers: dict[str, str] | None = None,
        most_bytes: int | None = None,
        cut: bool = False,
        accept: Callable[[Answer], bool] | None = None,
    ) -> Answer:
        """One answer. Raises `Failed`, or `TooMuch` over the limit; with `cut` the body's beginning is given instead.

        A body whose head is not accepted is not read.
        """
        limit = self.most_bytes if most_bytes is None else most_bytes
        began = time.monotonic()
        try:
            async with self.session.get(
                URL(uri, encoded=True), headers=headers, allow_redirects=False
            ) as response:
                answer = Answer(response.status, list(response.headers.items()), b"")
                if accept is None or accept(answer):
                    answer.body, answer.wire = await _body(response, limit, cut)
                else:
                    response.close()
                answer.seconds = time.monotonic() - began
                return answer
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise explained(error) from error


async def _body(response: aiohttp.ClientResponse, limit: int, cut: bool) -> tuple[bytes, int]:
    """A response's body without its encodings, and how many bytes came; nothing over the limit is held."""
    named = response.headers.get("Content-Encoding", "")
    pumps = [
        _pump(name)
        for name in reversed([word.strip().lower() for word in named.split(",")])
        if name not in ("", "identity")
    ]
    if len(pumps) > STAGES:
        raise Failed("encodings on encodings", named[:60], heals=False)
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
        raise Failed("body cut short", named[:20])
    return b"".join(found), wire


class _Pump:
    """One decompression, a piece at a time."""

    def __init__(self, name: str, engine: Any) -> None:
        self.name, self.engine, self.made, self.fed, self.members = name, engine, 0, False, 1

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self.name == "br":
            piece = self.engine.process(data, output_buffer_limit=PIECE)
            while True:
                if piece:
                    yield piece
                elif self.engine.can_accept_more_data() or self.engine.is_finished():
                    return
                piece = self.engine.process(b"", output_buffer_limit=PIECE)
        elif self.name == "zstd":
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
        else:
            if not self.fed and self.name == "deflate" and data:
                if (data[0] & 0x0F) != 8:  # raw deflate, as some servers mean it
                    self.engine = zlib.decompressobj(-15)
                self.fed = True
            while data:
                if self.engine.eof:
                    if self.name == "deflate":
                        return
                    self.again()
                piece = self.engine.decompress(data, PIECE)
                if piece:
                    yield piece
                data = self.engine.unconsumed_tail or self.engine.unused_data

    def again(self) -> None:
        """Members of gzip and frames of zstd may follow each other; thousands of them are meant to keep us busy."""
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


def _pump(name: str) -> _Pump:
    name = {"x-gzip": "gzip"}.get(name, name)
    if name not in ("gzip", "deflate", "br", "zstd"):
        raise Failed("unknown encoding", name[:40], heals=False)
    return _Pump(name, _engine(name))


def _through(pumps: list[_Pump], data: bytes, limit: int) -> Iterator[bytes]:
    """A chunk through the decompressions that are left; each may make a few times the limit, no more."""
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


def explained(error: Exception) -> Failed:
    """A client's error as one of few reasons."""
    text = f"{type(error).__name__}: {error}"
    if "is not a public address" in text or isinstance(getattr(error, "os_error", None), NotPublic):
        return Failed("not a public address", str(error)[:160], heals=False)
    if isinstance(error, asyncio.TimeoutError):
        return Failed("timed out")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Failed("certificate not valid", str(error)[:160], heals=False)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Failed("TLS failed", str(error)[:160])
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Failed("name not resolved", str(error)[:160])
    if isinstance(error, aiohttp.ClientPayloadError):
        return Failed("body cut short", str(error)[:160])
    if isinstance(error, aiohttp.ClientResponseError):
        return Failed(
            "headers too large"
            if any(word in text for word in ("TooLong", "too long", "Too many", "Got more than"))
            else "not HTTP",
            str(error.message)[:160],
        )
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Failed("connection closed")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Failed(
            "connection refused"
            if isinstance(error.os_error, ConnectionRefusedError)
            else "no connection",
            str(error)[:160],
        )
    if isinstance(error, ConnectionError | aiohttp.ClientOSError):
        return Failed(
            "connection reset"
            if isinstance(error, ConnectionResetError) or getattr(error, "errno", None) == 104
            else "connection lost",
            str(error)[:160],
        )
    return Failed(
        "not HTTP" if isinstance(error, aiohttp.ClientError) else type(error).__name__,
        str(error)[:160],
    )
