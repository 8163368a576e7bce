"""OpenAI's routes, for applications that write text: completions, chat and models.

Who asks by an OpenAI client names an application as its model, APPLICATION@VERSION for a version
that is loaded. What is refused is an error of OpenAI's form.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from tasks.serve.admission import VERSION_HEADER, champion, overloaded
from tasks.serve.batch import Abandoned, Broken, Late, Overloaded, always_waiting
from tasks.serve.completion_form import ChatForm, CompletionForm, Form
from tasks.serve.loaded_model import LoadedModel
from tasks.serve.measure import LATENCY, REQUESTS
from tasks.serve.openai_errors import ModelRefusal, error_body, in_openais_form
from tasks.serve.openai_schema import ChatRequest, CompletionRequest, GenerationRequest
from tasks.serve.prediction import CLIENT_CLOSED, asked_version
from tasks.serve.problem_json import Refusal, invalid
from tasks.serve.protocol import HUNG_UP
from tasks.serve.reading import LARGE, BodyReader, refuse_duplicate_keys
from tasks.serve.version_follower import ServedApplication, VersionFollower
from tasks.serve.writing import TextWriter, WritingProgress
from tidemill.engines.config.schema import Serve
from tidemill.families.generator import Draft, Generates, SamplingOptions
from tidemill.text.chat import TemplateError

A = TypeVar("A", bound=GenerationRequest)


@dataclass(frozen=True)
class Target:
    """Who answers: an application, and the version of it that was named."""

    served: ServedApplication
    model: LoadedModel
    generator: Generates


class OpenAIRoutes:
    def __init__(self, follower: VersionFollower, body_s: float) -> None:
        self.follower = follower
        self.reader = BodyReader("completions", Serve(), body_s)
        self.writers: dict[str, TextWriter] = {}

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        return JSONResponse({"object": "list", "data": [described(one) for one in self.targets()]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/MODEL."""
        try:
            return JSONResponse(described(self.target(request.path_params["model"])))
        except Refusal as refusal:
            return in_openais_form(refusal)

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        return await self.answer(request, CompletionRequest, completion_drafts, CompletionForm)

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        return await self.answer(request, ChatRequest, chat_drafts, ChatForm)

    # Who answers -------------------------------------------------------------------------

    def targets(self) -> list[Target]:
        """The champions that write text."""
        return [
            Target(served, served.pair.champion, served.pair.champion.session)
            for _, served in sorted(self.follower.served.items())
            if served.pair.champion and isinstance(served.pair.champion.session, Generates)
        ]

    def target(self, model: str) -> Target:
        """By a model's name in a request. Raises Refusal where there is none of it."""
        name, _, version = model.partition("@")
        served = self.follower.served.get(name)
        if served is None:
            there = ", ".join(target.served.name for target in self.targets()) or "none yet"
            words = f"no model of that name is served here; there are: {there}"
            raise ModelRefusal(404, words, "model", "model_not_found")
        loaded = asked_version(served, version or None) or champion(served)
        if not isinstance(loaded.session, Generates):
            words = f"{name} does not write text; ask it by POST /v1/{name}/predict"
            raise ModelRefusal(404, words, "model", "model_not_found")
        return Target(served, loaded, loaded.session)

    def writer(self, served: ServedApplication) -> TextWriter:
        if served.name not in self.writers:
            self.writers[served.name] = TextWriter(served.name, served.settings)
        return self.writers[served.name]

    # An answer ---------------------------------------------------------------------------

    async def answer(
        self,
        request: Request,
        kind: type[A],
        drafts_of: Callable[[Target, A], list[Draft]],
        form_of: Callable[[str, LoadedModel, Generates, A], Form],
    ) -> Response:
        """Read a request, begin to write, and answer it whole or piece by piece."""
        began = time.perf_counter()
        try:
            asked = await self.read(request, kind)
            target = self.target(asked.model)
        except Refusal as refusal:
            return in_openais_form(refusal)
        except ClientDisconnect:
            return Response(status_code=400)
        count = counting(target, began)
        try:
            drafts = await asyncio.to_thread(drafts_of, target, asked)
            form = form_of(asked.model, target.model, target.generator, asked)
            return await self.written(request, target, drafts, form, count)
        except Refusal as refusal:
            count(refusal.status)
            refusal.headers.setdefault(VERSION_HEADER, target.model.version)
            return in_openais_form(refusal)
        except Abandoned:
            count(CLIENT_CLOSED)
            return Response(status_code=400)
        except Broken:
            count(500)
            return in_openais_form(broken(target.served.name))

    async def written(
        self,
        request: Request,
        target: Target,
        drafts: list[Draft],
        form: Form,
        count: Callable[[int], None],
    ) -> Response:
        """Write the texts; the answer, or the beginning of a stream of it."""
        hung_up = request.scope.get("extensions", {}).get(HUNG_UP, always_waiting)
        headers = {VERSION_HEADER: target.model.version}
        progress = self.writer(target.served).write(target.model, drafts, hung_up)
        # The first step is awaited, so that a refusal still has its own status.
        last = await self.begun(target, progress)
        if form.asked.stream:
            pieces = streamed(form, drafts, progress, last, count)
            return StreamingResponse(pieces, 200, headers, "text/event-stream")
        async for now in progress:
            last = now
        count(200)
        return JSONResponse(form.whole(drafts, last), 200, headers)

    async def begun(
        self, target: Target, progress: AsyncIterator[list[WritingProgress]]
    ) -> list[WritingProgress]:
        """How far the texts have come after the first step. Raises Refusal."""
        try:
            return await anext(progress)
        except Overloaded as error:
            raise overloaded(target.served.name, error.after_s) from None
        except Late:
            limit = target.served.settings.deadline_s
            words = f"{target.served.name} could not begin to answer within {limit:g} s"
            raise Refusal(503, words, headers={"Retry-After": "2"}) from None

    async def read(self, request: Request, kind: type[A]) -> A:
        """The request's body by its schema. Raises Refusal."""
        most = max((target.served.settings.max_body_mb for target in self.targets()), default=1.0)
        self.reader.settings = Serve(max_body_mb=most)
        body = await self.reader.body(request)
        if len(body) <= LARGE:
            return parsed(kind, body)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.reader.thread, parsed, kind, body)

    def close(self) -> None:
        self.reader.close()
        for writer in self.writers.values():
            writer.close()


async def streamed(
    form: Form,
    drafts: list[Draft],
    progress: AsyncGenerator[list[WritingProgress]],
    first: list[WritingProgress],
    count: Callable[[int], None],
) -> AsyncIterator[bytes]:
    """Server-sent events, the last of which is [DONE]. A failure midway is an event too."""
    status = CLIENT_CLOSED
    try:
        form.begin(drafts)
        for piece in form.more(drafts, first):
            yield event(piece)
        async for now in progress:
            for piece in form.more(drafts, now):
                yield event(piece)
        for piece in form.end(drafts):
            yield event(piece)
        yield b"data: [DONE]\n\n"
        status = 200
    except Broken:
        status = 500
        yield event(error_body(broken("the model")))
    except Abandoned:
        pass
    finally:
        count(status)
        await progress.aclose()


def parsed(kind: type[A], body: bytes) -> A:
    """A body by its schema. Raises Refusal."""
    try:
        asked = kind.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise invalid(error, many=False) from None
    refuse_duplicate_keys(body)
    for field, needed in asked.alone():
        words = f"{field} means nothing without {needed}; send both, or leave it out"
        raise ModelRefusal(400, words, field)
    return asked


def event(body: Mapping[str, Any]) -> bytes:
    """In ASCII: some clients break lines at U+2028 and U+0085 too, within a piece's text."""
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def counting(target: Target, began: float) -> Callable[[int], None]:
    """A function that puts an answer's status and duration into the metrics."""

    def count(status: int) -> None:
        REQUESTS.labels(target.served.name, target.model.version, str(status)).inc()
        LATENCY.labels(target.served.name).observe(time.perf_counter() - began)

    return count


def described(target: Target) -> dict[str, object]:
    return {
        "id": target.served.name,
        "object": "model",
        "created": int(datetime.fromisoformat(target.model.loaded).timestamp()),
        "owned_by": "tidemill",
        "version": target.model.version,
        "max_model_len": target.generator.context,
        "chat": target.generator.chat is not None,
    }


# What is to be written -------------------------------------------------------------------


def completion_drafts(target: Target, asked: CompletionRequest) -> list[Draft]:
    """`n` texts for each prompt. Raises Refusal."""
    generator = target.generator
    refuse_too_many(target, asked, len(asked.prompts))
    prompts = [
        generator.prompt(prompt) if isinstance(prompt, str) else known(generator, prompt)
        for prompt in asked.prompts
    ]
    return drafted(target, asked, prompts, echoed=bool(asked.echo))


def chat_drafts(target: Target, asked: ChatRequest) -> list[Draft]:
    """`n` answers to a conversation. Raises Refusal."""
    if target.generator.chat is None:
        name = target.served.name
        words = f"{name} has no chat template: it continues texts; ask it by POST /v1/completions"
        raise ModelRefusal(400, words, "messages")
    refuse_too_many(target, asked, prompts=1)
    try:
        prompt = target.generator.conversation(asked.conversation)
    except TemplateError as error:
        raise ModelRefusal(400, str(error), "messages") from None
    return drafted(target, asked, [prompt])


def refuse_too_many(target: Target, asked: GenerationRequest, prompts: int) -> None:
    answers, most = (asked.n or 1) * prompts, target.served.settings.max_questions
    if answers > most:
        words = f"{answers} answers are asked for; {most} can be at once"
        raise ModelRefusal(400, words, "n" if prompts == 1 else "prompt")


def known(generator: Generates, tokens: list[int]) -> list[int]:
    size = generator.vocabulary_size()
    if max(tokens) >= size:
        words = f"prompt: token {max(tokens)} is none of the model's {size}"
        raise ModelRefusal(400, words, "prompt")
    return tokens


def drafted(
    target: Target, asked: GenerationRequest, prompts: list[list[int]], echoed: bool = False
) -> list[Draft]:
    """Answers to be written to these prompts. Raises Refusal where one leaves no room for it."""
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    return [
        Draft(prompt, options(target.generator, asked, prompt, seed + copy, echoed))
        for prompt in prompts
        for copy in range(asked.n or 1)
    ]


def options(
    generator: Generates, asked: GenerationRequest, prompt: list[int], seed: int, echoed: bool
) -> SamplingOptions:
    room = generator.context - len(prompt)
    most_tokens = room if asked.most_tokens is None else asked.most_tokens
    # An answer of no tokens needs no room, and one more token is read than is written.
    if most_tokens > room or room < 0 or (room == 0 and asked.most_tokens is None):
        words = (
            f"the model's context has {generator.context} tokens: the prompt's {len(prompt)} and "
            f"the answer's {max(most_tokens, 1)} are more; ask for a shorter text"
        )
        param = "messages" if isinstance(asked, ChatRequest) else "prompt"
        raise ModelRefusal(400, words, param, "context_length_exceeded")
    return SamplingOptions(
        max_tokens=most_tokens,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_k=asked.top_k,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        repetition_penalty=asked.repetition_penalty,
        presence_penalty=asked.presence_penalty or 0.0,
        frequency_penalty=asked.frequency_penalty or 0.0,
        stop=asked.stops,
        seed=seed % 2**64,
        likeliest=asked.likeliest,
        prompt_logprobs=echoed and asked.likeliest is not None,
    )


# Errors ----------------------------------------------------------------------------------


def broken(name: str) -> Refusal:
    return Refusal(500, f"{name} failed on this question: its log says why")
