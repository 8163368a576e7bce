"""The application that uvicorn runs: its parts, put together, and its beginning and end."""

import asyncio
import ctypes
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from tasks.serve.admission import VERSION_HEADER, Admission
from tasks.serve.auth import Guard
from tasks.serve.challenger import Challengers
from tasks.serve.completions import OpenAIRoutes
from tasks.serve.prediction import Predictions
from tasks.serve.routes import add_routes
from tasks.serve.telemetry import traced
from tasks.serve.version_follower import VersionFollower
from tidemill.engines.config.schema import Serving

YOUNG = 10_000  # objects between two looks for garbage; 700 by default
REQUEST_HEADERS = ["Authorization", "Content-Type", "Tidemill-Key", "X-Request-Id"]
ANSWER_HEADERS = [VERSION_HEADER, "X-Request-Id", "Retry-After"]


class Server:
    """What one worker holds: who follows the versions, and what answers by them."""

    def __init__(self, follower: VersionFollower, settings: Serving) -> None:
        self.follower = follower
        self.admission = Admission(follower, bool(settings.cors_origins))
        self.challengers = Challengers(self.admission)
        self.predictions = Predictions(follower, self.admission, self.challengers, settings.body_s)
        self.openai = OpenAIRoutes(follower, settings.body_s)
        self.asgi: ASGIApp
        self.send_traces: Callable[[], None]

    def close(self) -> None:
        self.follower.stopping.set()
        self.admission.close()
        self.predictions.close()
        self.openai.close()
        self.challengers.close()
        self.send_traces()


async def settled(follower: VersionFollower) -> None:
    """Wait until models are loaded, then keep the garbage collector from what is there.

    Looking through it stops everything for 40 to 90 ms.
    """
    while not follower.looked:
        await asyncio.sleep(0.1)
    gc.collect()
    gc.freeze()
    ctypes.CDLL(None).malloc_trim(0)  # what loading took and needs no more
    gc.set_threshold(YOUNG, 20, 20)


def make(
    names: tuple[str, ...],
    settings: Serving,
    follower: VersionFollower | None = None,
    first_s: float = 0.0,
) -> Server:
    """One worker; its `asgi` is the application. Its follower begins when that starts.

    One of several workers takes no connection for `first_s` seconds, or until its models are
    loaded: the others answer meanwhile.
    """
    server = Server(follower or VersionFollower(names, settings.poll_s), settings)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        server.follower.start()
        until = time.monotonic() + first_s
        while time.monotonic() < until and not server.follower.first_look_done():
            await asyncio.sleep(0.05)
        settling = asyncio.create_task(settled(server.follower))
        try:
            yield
        finally:
            settling.cancel()
            await asyncio.to_thread(server.close)

    app = Starlette(lifespan=life)
    add_routes(app, server.follower, server.predictions, server.openai)
    guard = Guard(app, server.predictions.quick)
    server.admission.guard = guard
    inner = with_cors(guard, settings.cors_origins) if settings.cors_origins else guard
    server.asgi, server.send_traces = traced(inner)
    return server


def with_cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """Pages of these origins may ask; a browser's preflight needs no token."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=REQUEST_HEADERS,
        expose_headers=ANSWER_HEADERS,
    )
