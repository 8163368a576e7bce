"""Clients that are slow, and clients that are too many.

A request's head must come in time and be of a usual size, an answer must be taken in time, and
connections have a limit. A request that there is no room for is turned away from here, by its head
alone, and hears so a moment later: ten times as many as can be answered must not cost those that
are answered, and whoever asks again at once would keep the loop busy with refusals.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LOOK_S = 0.5
HEAD_BYTES = 65_536  # of a head, or of trailers; what one call reads comes on top
LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)
LINE = 64  # requests of one client that wait behind another of it
# A refusal is held so long: 256 clients that ask again at once cost a seventh of a core, without
# it all there is.
HOLD_S = 0.1
HUNG_UP = "tidemill.hung_up"  # an extension of the ASGI scope: whether the client is gone

ByHead = Callable[[bytes, list[tuple[bytes, bytes]]], bytes | None]


def nothing_refused(url: bytes, headers: list[tuple[bytes, bytes]]) -> bytes | None:
    return None


@dataclass
class Limits:
    """What clients may take of one server, and the connections it has.

    `by_head` gives the whole answer to a POST that there is no room for, else None.
    """

    head_s: float = 10.0
    connections: int = 1000
    by_head: ByHead = nothing_refused
    open: set["LimitedProtocol"] = field(default_factory=set)
    sweeper: asyncio.Task[None] | None = None

    async def sweep(self) -> None:
        """Close at once whoever kept us waiting, for a head or with an answer in our buffer."""
        while self.open:
            await asyncio.sleep(LOOK_S)
            limit = time.monotonic() - self.head_s
            for protocol in list(self.open):
                if (protocol.since or limit) < limit or (protocol.stuck or limit) < limit:
                    protocol.transport.abort()


class JoinedWrites:
    """A transport that sends what is written in one round of the loop at once.

    An answer's head and body are two writes, and each costs a call of the kernel.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport, self.loop = transport, loop
        self.parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        if not self.parts:
            self.loop.call_soon(self.flush)
        self.parts.append(data)

    def flush(self) -> None:
        whole = b"".join(self.parts)
        self.parts.clear()
        if whole and not self.transport.is_closing():
            self.transport.write(whole)

    def close(self) -> None:
        self.flush()
        self.transport.close()


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, within Limits.

    uvicorn's own keep-alive timer begins only after a first answer: a client that never ends its
    head would stay for ever.
    """

    def __init__(self, *arguments: Any, limits: Limits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.limits = limits
        # When the head that is awaited began; None while a request is at work.
        self.since: float | None = time.monotonic()
        self.refused = False  # this request was, and what still comes of it is thrown away
        self.held: tuple[bytes, asyncio.TimerHandle] | None = None  # a refusal not yet sent
        self.stuck: float | None = None  # since when our buffer for this client is full
        self.bare = 0  # bytes that came since a head or a piece of a body was whole
        self.gone = False

    def connection_made(self, transport: Any) -> None:
        self.since = time.monotonic()
        super().connection_made(JoinedWrites(transport, self.loop))  # type: ignore[arg-type]
        limits = self.limits
        if len(limits.open) >= limits.connections:
            transport.abort()
            return
        limits.open.add(self)
        if limits.sweeper is None or limits.sweeper.done():
            limits.sweeper = self.loop.create_task(limits.sweep())

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.limits.open.discard(self)
        if self.held:
            self.held[1].cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {HUNG_UP: lambda: self.gone}  # type: ignore[dict-item]

    def data_received(self, data: bytes) -> None:
        self.bare += len(data)
        super().data_received(data)
        if self.bare > HEAD_BYTES:
            self.refuse()

    def refuse(self) -> None:
        """Hang up on a head without end; with an answer, where it is this request's turn."""
        self.send_held()
        if self.since is None or self.refused:
            self.transport.abort()
        else:
            self.transport.write(LARGE)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self.send_held()
        super().send_400_response(msg)

    def pause_writing(self) -> None:
        self.stuck = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stuck = None
        super().resume_writing()

    def on_headers_complete(self) -> None:
        self.bare = 0
        if len(self.pipeline) >= LINE:
            self.transport.abort()
            return
        if self.held:
            self.send_held()
        # Only where nothing of this client is at work or in our buffer: others wait in line, as
        # uvicorn does it.
        if (
            self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
        ):
            answer = self.limits.by_head(self.url, self.headers)
            if answer:
                self.refused, self.since = True, time.monotonic()
                self.held = answer, self.loop.call_later(HOLD_S, self.send_held)
                return
        self.since = None
        super().on_headers_complete()
        self.headers = []  # what is called a header from now on is a trailer, which nobody reads

    def send_held(self) -> None:
        if self.held:
            answer, timer = self.held
            timer.cancel()
            self.held, self.since = None, time.monotonic()
            self.server_state.total_requests += 1
            self.transport.write(answer)
            self.flow.resume_reading()

    def shutdown(self) -> None:
        self.send_held()
        super().shutdown()

    def on_body(self, body: bytes) -> None:
        self.bare = 0
        if not self.refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.bare = 0
        if not self.refused:
            super().on_message_complete()
            return
        self.refused = False
        if self.held:
            self.flow.pause_reading()

    def on_response_complete(self) -> None:
        self.since = None if self.pipeline else time.monotonic()
        super().on_response_complete()
