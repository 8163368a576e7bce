"""Clients that are slow, and clients that are too many.

A request's head must come in time, an answer must be taken in time, and there is a most of connections. A request that there
is no room for is answered from here, once its head was read: ten times as many as can be answered must not cost those that are answered.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LOOK_S = 0.5


class Patient(HttpToolsProtocol):
    """uvicorn's protocol, whose keep-alive timer begins only after a first answer: a client that never ends its head would stay for ever."""

    head_s = 10.0
    most = 1000
    there: set["Patient"] = set()
    sweeper: asyncio.Task[None] | None = None
    full: Callable[[bytes, list[tuple[bytes, bytes]]], bytes | None] = staticmethod(lambda url, headers: None)     # of a POST: the whole answer where there is no room, else None
    away = False        # this request was turned away, and what still comes of it is thrown away

    def connection_made(self, transport: Any) -> None:
        self.since: float | None = time.monotonic()      # when the head that is awaited began; None while a request is at work
        super().connection_made(transport)
        if len(Patient.there) >= Patient.most:
            transport.abort()
            return
        Patient.there.add(self)
        if Patient.sweeper is None or Patient.sweeper.done():
            Patient.sweeper = self.loop.create_task(Patient.sweep())

    def connection_lost(self, exc: Exception | None) -> None:
        Patient.there.discard(self)
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        # Only where nothing of this client is at work or in our buffer: others wait in line, as uvicorn does it.
        if self.parser.get_method() == b"POST" and (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused and self.parser.should_keep_alive():
            answer = Patient.full(self.url, self.headers)
            if answer:
                self.away, self.since = True, time.monotonic()
                self.server_state.total_requests += 1
                self.transport.write(answer)
                return
        self.since = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.away:
            self.away = False
        else:
            super().on_message_complete()

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
