"""How a prediction is made of a request: admitted, read, asked, answered."""

import logging
import time
from collections.abc import Awaitable, Callable

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tasks.serve.admission import VERSION_HEADER, Admission, champion, overloaded
from tasks.serve.batch import Abandoned, Answers, Broken, Late, Overloaded, always_waiting
from tasks.serve.challenger import Challengers
from tasks.serve.invocations import records
from tasks.serve.loaded_model import LoadedModel
from tasks.serve.measure import LATENCY, REQUESTS
from tasks.serve.problem_json import Refusal, failed
from tasks.serve.protocol import HUNG_UP
from tasks.serve.reading import BodyReader
from tasks.serve.version_follower import ServedApplication, VersionFollower

log = logging.getLogger(__name__)
CLIENT_CLOSED = 499  # nginx's status for a client that hung up; in metrics alone


class Predictions:
    """POST /v1/APPLICATION/predict, and /invocations in MLflow's form."""

    def __init__(
        self,
        follower: VersionFollower,
        admission: Admission,
        challengers: Challengers,
        body_s: float,
    ) -> None:
        self.follower, self.admission, self.challengers = follower, admission, challengers
        self.body_s = body_s
        self.readers: dict[str, BodyReader] = {}

    def served(self, name: str) -> ServedApplication:
        served = self.follower.served.get(name)
        if served is None:
            there = ", ".join(sorted(self.follower.served)) or "none yet"
            raise Refusal(404, f"no application of that name is served here; there are: {there}")
        return served

    def reader(self, served: ServedApplication) -> BodyReader:
        if served.name not in self.readers:
            self.readers[served.name] = BodyReader(served.name, served.settings, self.body_s)
        return self.readers[served.name]

    def quick(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """A prediction, without the way through middleware and routes; None for anything else."""
        parts = scope["path"].split("/")
        if (
            scope["method"] == "POST"
            and len(parts) == 4
            and parts[1] == "v1"
            and parts[3] == "predict"
            and parts[2] in self.follower.served
        ):
            scope["path_params"] = {"application": parts[2]}
            return self.respond(scope, receive, send)
        return None

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self.predict(Request(scope, receive, send))
        except Exception:
            await failed().response()(scope, receive, send)
            raise
        await response(scope, receive, send)

    async def predict(self, request: Request) -> Response:
        """One question or a list of them, answered in the same form."""
        return await self.counted(request, request.path_params["application"], self.in_our_form)

    async def invocations(self, request: Request) -> Response:
        """MLflow's protocol; without a name, of the one application that is served."""
        name = request.path_params.get("application")
        if name is None and len(self.follower.served) == 1:
            [name] = self.follower.served
        if name is None:
            there = ", ".join(f"/v1/{one}/invocations" for one in sorted(self.follower.served))
            raise Refusal(404, f"several applications are served; ask one: {there or 'none yet'}")
        return await self.counted(request, name, self.in_mlflows_form)

    async def counted(
        self,
        request: Request,
        name: str,
        answer: Callable[[ServedApplication, Request], Awaitable[tuple[LoadedModel, bytes]]],
    ) -> Response:
        """An answer or a refusal, as a response that names the version, and in the metrics."""
        began = time.perf_counter()
        served = self.served(name)
        model, status = served.pair.champion, 500
        try:
            champion(served)
            model, body = await answer(served, request)
            status = 200
            return Response(body, 200, {VERSION_HEADER: model.version}, "application/json")
        except Refusal as refusal:
            status = refusal.status
            if model:
                refusal.headers.setdefault(VERSION_HEADER, model.version)
            return refusal.response()
        except (ClientDisconnect, Abandoned):
            status = CLIENT_CLOSED
            return Response(status_code=400)
        finally:
            REQUESTS.labels(name, model.version if model else "", str(status)).inc()
            LATENCY.labels(name).observe(time.perf_counter() - began)

    async def in_our_form(
        self, served: ServedApplication, request: Request
    ) -> tuple[LoadedModel, bytes]:
        def form(body: bytes) -> tuple[bytes, bool]:
            return body, body.lstrip()[:1] == b"["

        given, many = await self.answered(served, request, form)
        body = b"[" + b",".join(given.bodies) + b"]" if many else given.bodies[0]
        return given.model, body

    async def in_mlflows_form(
        self, served: ServedApplication, request: Request
    ) -> tuple[LoadedModel, bytes]:
        given, _ = await self.answered(served, request, lambda body: (records(body), True))
        return given.model, b'{"predictions":[' + b",".join(given.bodies) + b"]}"

    async def answered(
        self,
        served: ServedApplication,
        request: Request,
        form: Callable[[bytes], tuple[bytes, bool]],
    ) -> tuple[Answers, bool]:
        """Admit, read, check, ask; the answers, and whether a list was asked."""
        self.admission.check(served)
        busy, reader = self.admission.busy, self.reader(served)
        busy[served.name] = busy.get(served.name, 0) + 1
        try:
            version = asked_version(served, request.query_params.get("version"))
            body = await reader.body(request)
            content, many = form(body)
            hung_up = request.scope.get("extensions", {}).get(HUNG_UP, always_waiting)
            if hung_up():
                raise Abandoned
            questions = await reader.questions(version or champion(served), content, many)
            version = version or self.challengers.canary(served, request, body)
            began = time.perf_counter()
            given = await self.ask(served, questions, version, hung_up)
        finally:
            busy[served.name] -= 1
        took_ms = (time.perf_counter() - began) * 1e3
        self.challengers.afterwards(served, body, questions, given, took_ms)
        return given, many

    async def ask(
        self,
        served: ServedApplication,
        questions: list[BaseModel],
        version: LoadedModel | None,
        hung_up: Callable[[], bool],
    ) -> Answers:
        """Ask the model; what keeps it from answering becomes a Refusal."""
        challenger = version is not None and version is served.pair.challenger
        try:
            batcher = self.admission.batcher(served, challenger)
            return await batcher.ask(questions, version, hung_up)
        except Overloaded as error:
            raise overloaded(served.name, error.after_s) from None
        except Late:
            words = f"{served.name} could not answer within {served.settings.deadline_s:g} s"
            raise Refusal(503, words, headers={"Retry-After": "2"}) from None
        except Broken as error:
            reason = str(error) or "its log says why"
            raise Refusal(500, f"{served.name} failed on this question: {reason}") from None

    def close(self) -> None:
        for reader in self.readers.values():
            reader.close()


def asked_version(served: ServedApplication, version: str | None) -> LoadedModel | None:
    """The model of a version that was asked for; None where none was."""
    if version is None:
        return None
    for model in served.pair.models():
        if model.version == version:
            return model
    there = ", ".join(model.version for model in served.pair.models())
    raise Refusal(404, f"that version of {served.name} is not loaded here; there are: {there}")
