"""A request's body, read within bounds of time and size, and its questions, strictly by schema."""

import asyncio
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from tasks.serve.loaded_model import LoadedModel
from tasks.serve.problem_json import Refusal, invalid
from tidemill.engines.config.schema import Serve

LARGE = 64_000  # bytes; a larger body is decoded by a thread, so that others do not wait
GZIP = 16 + zlib.MAX_WBITS  # zlib's number for "with gzip's head and checksum"
CLOSE = {"Connection": "close"}


class DuplicateKey(ValueError):
    """A name that an object has twice: readers differ in which of the two they take."""


class BodyReader:
    """One application's bodies; those whose checks are costly are decoded in a thread of its own.

    A picture is decoded to see that it is one, which takes up to seconds: never in the event loop,
    and one at a time, so that a client's pictures cost others no more than one thread.
    """

    def __init__(self, application: str, settings: Serve, body_s: float) -> None:
        self.settings, self.body_s = settings, body_s
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=f"read-{application}")

    async def questions(self, model: LoadedModel, body: bytes, many: bool) -> list[BaseModel]:
        """The questions of a body. Raises Refusal."""
        most = self.settings.max_questions
        if len(body) > LARGE or model.costly_checks:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.thread, parse, model, body, many, most)
        return parse(model, body, many, most)

    async def body(self, request: Request) -> bytes:
        """The body, unpacked where it is gzip. Raises Refusal where it is too slow or too large."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(415, "the body must be application/json")
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", "gzip"):
            raise Refusal(
                415,
                "the body is packed in a way that is not read here; send gzip, or no encoding",
                headers={"Accept-Encoding": "gzip"},
            )
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self.most_bytes:
            raise self.too_large()
        body = await self.received(request)
        return self.unpacked(body) if coding == "gzip" else body

    @property
    def most_bytes(self) -> int:
        return int(self.settings.max_body_mb * 1e6)

    def too_large(self) -> Refusal:
        return Refusal(
            413, f"the body has more than {self.settings.max_body_mb:g} MB", headers=dict(CLOSE)
        )

    async def received(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self.body_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self.most_bytes:
                        raise self.too_large()
        except TimeoutError:
            words = f"the body did not come within {self.body_s:g} s"
            raise Refusal(408, words, headers=dict(CLOSE)) from None
        return bytes(body)

    def unpacked(self, packed: bytes) -> bytes:
        """Gzip unpacked, to the size that any body may have and no further."""
        unpacker = zlib.decompressobj(GZIP)
        try:
            body = unpacker.decompress(packed, self.most_bytes + 1)
        except zlib.error:
            raise Refusal(400, "the body is not gzip, as its Content-Encoding says") from None
        if len(body) > self.most_bytes:
            raise self.too_large()
        if not unpacker.eof or unpacker.unused_data:
            raise Refusal(400, "the body is not one whole gzip member")
        return body

    def close(self) -> None:
        self.thread.shutdown(wait=False, cancel_futures=True)


def parse(model: LoadedModel, body: bytes, many: bool, most: int) -> list[BaseModel]:
    """The questions, strictly by their schema: a number in quotes is text. Raises Refusal."""
    # Python's JSON knows NaN and Infinity, JSON does not.
    if many or b"NaN" in body or b"Infinity" in body:
        try:
            whole = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise Refusal(400, f"the body is not JSON in UTF-8: {error}") from None
        # Before each is looked at: what is wrong with half a million takes 460 MB.
        if many and not 0 < len(whole) <= most:
            words = f"a list of {len(whole)} questions; between 1 and {most} can be asked at once"
            raise Refusal(422, words)
    try:
        questions: list[BaseModel] = (
            model.many.validate_json(body, strict=True)
            if many
            else [model.one.validate_json(body, strict=True)]
        )
    except ValidationError as error:
        raise invalid(error, many) from None
    refuse_duplicate_keys(body)
    for place, question in enumerate(questions):
        if why := model.unfit(question):
            raise Refusal(422, f"question {place + 1}: {why}" if many else why)
    return questions


def refuse_duplicate_keys(body: bytes) -> None:
    """Raise Refusal where an object names a key twice (RFC 8259, 4: readers then differ)."""

    def once(pairs: list[tuple[str, Any]]) -> None:
        names = {name for name, _ in pairs}
        if len(names) < len(pairs):
            raise DuplicateKey

    try:
        json.loads(body, object_pairs_hook=once)
    except DuplicateKey:
        raise Refusal(400, "an object of the body has a key twice; give each once") from None
