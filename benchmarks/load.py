"""python -m benchmarks.load URL QUESTIONS (--clients N | --rate R) --seconds S.

Questions over HTTP, as lightly as Python can.

A process of its own, plain sockets, and requests whose bytes were made before, so that what is
measured is the server and not who asks. QUESTIONS is a file of JSON, a body in each line. With
--clients each asks again when it was answered (a closed loop); with --rate questions come at random
moments whether or not those before were answered (an open loop), and one that finds no connection
free waits for one: its time counts from when it was due. Prints JSON: for each answer when it was
due, its seconds from then, its seconds from when it was sent, and its status (0: no answer).
"""

import argparse
import asyncio
import gc
import json
import random
import time
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

CONNECTIONS = 256  # of an open loop, at most
GRACE_S = 15.0  # for answers that are still awaited at the end


class Asking(asyncio.Protocol):
    """One connection, one question at a time."""

    def __init__(self, load: "Load") -> None:
        self.load, self.due, self.sent = load, -1.0, 0.0  # -1: nothing was asked
        self.seen, self.end = b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, due: float) -> None:
        self.due, self.sent, self.seen, self.end = due, time.perf_counter(), b"", 0
        self.transport.write(self.load.request())

    def data_received(self, data: bytes) -> None:
        self.seen += data
        if not self.end:
            head, there, _ = self.seen.partition(b"\r\n\r\n")
            if not there:
                return
            self.end = (
                len(head)
                + 4
                + int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            )
        if len(self.seen) >= self.end:
            self.done(int(self.seen[9:12]))
            self.load.free(self)

    def done(self, status: int) -> None:
        now = time.perf_counter()
        self.load.rows.append(
            (
                round(self.due - self.load.began, 6),
                round(now - self.due, 6),
                round(now - self.sent, 6),
                status,
            )
        )
        self.due = -1.0

    def connection_lost(self, error: Exception | None) -> None:
        if self.due >= 0:
            self.done(0)
        self.load.lost(self)


class Load:
    """What both loops share: the requests' bytes, and the rows of what was answered."""

    def __init__(self, url: str, bodies: list[bytes], seconds: float) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.seconds = parts.hostname or "", parts.port or 80, seconds
        self.requests = [
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
            for body in bodies
        ]
        self.rows: list[tuple[float, float, float, int]] = []
        self.asked, self.began = 0, 0.0

    def request(self) -> bytes:
        self.asked += 1
        return self.requests[self.asked % len(self.requests)]

    async def connect(self) -> Asking:
        return (
            await asyncio.get_running_loop().create_connection(
                lambda: Asking(self), self.host, self.port
            )
        )[1]

    async def run(self) -> None:
        raise NotImplementedError

    def free(self, asking: Asking) -> None:
        raise NotImplementedError

    def lost(self, asking: Asking) -> None:
        """A connection is gone."""

    async def rest(self) -> None:
        until = time.perf_counter() + GRACE_S
        while len(self.rows) < self.asked and time.perf_counter() < until:
            await asyncio.sleep(0.01)


class Closed(Load):
    def __init__(self, url: str, bodies: list[bytes], seconds: float, clients: int) -> None:
        super().__init__(url, bodies, seconds)
        self.clients = clients

    async def run(self) -> None:
        there = [await self.connect() for _ in range(self.clients)]
        self.began = time.perf_counter()
        for asking in there:
            asking.ask(time.perf_counter())
        await asyncio.sleep(self.seconds)
        await self.rest()

    def free(self, asking: Asking) -> None:
        now = time.perf_counter()
        if now < self.began + self.seconds:
            asking.ask(now)


class Open(Load):
    def __init__(self, url: str, bodies: list[bytes], seconds: float, rate: float) -> None:
        super().__init__(url, bodies, seconds)
        self.rate = rate
        self.idle: list[Asking] = []
        self.waiting: deque[float] = deque()  # when each was due
        self.connections = 0
        self.opening: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        gaps = random.Random(1)
        due = self.began = time.perf_counter()
        while due < self.began + self.seconds:
            now = time.perf_counter()
            while due <= now:
                self.come(due)
                due += gaps.expovariate(self.rate)
            await asyncio.sleep(max(0.0, min(due, self.began + self.seconds) - time.perf_counter()))
        self.waiting.clear()  # what was not sent by now was never asked
        await self.rest()

    def come(self, due: float) -> None:
        if self.idle:
            self.idle.pop().ask(due)
            return
        self.waiting.append(due)
        if self.connections < CONNECTIONS:
            self.connections += 1
            task = asyncio.create_task(self.another())
            self.opening.add(task)
            task.add_done_callback(self.opening.discard)

    async def another(self) -> None:
        try:
            self.free(await self.connect())
        except OSError:
            self.connections -= 1

    def free(self, asking: Asking) -> None:
        if self.waiting:
            asking.ask(self.waiting.popleft())
        else:
            self.idle.append(asking)

    def lost(self, asking: Asking) -> None:
        self.connections -= 1
        if asking in self.idle:
            self.idle.remove(asking)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("questions", type=Path)
    parser.add_argument("--clients", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    bodies = given.questions.read_bytes().splitlines()
    load: Load = (
        Closed(given.url, bodies, given.seconds, given.clients)
        if given.clients
        else Open(given.url, bodies, given.seconds, given.rate)
    )
    gc.disable()  # a pause here would count as the server's
    asyncio.run(load.run())
    print(json.dumps({"rows": load.rows, "cpu_s": time.process_time()}))


if __name__ == "__main__":
    main()
