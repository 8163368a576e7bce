"""Why a request cannot be answered: the field, the kind of what it gave, and what was expected.

Never the value itself, a path, a stack, or anything of another request.
"""

import asyncio
import json
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

LINGER_S, LINGER_BYTES = 2.0, 32_000_000
REMEDIES = {
    400: "send JSON in UTF-8 as /openapi.json describes it",
    401: "send the header Authorization: Bearer TOKEN",
    404: "GET /v1 lists what is served",
    405: "the header Allow names the methods there are",
    408: "send the body faster, or a smaller one",
    413: "send fewer or smaller questions; GET /v1/APPLICATION has the limits",
    415: "send Content-Type: application/json, packed with gzip or not at all",
    421: "call the server by 127.0.0.1 or localhost",
    422: "send what /openapi.json describes; fields says what is wrong",
    429: "ask again after the seconds of Retry-After",
    500: "the server's log has the reason, by the header X-Request-Id",
    503: "ask again after the seconds of Retry-After",
}

MOST = 20  # problems of one request that are described
# Of more than these none is described: pydantic makes all or none, and there may be 100,000.
COUNTED = 200
KINDS = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "text",
    list: "list",
    dict: "object",
    type(None): "null",
}


class Refusal(Exception):
    """An answer other than 200, as a problem of RFC 9457."""

    def __init__(
        self,
        status: int,
        detail: str,
        fields: list[dict[str, str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.fields, self.headers = status, detail, fields, headers or {}

    def response(self) -> Response:
        body: dict[str, Any] = {
            "type": "about:blank",  # the status says what kind of problem it is (RFC 9457, 4.2.1)
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "remedy": REMEDIES.get(self.status, ""),
        }
        if self.fields:
            body["fields"] = self.fields
        kind = Lingering if self.headers.get("Connection") == "close" else Response
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        return kind(content, self.status, self.headers, "application/problem+json")


def failed() -> Refusal:
    return Refusal(500, "the server failed on this request; its log says why")


class Lingering(Response):
    """An answer to a request that is still being sent.

    What comes is thrown away for a moment, or the client would see a reset and no answer.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        read = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while read < LINGER_BYTES:
                    message: Message = await receive()
                    read += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        break
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def invalid(error: ValidationError, many: bool) -> Refusal:
    """400 for what is not JSON, 422 for JSON of another form."""
    if error.error_count() > COUNTED:
        return Refusal(
            422,
            f"the body has {error.error_count()} problems; see /openapi.json for what can be asked",
        )
    problems = error.errors(include_url=False, include_context=False)
    if problems[0]["type"] == "json_invalid":
        return Refusal(
            400,
            f"the body is not JSON in UTF-8: {problems[0]['msg'].removeprefix('Invalid JSON: ')}",
        )
    fields = [
        {
            "field": _place(item["loc"], many),
            "given": "nothing" if item["type"] == "missing" else kind(item["input"]),
            "expected": _expected(item),
        }
        for item in problems[:MOST]
    ]
    more = f", and {len(problems) - MOST} more" if len(problems) > MOST else ""
    return Refusal(
        422,
        "; ".join(f"{item['field']}: {item['expected']}" for item in fields[:3])
        + (f"; {len(fields) - 3} more below" if len(fields) > 3 else "")
        + more,
        fields,
    )


def kind(value: object) -> str:
    """What a value is, in JSON's words; never the value."""
    if isinstance(value, float) and value != value:
        return "NaN"
    if isinstance(value, str | list):
        return f"{KINDS[type(value)]} of {len(value)}"
    return KINDS.get(type(value), type(value).__name__)


def _place(location: tuple[int | str, ...], many: bool) -> str:
    parts = [str(part) for part in location]
    if many and parts:
        parts[0] = f"question {parts[0]}"
    return ".".join(parts)[:200] or "the body"


def _expected(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "no such field"
    if item["type"] == "missing":
        return "this field is required"
    words = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return words[:300]
