"""Clients that are slow, and clients that are too many.

A request's head must come in time, an answer must be taken in time, and there is a most of connections. A request that there is
no room for is turned away from here, by its head alone, and is told so a moment later: ten times as many as can be answered must not
cost those that are answered, and whoever asks again at once would keep the loop busy with noes.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LOOK_S = 0.5
HOLD_S = 0.1        # a no is held so long: 256 clients that ask again at once cost a seventh of a core, without it all there is


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
    full: Callable[[bytes, list[tuple[bytes, bytes]]], bytes | None] = staticmethod(lambda url, headers: None)     # of a POST: the whole answer where there is no room, else None
    away = False        # this request was turned away, and what still comes of it is thrown away
    no: tuple[bytes, asyncio.TimerHandle] | None = None       # what its client will be told

    def connection_made(self, transport: Any) -> None:
        self.since: float | None = time.monotonic()      # when the head that is awaited began; None while a request is at work
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

    def on_headers_complete(self) -> None:
        if self.no:
            self.tell()
        # Only where nothing of this client is at work or in our buffer: others wait in line, as uvicorn does it.
        if self.parser.get_method() == b"POST" and (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused and self.parser.should_keep_alive():
            answer = Patient.full(self.url, self.headers)
            if answer:
                self.away, self.since = True, time.monotonic()
                self.no = answer, self.loop.call_later(HOLD_S, self.tell)
                return
        self.since = None
        super().on_headers_complete()

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
        if not self.away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.away:
            super().on_message_complete()
            return
        self.away = False
        if self.no:
            self.flow.pause_reading()

    def on_response_complete(self) -> None:
        self.since = time.monotonic()
        super().on_response_complete()

    @staticmethod
    async def sweep() -> None:
        """Close at once whoever kept us waiting; those whose answer is still in our buffer count as well."""
        while Patient.there:
            await asyncio.sleep(LOOK_S)
            limit = time.monotonic() - Patient.head_s
            for protocol in list(Patient.there):
                if protocol.since is not None and protocol.since < limit:
                    protocol.transport.abort()
