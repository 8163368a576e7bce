"""What else can be asked of the server, and how refusals and faults are answered."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from tasks.serve.admission import VERSION_HEADER, champion
from tasks.serve.completions import OpenAIRoutes
from tasks.serve.describe import described
from tasks.serve.measure import exposition
from tasks.serve.openai_errors import answered
from tasks.serve.prediction import Predictions
from tasks.serve.problem_json import Refusal, failed
from tasks.serve.version_follower import ServedApplication, VersionFollower

PAGE = Path(__file__).parent / "page"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
HTTP_WORDS = {
    404: "there is no such page; GET /v1 lists what is served",
    405: "that method is not for this page",
}
Handler = Callable[[Request], Awaitable[Response]]


def about(served: ServedApplication) -> dict[str, object]:
    """What GET /v1/APPLICATION answers. Raises Refusal while no version is loaded."""
    model, settings = champion(served), served.settings
    question, answer = model.example
    return {
        "application": served.name,
        "version": model.version,
        "digest": model.digest,
        "since": model.loaded,
        "snapshot": model.snapshot,
        "card": model.card,
        "versions": [one.version for one in served.pair.models()],
        "challenger": served.pair.challenger.version if served.pair.challenger else None,
        "limits": {
            "body_mb": settings.max_body_mb,
            "questions": settings.max_questions,
            "deadline_s": settings.deadline_s,
        },
        "example": {
            "question": question.model_dump(mode="json", exclude_unset=True),
            "answer": answer.model_dump(mode="json"),
        },
        "input": model.recipe.Input.model_json_schema(),
        "output": model.recipe.Output.model_json_schema(mode="serialization"),
    }


class Pages:
    """The answers that are no predictions."""

    def __init__(self, follower: VersionFollower, predictions: Predictions) -> None:
        self.follower, self.predictions = follower, predictions

    async def application(self, request: Request) -> Response:
        body = about(self.predictions.served(request.path_params["application"]))
        return JSONResponse(body, headers={VERSION_HEADER: str(body["version"])})

    async def applications(self, request: Request) -> Response:
        answering = [
            {"application": name, "version": served.pair.champion.version}
            for name, served in sorted(self.follower.served.items())
            if served.pair.champion
        ]
        return JSONResponse({"applications": answering})

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(described(self.follower.served))

    async def health(self, request: Request) -> Response:
        """Whether the process works: 503 only where starting it anew would help."""
        return JSONResponse(self.follower.health(), 200 if self.follower.works() else 503)

    async def ready(self, request: Request) -> Response:
        """Whether requests may be sent here: 503 until what is to be served is loaded."""
        ready = self.follower.ready()
        served = self.follower.served.items()
        loaded = sorted(name for name, one in served if one.pair.champion)
        return JSONResponse({"ready": ready, "applications": loaded}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(await asyncio.to_thread(exposition), media_type=PROMETHEUS)


def file(name: str, kind: str) -> Handler:
    async def give(request: Request) -> Response:
        return FileResponse(PAGE / name, media_type=kind)

    return give


def add_routes(
    app: Starlette,
    follower: VersionFollower,
    predictions: Predictions,
    openai: OpenAIRoutes,
) -> None:
    app.router.redirect_slashes = False  # see auth.Guard
    pages = Pages(follower, predictions)
    app.add_route("/v1/{application}/predict", predictions.predict, ["POST"])
    app.add_route("/v1/{application}/invocations", predictions.invocations, ["POST"])
    app.add_route("/invocations", predictions.invocations, ["POST"])
    app.add_route("/v1/completions", openai.completions, ["POST"])
    app.add_route("/v1/chat/completions", openai.chat, ["POST"])
    for path, handler in {
        "/v1/models": openai.models,
        "/v1/models/{model}": openai.model,
        "/v1/{application}": pages.application,
        "/v1": pages.applications,
        "/openapi.json": pages.openapi,
        "/health": pages.health,
        "/ready": pages.ready,
        "/metrics": pages.metrics,
        "/": file("page.html", "text/html"),
        "/page.js": file("page.js", "text/javascript"),
        "/page.css": file("page.css", "text/css"),
    }.items():
        app.add_route(path, handler, ["GET"])
    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, not_routed)
    app.add_exception_handler(Exception, broke)


async def refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return answered(error, request.url.path)


async def not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = HTTP_WORDS.get(error.status_code, "refused")
    refusal = Refusal(error.status_code, words, headers=dict(error.headers or {}))
    return answered(refusal, request.url.path)


async def broke(request: Request, error: Exception) -> Response:
    return answered(failed(), request.url.path)
