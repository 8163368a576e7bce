"""A small web on loopback: many hosts on 127.0.0.x.

Each may misbehave in any way that bytes can. It runs in a thread of its own, keeps what it was
asked, and speaks plain sockets, so that nothing mends what it says.
"""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.collect.crawl import Crawl
from tidemill.engines import config
from tidemill.engines.config.schema import Collect, NightBudget, OptOut, Source
from tidemill.records.receipts import Collected

ROBOTS = b"User-agent: *\nAllow: /\n"


@dataclass
class Ask:
    """One request as it came."""

    host: str
    path: str
    headers: dict[str, str]
    at: float
    peer: str = ""


@dataclass
class Reply:
    """What is written for an answer.

    `pieces` are written one by one, with pauses; `end` is how the connection is left.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    media: str = "text/html"
    pieces: Callable[[], AsyncIterator[bytes]] | None = None  # instead of all of it
    end: str = "keep"  # keep, close or reset

    def written(self) -> bytes:
        headers = {
            "Content-Type": self.media,
            "Content-Length": str(len(self.body)),
            **self.headers,
        }
        head = f"HTTP/1.1 {self.status} X\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in headers.items() if value
        )
        return head.encode("latin-1") + b"\r\n" + (b"" if self.status in (204, 304) else self.body)


Answering = Callable[[Ask], Reply | None]


class Web:
    """Hosts by name, each with a function that answers; None is a 404. Used as a context."""

    def __init__(self, **hosts: Answering) -> None:
        self.hosts = {
            name.replace("_", "-") + ".localhost": answering for name, answering in hosts.items()
        }
        self.asked: list[Ask] = []
        self.mirrors: dict[str, tuple[str, int]] = {}
        self.addresses = {name: f"127.0.0.{2 + number}" for number, name in enumerate(self.hosts)}

    def __enter__(self) -> "Web":
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()

        async def start() -> None:
            self.servers = []
            for name in self.hosts:
                server = await asyncio.start_server(
                    lambda r, w, name=name: self._serve(name, r, w),
                    self.addresses[name],
                    0,
                    limit=2**20,
                )
                self.mirrors[name] = (self.addresses[name], server.sockets[0].getsockname()[1])
                self.servers.append(server)
            ready.set()

        def work() -> None:
            asyncio.set_event_loop(self.loop)
            self.loop.create_task(start())
            self.loop.run_forever()

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        async def stop() -> None:
            for server in self.servers:
                server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            self.loop.call_soon(self.loop.stop)

        asyncio.run_coroutine_threadsafe(stop(), self.loop)
        self.thread.join(10)
        self.loop.close()

    async def _serve(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(
            ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
        ):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                path = head[0].split(" ")[1]
                headers = {
                    key.lower(): value
                    for key, _, value in (line.partition(": ") for line in head[1:] if line)
                }
                ask = Ask(name, path, headers, time.monotonic(), headers.get("host", ""))
                self.asked.append(ask)
                reply = self.hosts[name](ask) or (
                    Reply(ROBOTS, media="text/plain")
                    if path == "/robots.txt"
                    else Reply(b"no such page", 404)
                )
                if reply.pieces:
                    async for piece in reply.pieces():
                        writer.write(piece)
                        await writer.drain()
                else:
                    writer.write(reply.written())
                    await writer.drain()
                if reply.end == "reset":
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                    writer.transport.abort()
                    return
                if reply.end == "close":
                    break
        with contextlib.suppress(ConnectionError, asyncio.CancelledError, RuntimeError):
            writer.close()

    def paths(self, name: str = "") -> list[str]:
        """What was asked for, in order, but for what a site says of itself."""
        return [
            ask.path
            for ask in list(self.asked)
            if ask.host.startswith(name)
            and ask.path not in ("/robots.txt", "/ai.txt", "/.well-known/tdmrep.json")
        ]

    def times(self, name: str = "") -> list[float]:
        return [ask.at for ask in list(self.asked) if ask.host.startswith(name)]


def pages(**bodies: str | bytes | Reply | Callable[[Ask], Reply]) -> Answering:
    """A host of fixed pages, under their names.

    `index` is /, `robots` is /robots.txt, `sitemap` is /sitemap.xml.
    """
    names = {
        "index": "/",
        "robots": "/robots.txt",
        "sitemap": "/sitemap.xml",
        "ai_txt": "/ai.txt",
        "tdmrep": "/.well-known/tdmrep.json",
    }
    by_path = {names.get(name, f"/{name}"): body for name, body in bodies.items()}

    def answer(ask: Ask) -> Reply | None:
        found = by_path.get(ask.path)
        if callable(found):
            return found(ask)
        if isinstance(found, str | bytes):
            plain = ask.path.endswith((".txt", ".json"))
            return Reply(
                found.encode() if isinstance(found, str) else found,
                media="text/plain"
                if plain
                else "application/xml"
                if ask.path.endswith(".xml")
                else "text/html",
            )
        return found

    return answer


def html(text: str, *links: str, head: str = "") -> str:
    return (
        f"<html><head>{head}</head><body><p>{text}</p>"
        + "".join(f'<a href="{link}">to {link}</a>' for link in links)
        + "</body></html>"
    )


def sitemap(*places: str, more: str = "") -> str:
    return (
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        + "".join(f"<url><loc>{place}</loc></url>" for place in places)
        + more
        + "</urlset>"
    )


def source(*seeds: str, **more: object) -> Source:
    """A source over hosts of the small web.

    It has no gap between requests where a test does not ask for one.
    """
    hosts = tuple(dict.fromkeys(seed.split("/")[2] for seed in seeds))
    fields: dict[str, object] = {
        "name": "site",
        "kind": "web",
        "licence": "CC0-1.0",
        "hosts": hosts,
        "seeds": seeds,
        "allow_loopback": True,
        "delay_s": 0.0,
        "revisit_days": (0.0, 0.0),
        "max_failed": 1.0,
        "budget": NightBudget(minutes=1.0),
        "selector": [{"kind": "whole", "name": "page"}],
        "clean": {},
        **more,
    }
    return Source.model_validate(fields)


def settings(**more: object) -> Collect:
    return config.general().collect.model_copy(
        update={"attempts": 1, "timeout_s": 20.0, "max_wait_minutes": 0.2, **more}
    )


def night(
    folder: Path, web: Web, wanted: Source, policy: OptOut | None = None, **more: object
) -> Collected:
    """One night over the small web, in this process."""
    crawl = Crawl(
        wanted, settings(**more), policy or OptOut(), folder / "raw", folder / "state", web.mirrors
    )
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    return asyncio.run(crawl.run())


def each(
    seconds: float, *found: bytes, then: Callable[[], Awaitable[None]] | None = None
) -> Callable[[], AsyncIterator[bytes]]:
    """Pieces with a pause before each but the first."""

    async def give() -> AsyncIterator[bytes]:
        for number, piece in enumerate(found):
            if number:
                await asyncio.sleep(seconds)
            yield piece

    return give


def endless(first: bytes, again: bytes, pause_s: float = 0.0) -> Callable[[], AsyncIterator[bytes]]:
    async def give() -> AsyncIterator[bytes]:
        yield first
        while True:
            await asyncio.sleep(pause_s)
            yield again

    return give


@contextlib.contextmanager
def memory() -> Iterator[list[float]]:
    """How much more memory this process held at most, in MB.

    It is what the kernel says of the peak, which is reset before.
    """
    Path("/proc/self/clear_refs").write_text("5")

    def peak(name: str) -> float:
        return next(
            int(line.split()[1]) / 1024
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith(name)
        )

    before, found = peak("VmRSS"), [0.0]
    yield found
    found[0] = peak("VmHWM") - before
