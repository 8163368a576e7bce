"""The application that uvicorn runs: what can be asked, and how each answer is made."""

import asyncio
import ctypes
import gc
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tasks.serve.auth import SAFE, Door
from tasks.serve.batch import Answered, Batcher, Broken, Full, Late
from tasks.serve.describe import described
from tasks.serve.loaded_model import Slot, share_of
from tasks.serve.measure import LATENCY, REQUESTS, exposition
from tasks.serve.problem_json import Refusal, invalid
from tasks.serve.sampling import Notebook
from tasks.serve.shadow import Contest
from tasks.serve.version_follower import Held, Keeper
from tidemill.engines.config.schema import Serving

HERE = Path(__file__).parent
LARGE = 64_000  # bytes; a larger body is read by a thread, so that others are not kept waiting
YOUNG = 10_000  # objects between two looks for garbage; 700 as it comes
HEADER = "Tidemill-Version"


class Server:
    """What one worker holds: the keeper of versions, and a queue for each application."""

    def __init__(
        self, names: tuple[str, ...], settings: Serving, keeper: Keeper | None = None
    ) -> None:
        self.settings = settings
        self.keeper = keeper or Keeper(names, settings.poll_s)
        self.batchers: dict[tuple[str, bool], Batcher] = {}
        self.contests: dict[str, Contest] = {}
        self.notebooks: dict[str, Notebook] = {}
        self.busy: dict[
            str, int
        ] = {}  # requests whose body is being read or whose answer is being made
        self.background: set[asyncio.Task[None]] = set()
        self.coming: dict[
            str, int
        ] = {}  # requests let in since the loop's last round, which will be in the queue after this one
        self.told: tuple[tuple[str, str, int], bytes] | None = None  # the last no, as bytes
        self.door: Door

    def held(self, name: str) -> Held:
        found = self.keeper.held.get(name)
        if found is None:
            there = ", ".join(sorted(self.keeper.held)) or "none yet"
            raise Refusal(404, f"no application of that name is served here; there are: {there}")
        return found

    def champion(self, name: str) -> Slot:
        found = self.held(name).pair.champion
        if found is None:
            raise Refusal(503, f"no version of {name} answers yet", headers={"Retry-After": "5"})
        return found

    def batcher(self, held: Held, challenger: bool = False) -> Batcher:
        key = (held.name, challenger)
        if key not in self.batchers:
            self.batchers[key] = Batcher(
                f"{held.name} challenger" if challenger else held.name,
                held.settings,
                lambda: self.champion(held.name),
            )
        return self.batchers[key]

    def full(self, url: bytes, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """The whole answer to a POST that there is no room for; None for whatever else is to be said, which is said the long way.

        Called with a request's head alone. What is wrong with a request that is turned away is told when it comes again.
        """
        held = (
            self.keeper.held.get(url[4:-8].decode("latin-1"))
            if url.startswith(b"/v1/") and url.endswith(b"/predict")
            else None
        )
        if held is None:
            return None
        name = held.name
        try:
            if self.busy.get(name, 0) >= held.settings.queue:
                raise Full(1)
            self.batcher(held).room(before=self.coming.get(name, 0))
        except Full as full:
            slot, told = held.pair.champion, dict(headers)
            length = told.get(b"content-length", b"")
            if (
                slot is None
                or not length.isdigit()
                or int(length) > held.settings.max_body_mb * 1e6
                or b"expect" in told
                or self.door.refusal(url.decode("latin-1"), told)
            ):
                return None
            REQUESTS.labels(name, slot.version, "429").inc()
            return self.answer(busy(name, full.after_s), slot)
        if not self.coming:
            asyncio.get_running_loop().call_soon(self.coming.clear)
        self.coming[name] = self.coming.get(name, 0) + 1
        return None

    def answer(self, refusal: Refusal, slot: Slot) -> bytes:
        """A refusal as it goes over the wire; made once a second, since thousands are the same."""
        key = (refusal.error, slot.version, int(time.time()))
        if self.told is None or self.told[0] != key:
            refusal.headers[HEADER] = slot.version
            response = refusal.response()
            head = [(b"date", formatdate(usegmt=True).encode()), *response.raw_headers, *SAFE]
            self.told = (
                key,
                b"".join(
                    [
                        b"HTTP/1.1 %d %s\r\n"
                        % (refusal.status, HTTPStatus(refusal.status).phrase.encode()),
                        *(b"%s: %s\r\n" % item for item in head),
                        b"\r\n",
                        bytes(response.body),
                    ]
                ),
            )
        return self.told[1]

    def quick(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """A prediction, without the way through middleware and routes; None for anything else."""
        part = scope["path"].split("/")
        if (
            scope["method"] == "POST"
            and len(part) == 4
            and part[1] == "v1"
            and part[3] == "predict"
            and part[2] in self.keeper.held
        ):
            scope["path_params"] = {"application": part[2]}
            return self.said(scope, receive, send)
        return None

    async def said(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self.predict(Request(scope, receive, send))
        except Exception:
            await broken().response()(scope, receive, send)
            raise
        await response(scope, receive, send)

    async def predict(self, request: Request) -> Response:
        name = request.path_params["application"]
        began = time.perf_counter()
        held = self.held(name)
        slot, status = held.pair.champion, 500
        try:
            self.champion(name)
            found, many = await self.answered(held, request)
            slot, status = found.slot, 200
            body = b"[" + b",".join(found.bodies) + b"]" if many else found.bodies[0]
            return Response(body, 200, {HEADER: slot.version}, "application/json")
        except Refusal as refusal:
            status = refusal.status
            if slot:
                refusal.headers.setdefault(HEADER, slot.version)
            return refusal.response()
        except ClientDisconnect:
            status = 499
            return Response(status_code=400)
        finally:
            REQUESTS.labels(name, slot.version if slot else "", str(status)).inc()
            LATENCY.labels(name).observe(time.perf_counter() - began)

    async def answered(self, held: Held, request: Request) -> tuple[Answered, bool]:
        """Read, check, ask; the answer and whether a list was asked for."""
        settings = held.settings
        self.room(held)
        self.busy[held.name] = self.busy.get(held.name, 0) + 1
        try:
            wanted = self.wanted(held, request.query_params.get("version"))
            body = await self.body(request, settings.max_body_mb)
            many = body.lstrip()[:1] == b"["
            slot = wanted or self.champion(held.name)
            if len(body) > LARGE:
                questions = await asyncio.to_thread(read, slot, body, many, settings.max_questions)
            else:
                questions = read(slot, body, many, settings.max_questions)
            if wanted is None:
                wanted = self.canary(held, request, body)
            began = time.perf_counter()
            try:
                found = await self.batcher(
                    held, challenger=wanted is not None and wanted is held.pair.challenger
                ).ask(questions, wanted)
            except Full as full:
                raise busy(held.name, full.after_s) from None
            except Late:
                raise Refusal(
                    503,
                    f"{held.name} could not answer within {settings.deadline_s:g} s",
                    headers={"Retry-After": "2"},
                ) from None
            except Broken:
                raise Refusal(500, f"{held.name} failed on this question; it was noted") from None
        finally:
            self.busy[held.name] -= 1
        self.afterwards(held, body, questions, found, (time.perf_counter() - began) * 1e3)
        return found, many

    def room(self, held: Held) -> None:
        """Turn a request away before its body is read, where too many are in the house."""
        if self.busy.get(held.name, 0) >= held.settings.queue:
            raise busy(held.name, 1)
        try:
            self.batcher(held).room()
        except Full as full:
            raise busy(held.name, full.after_s) from None

    def wanted(self, held: Held, version: str | None) -> Slot | None:
        """The slot of a version that was asked for; None where none was."""
        if version is None:
            return None
        for slot in held.pair.slots():
            if slot.version == version:
                return slot
        raise Refusal(
            404,
            f"that version of {held.name} is not loaded here; there are: {', '.join(slot.version for slot in held.pair.slots())}",
        )

    async def body(self, request: Request, most_mb: float) -> bytes:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(415, "the body must be application/json")
        most = int(most_mb * 1e6)
        large = Refusal(
            413, f"the body has more than {most_mb:g} MB", headers={"Connection": "close"}
        )
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise large
        found = bytearray()
        try:
            async with asyncio.timeout(self.settings.body_s):
                async for chunk in request.stream():
                    found += chunk
                    if len(found) > most:
                        raise large
        except TimeoutError:
            raise Refusal(
                408,
                f"the body did not come within {self.settings.body_s:g} s",
                headers={"Connection": "close"},
            ) from None
        return bytes(found)

    def canary(self, held: Held, request: Request, body: bytes) -> Slot | None:
        """The challenger, for a stable share of the clients that name themselves, else of the questions."""
        slot = held.pair.challenger
        if held.settings.challenger != "canary" or slot is None:
            return None
        key = request.headers.get("tidemill-key")
        return (
            slot
            if share_of(key.encode("latin-1", "replace") if key else body) < held.settings.share
            else None
        )

    def afterwards(
        self, held: Held, body: bytes, questions: list[BaseModel], found: Answered, ms: float
    ) -> None:
        """What is not part of the answer: notes for drift, and the challenger's shadow."""
        if held.settings.sample:
            if held.name not in self.notebooks:
                self.notebooks[held.name] = Notebook(held.name, held.settings)
            self.notebooks[held.name].note(found.slot, questions, found.answers)
        champion, challenger = held.pair.champion, held.pair.challenger
        if (
            held.settings.challenger == "off"
            or champion is None
            or challenger is None
            or found.slot not in (champion, challenger)
        ):
            return
        contest = self.contests.get(held.name)
        if contest is None or contest.pair != (champion.version, challenger.version):
            if contest:
                contest.report()
            contest = self.contests[held.name] = Contest(
                held.name, held.settings.challenger, champion.version, challenger.version
            )
        contest.latency("challenger" if found.slot is challenger else "champion", ms)
        if (
            held.settings.challenger == "shadow"
            and found.slot is champion
            and share_of(body) < held.settings.share
        ):
            task = asyncio.create_task(self.shadow(held, contest, challenger, questions, found))
            self.background.add(task)
            task.add_done_callback(self.background.discard)

    async def shadow(
        self,
        held: Held,
        contest: Contest,
        challenger: Slot,
        questions: list[BaseModel],
        found: Answered,
    ) -> None:
        began = time.perf_counter()
        try:
            theirs = await self.batcher(held, challenger=True).ask(questions, challenger)
        except (Full, Late):
            return  # the shadow never costs the champion anything: what it has no time for is left out
        except Broken:
            contest.failed += 1
            return
        contest.latency("challenger", (time.perf_counter() - began) * 1e3)
        contest.compare(
            [
                challenger.recipe.same(one, two)
                for one, two in zip(found.answers, theirs.answers, strict=True)
            ]
        )

    def about(self, name: str) -> dict[str, Any]:
        held = self.held(name)
        slot = self.champion(name)
        return {
            "application": name,
            "version": slot.version,
            "digest": slot.digest,
            "since": slot.loaded,
            "snapshot": slot.snapshot,
            "card": slot.card,
            "versions": [one.version for one in held.pair.slots()],
            "challenger": held.pair.challenger.version if held.pair.challenger else None,
            "limits": {
                "body_mb": held.settings.max_body_mb,
                "questions": held.settings.max_questions,
                "deadline_s": held.settings.deadline_s,
            },
            "example": {
                "question": slot.example[0].model_dump(mode="json", exclude_unset=True),
                "answer": slot.example[1].model_dump(mode="json"),
            },
            "input": slot.recipe.Input.model_json_schema(),
            "output": slot.recipe.Output.model_json_schema(mode="serialization"),
        }

    def close(self) -> None:
        self.keeper.stopping.set()
        for batcher in self.batchers.values():
            batcher.close()
        for notebook in self.notebooks.values():
            notebook.flush()
        for contest in self.contests.values():
            contest.report(wait=True)


def broken() -> Refusal:
    return Refusal(500, "the server failed on this request; it was noted")


def busy(name: str, after_s: int) -> Refusal:
    return Refusal(
        429,
        f"{name} has too many questions waiting; try again in {after_s} s",
        headers={"Retry-After": str(after_s)},
    )


def read(slot: Slot, body: bytes, many: bool, most: int) -> list[BaseModel]:
    """The questions of a body, strictly by their schema: a number in quotes is text. Raises Refusal."""
    if (
        many or b"NaN" in body or b"Infinity" in body
    ):  # Python's JSON knows these two, JSON does not
        try:
            whole = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise Refusal(400, f"the body is not JSON in UTF-8: {error}") from None
        # Before each is looked at: what is wrong with half a million takes 460 MB.
        if many and not 0 < len(whole) <= most:
            raise Refusal(
                422, f"a list of {len(whole)} questions; between 1 and {most} can be asked at once"
            )
    try:
        return (
            slot.many.validate_json(body, strict=True)
            if many
            else [slot.one.validate_json(body, strict=True)]
        )
    except ValidationError as error:
        raise invalid(error, many) from None


async def settled(keeper: Keeper) -> None:
    """Wait until models are loaded, then keep the garbage collector from what is there: looking through it stops everything for 40 to 90 ms."""
    while not keeper.looked:
        await asyncio.sleep(0.1)
    gc.collect()
    gc.freeze()
    ctypes.CDLL(None).malloc_trim(0)  # what loading took and needs no more
    gc.set_threshold(YOUNG, 20, 20)


def make(
    names: tuple[str, ...], settings: Serving, keeper: Keeper | None = None, first_s: float = 0.0
) -> Server:
    """One worker; its `door` is the ASGI application. Its keeper begins when that starts.

    One of several workers takes no connection for `first_s` seconds, or until its models are loaded: the others answer meanwhile.
    """
    server = Server(names, settings, keeper)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        server.keeper.start()
        until = time.monotonic() + first_s
        while time.monotonic() < until and not server.keeper.looked and not server.keeper.away:
            await asyncio.sleep(0.05)
        settling = asyncio.create_task(settled(server.keeper))
        try:
            yield
        finally:
            settling.cancel()
            await asyncio.to_thread(server.close)

    app = Starlette(lifespan=life)

    async def about(request: Request) -> Response:
        found = server.about(request.path_params["application"])
        return JSONResponse(found, headers={HEADER: found["version"]})

    async def served(request: Request) -> Response:
        return JSONResponse(
            {
                "applications": [
                    {"application": name, "version": held.pair.champion.version}
                    for name, held in sorted(server.keeper.held.items())
                    if held.pair.champion
                ]
            }
        )

    async def openapi(request: Request) -> Response:
        return JSONResponse(described(server.keeper.held))

    async def health(request: Request) -> Response:
        return JSONResponse(server.keeper.health())

    async def ready(request: Request) -> Response:
        yes = server.keeper.ready()
        return JSONResponse(
            {
                "ready": yes,
                "applications": sorted(
                    name for name, held in server.keeper.held.items() if held.pair.champion
                ),
            },
            200 if yes else 503,
        )

    async def metrics(request: Request) -> Response:
        return Response(
            await asyncio.to_thread(exposition),
            media_type="text/plain; version=0.0.4; charset=utf-8",
        )

    def page(name: str, kind: str) -> Any:
        async def give(request: Request) -> Response:
            return FileResponse(HERE / "page" / name, media_type=kind)

        return give

    app.add_route("/v1/{application}/predict", server.predict, ["POST"])
    app.add_route("/v1/{application}", about, ["GET"])
    app.add_route("/v1", served, ["GET"])
    app.add_route("/openapi.json", openapi, ["GET"])
    app.add_route("/health", health, ["GET"])
    app.add_route("/ready", ready, ["GET"])
    app.add_route("/metrics", metrics, ["GET"])
    app.add_route("/", page("page.html", "text/html"), ["GET"])
    app.add_route("/page.js", page("page.js", "text/javascript"), ["GET"])
    app.add_route("/page.css", page("page.css", "text/css"), ["GET"])

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return error.response()

    async def lost(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = {
            404: "there is no such page; GET /v1 tells what is served",
            405: "that method is not for this page",
        }.get(error.status_code, "refused")
        return Refusal(error.status_code, words, headers=dict(error.headers or {})).response()

    async def failed(request: Request, error: Exception) -> Response:
        return broken().response()

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, lost)
    app.add_exception_handler(Exception, failed)
    server.door = Door(app, server.quick)
    return server
