"""Refusals as OpenAI's protocol words them, for whoever asks its routes.

A client of OpenAI's reads `error.message`; of a problem of RFC 9457 it shows nothing.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, Response

from tasks.serve.problem_json import Lingering, Refusal

PATHS = frozenset({"/v1/completions", "/v1/chat/completions", "/v1/models"})
MODEL_PATH = "/v1/models/"
TYPES = {429: "rate_limit_error", 401: "authentication_error"}


class ModelRefusal(Refusal):
    """What a model cannot do: the request's field that asks for it, and OpenAI's code."""

    def __init__(self, status: int, detail: str, param: str, code: str | None = None) -> None:
        super().__init__(status, detail)
        self.param, self.code = param, code


def answered(refusal: Refusal, path: str) -> Response:
    """A refusal in the form of the route that was asked."""
    asked_openais = path in PATHS or path.startswith(MODEL_PATH)
    return in_openais_form(refusal) if asked_openais else refusal.response()


def in_openais_form(refusal: Refusal) -> Response:
    closing = refusal.headers.get("Connection") == "close"
    body = JSONResponse(error_body(refusal)).body
    kind = Lingering if closing else Response
    return kind(body, openais_status(refusal), refusal.headers, "application/json")


def error_body(refusal: Refusal) -> dict[str, Any]:
    field = refusal.fields[0]["field"] if refusal.fields else None
    status = openais_status(refusal)
    kind = "server_error" if status >= 500 else "invalid_request_error"
    own = refusal if isinstance(refusal, ModelRefusal) else None
    return {
        "error": {
            "message": refusal.detail,
            "type": TYPES.get(status, kind),
            "param": own.param if own else field,
            "code": own.code if own else None,
        }
    }


def openais_status(refusal: Refusal) -> int:
    """JSON of another form is 400 in OpenAI's protocol."""
    return HTTPStatus.BAD_REQUEST if refusal.status == 422 else refusal.status
