"""What a web page elsewhere may make a browser do to Prefect's server on this machine: nothing.

Prefect takes a body without a content type for JSON, so that any page could create an automation
by `fetch` in the mode no-cors, and any page could show Prefect's own in a frame. A browser says
with each such request where it comes from, in `Origin` and `Sec-Fetch-Site`; neither can be
changed by a page (Fetch standard, "forbidden request-header"). Programs send neither.
"""

import json
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

READING = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, 9.2.1: these change nothing
IN_PROCESS = "prefect-in-memory"  # Prefect's client of itself, by which automations act
POLICY_VIOLATION = 1008  # a close code of WebSocket, RFC 6455, 7.4.1

Headers = dict[bytes, bytes]


class ForeignRequest(Exception):
    """A status other than 200, and why in a line."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class OwnPages:
    """ASGI middleware: requests by our host names alone, changes by our own pages alone.

    `hosts` are the names this server is called by; `origins` are those of its own pages, each as
    `scheme://host:port`.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)
        self.origins = frozenset(origin.lower() for origin in origins)
        self.headers = [
            (b"content-security-policy", policy(self.origins).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"same-origin"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or in_process(scope):
            await self.app(scope, receive, send)
            return
        try:
            self.check(scope)
        except ForeignRequest as refusal:
            if scope["type"] == "websocket":
                await receive()
                await send(
                    {"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refusal.reason}
                )
            else:
                await answer(refusal, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
            await send(message)

        await self.app(scope, receive, with_headers)

    def check(self, scope: Scope) -> None:
        """Raise ForeignRequest for a request that no page of ours and no program would send."""
        names = [name for name, _ in scope["headers"]]
        if names.count(b"host") != 1 or names.count(b"origin") > 1:
            raise ForeignRequest(400, "a request has one Host header, and one Origin at most")
        headers: Headers = dict(scope["headers"])
        if host_name(headers[b"host"]) not in self.hosts:
            raise ForeignRequest(400, "this server is not called by that name; see tidemill status")
        if scope["type"] == "http" and scope["method"] in READING:
            return
        self.check_origin(headers)
        if scope["type"] == "http":
            check_content_type(headers)

    def check_origin(self, headers: Headers) -> None:
        origin = headers.get(b"origin")
        if origin is not None:
            if origin.decode("latin-1").lower() in self.origins:
                return
            raise ForeignRequest(403, "pages of another origin may change nothing here")
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            raise ForeignRequest(403, "pages of another site may change nothing here")


def in_process(scope: Scope) -> bool:
    """Whether Prefect asks itself. The server's name comes from the socket, never from a header."""
    return (scope.get("server") or ("",))[0] == IN_PROCESS


def host_name(header: bytes) -> str:
    try:
        return (urlsplit(f"//{header.decode('latin-1')}").hostname or "").lower()
    except ValueError:
        return ""


def check_content_type(headers: Headers) -> None:
    has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if has_body and kind != b"application/json":
        raise ForeignRequest(415, "a body must say that it is JSON: Content-Type: application/json")


def policy(origins: Iterable[str]) -> str:
    """A Content-Security-Policy: our pages connect to ourselves alone, and no other frames them."""
    sockets = [origin.replace("http", "ws", 1) for origin in origins]
    connect = " ".join(["'self'", *sorted([*origins, *sockets])])
    return f"connect-src {connect}; frame-ancestors 'self'; base-uri 'self'; form-action 'self'"


async def answer(refusal: ForeignRequest, send: Send) -> None:
    body = json.dumps({"detail": refusal.reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
