"""Who may come in: bearer tokens, and on loopback without one only clients that call us by a local name."""

import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.serve.problem_json import Refusal
from tidemill.runtime.errors import Refused

TOKENS = "TIDEMILL_TOKENS"
LEAST = 16  # characters of a token
OPEN = {
    "/health",
    "/ready",
    "/",
    "/page.js",
    "/page.css",
}  # without a token: what a probe asks, and the page that asks for one
SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]


def tokens() -> list[bytes]:
    """The digests of the tokens in the environment, several with spaces or commas between them. Raises Refused for one that can be guessed."""
    given = os.environ.get(TOKENS, "").replace(",", " ").split()
    short = sum(len(token) < LEAST for token in given)
    if short:
        raise Refused(
            f"{TOKENS} has {short} token{'s' if short > 1 else ''} of under {LEAST} characters; make one with: openssl rand -hex 24"
        )
    return [_digest(token.encode()) for token in given]


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


@lru_cache(64)
def loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def may_bind(host: str) -> None:
    """Refuse an address that others reach while nobody needs a token."""
    if not loopback(host) and not tokens():
        raise Refused(
            f"host {host} can be reached from elsewhere, and no token is asked for; set {TOKENS}, or serve on 127.0.0.1"
        )


class Door:
    """ASGI middleware: the token, the host's name, and the headers of every answer."""

    def __init__(
        self,
        app: ASGIApp,
        quick: Callable[[Scope, Receive, Send], Awaitable[None] | None] | None = None,
    ) -> None:
        self.app, self.quick, self.digests = (
            app,
            quick,
            tokens(),
        )  # quick: answers what comes most, None for the rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SAFE]
            await send(message)

        headers = dict(scope["headers"])
        refusal = self.refusal(scope["path"], headers)
        if refusal:
            await refusal.response()(scope, receive, sending)
        else:
            await (
                (self.quick and self.quick(scope, receive, sending))
                or self.app(scope, receive, sending)
            )

    def refusal(self, path: str, headers: dict[bytes, bytes]) -> Refusal | None:
        if not self.digests:
            host = headers.get(b"host", b"").decode("latin-1")
            name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
            # A page elsewhere can make a browser ask us by a name of its own that leads to 127.0.0.1.
            return (
                None
                if loopback(name)
                else Refusal(
                    421,
                    f"this server is for this machine alone; call it 127.0.0.1 or localhost, or set {TOKENS}",
                )
            )
        if path in OPEN:
            return None
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        found = _digest(token.strip())
        # Every token is compared, each in constant time, so that nothing is learned from how long a no takes.
        right = sum(hmac.compare_digest(found, one) for one in self.digests)
        if scheme.lower() == b"bearer" and right:
            return None
        return Refusal(
            401,
            "a bearer token is needed: Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": "Bearer"},
        )
