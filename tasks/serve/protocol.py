"""Clients that are slow, and clients that are too many.

A request's head must come in time and be of a usual size, an answer must be taken in time, and there is a most of connections. A request that there is
no room for is turned away from here, by its head alone, and is told so a moment later: ten times as many as can be answered must not
cost those that are answered, and whoever asks again at once would keep the loop busy with noes.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LOOK_S = 0.5
HEAD_BYTES = 65_536  # of a head, or of trailers; what one call reads comes on top
LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
LINE = 64  # requests of one client that wait behind another of it
HOLD_S = 0.1  # a no is held so long: 256 clients that ask again at once cost a seventh of a core, without it all there is


class Joined:
    """A transport that sends what is written in one round of the loop at once: an answer's head and body are two writes, and each costs a call of the kernel."""

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


class Patient(HttpToolsProtocol):
    """uvicorn's protocol, whose keep-alive timer begins only after a first answer: a client that never ends its head would stay for ever."""

    head_s = 10.0
    most = 1000
    there: set["Patient"] = set()
    sweeper: asyncio.Task[None] | None = None
    full: Callable[[bytes, list[tuple[bytes, bytes]]], bytes | None] = staticmethod(
        lambda url, headers: None
    )  # of a POST: the whole answer where there is no room, else None
    away = False  # this request was turned away, and what still comes of it is thrown away
    no: tuple[bytes, asyncio.TimerHandle] | None = None  # what its client will be told
    stuck: float | None = None  # since when our buffer for this client is full
    bare = 0  # bytes that came since a head or a piece of a body was whole

    def connection_made(self, transport: Any) -> None:
        self.since: float | None = (
            time.monotonic()
        )  # when the head that is awaited began; None while a request is at work
        super().connection_made(Joined(transport, self.loop))  # type: ignore[arg-type]
        if len(Patient.there) >= Patient.most:
            transport.abort()
            return
        Patient.there.add(self)
        if Patient.sweeper is None or Patient.sweeper.done():
            Patient.sweeper = self.loop.create_task(Patient.sweep())

    def connection_lost(self, exc: Exception | None) -> None:
        Patient.there.discard(self)
        if self.no:
            self.no[1].cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.bare += len(data)
        super().data_received(data)
        if self.bare > HEAD_BYTES:
            self.refuse()

    def refuse(self) -> None:
        """Hang up on a head without end; with an answer, where it is this request's turn."""
        self.tell()
        if self.since is None or self.away:
            self.transport.abort()
        else:
            self.transport.write(LARGE)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self.tell()
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
        if self.no:
            self.tell()
        # Only where nothing of this client is at work or in our buffer: others wait in line, as uvicorn does it.
        if (
            self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
        ):
            answer = Patient.full(self.url, self.headers)
            if answer:
                self.away, self.since = True, time.monotonic()
                self.no = answer, self.loop.call_later(HOLD_S, self.tell)
                return
        self.since = None
        super().on_headers_complete()
        self.headers = []  # what is called a header from now on is a trailer, which nobody reads

    def tell(self) -> None:
        if self.no:
            answer, timer = self.no
            timer.cancel()
            self.no, self.since = None, time.monotonic()
            self.server_state.total_requests += 1
            self.transport.write(answer)
            self.flow.resume_reading()

    def shutdown(self) -> None:
        self.tell()
        super().shutdown()

    def on_body(self, body: bytes) -> None:
        self.bare = 0
        if not self.away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.bare = 0
        if not self.away:
            super().on_message_complete()
            return
        self.away = False
        if self.no:
            self.flow.pause_reading()

    def on_response_complete(self) -> None:
        self.since = None if self.pipeline else time.monotonic()
        super().on_response_complete()

    @staticmethod
    async def sweep() -> None:
        """Close at once whoever kept us waiting; those whose answer is still in our buffer count as well."""
        while Patient.there:
            await asyncio.sleep(LOOK_S)
            limit = time.monotonic() - Patient.head_s
            for protocol in list(Patient.there):
                if (protocol.since or limit) < limit or (protocol.stuck or limit) < limit:
                    protocol.transport.abort()
