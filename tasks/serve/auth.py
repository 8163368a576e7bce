"""Who may ask: bearer tokens; without them, on loopback, clients that call us by a local name."""

import hashlib
import hmac
import os
import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.serve.openai_errors import answered
from tasks.serve.problem_json import Refusal
from tidemill.runtime.errors import Refused

TOKENS = "TIDEMILL_TOKENS"
LEAST = 16  # characters of a token
# Without a token: what a probe asks, and the page that asks for one.
OPEN = {"/health", "/ready", "/", "/page.js", "/page.css"}
REQUEST_ID = b"x-request-id"
SOUND_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")  # of a client's own; another gets a new one
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
RawHeaders = list[tuple[bytes, bytes]]
SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", POLICY.encode()),
]


def tokens() -> list[bytes]:
    """The digests of the tokens in the environment, with spaces or commas between them.

    Raises Refused for one that can be guessed.
    """
    given = os.environ.get(TOKENS, "").replace(",", " ").split()
    short = sum(len(token) < LEAST for token in given)
    if short:
        raise Refused(
            f"{TOKENS} has {short} token{'s' if short > 1 else ''} of under {LEAST} characters; "
            "make one with: openssl rand -hex 24"
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
            f"host {host} can be reached from elsewhere, and no token is asked for; "
            f"set {TOKENS}, or serve on 127.0.0.1"
        )


Quick = Callable[[Scope, Receive, Send], Awaitable[None] | None]


class Guard:
    """ASGI middleware: the token, the host's name, the request's id, and safe headers.

    `quick` answers what is asked most; for the rest it gives None.
    """

    def __init__(self, app: ASGIApp, quick: Quick) -> None:
        self.app, self.quick, self.digests = app, quick, tokens()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        added = [*SAFE, (REQUEST_ID, request_id(scope["headers"]))]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        # No redirect to the path without a slash: it would lead to http where a proxy speaks TLS.
        scope["path"] = scope["path"].rstrip("/") or "/"
        refusal = self.refusal(scope["path"], scope["headers"])
        if refusal:
            await answered(refusal, scope["path"])(scope, receive, with_headers)
            return
        answer = self.quick(scope, receive, with_headers)
        await (answer or self.app(scope, receive, with_headers))

    def refusal(self, path: str, given: RawHeaders) -> Refusal | None:
        """Why this request may not ask; None where it may."""
        headers = dict(given)
        if sum(name == b"host" for name, _ in given) > 1:
            return Refusal(400, "a request has one Host header (RFC 9112, 3.2)")
        if not self.digests:
            return local_name(headers.get(b"host", b"").decode("latin-1"))
        if path in OPEN:
            return None
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        digest = _digest(token.strip())
        # Every token is compared, each in constant time, so that nothing is learned from how long
        # a refusal takes.
        matches = sum(hmac.compare_digest(digest, one) for one in self.digests)
        if scheme.lower() == b"bearer" and matches:
            return None
        words = "a bearer token is needed: Authorization: Bearer TOKEN"
        return Refusal(401, words, headers={"WWW-Authenticate": "Bearer"})


def local_name(host: str) -> Refusal | None:
    """A page elsewhere can make a browser ask us by a name of its own that leads to 127.0.0.1."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if loopback(name):
        return None
    words = "this server is for this machine alone; call it 127.0.0.1 or localhost, or set"
    return Refusal(421, f"{words} {TOKENS}")


def request_id(headers: RawHeaders) -> bytes:
    """The client's own id where it is sound, else a new one."""
    for name, value in headers:
        if name == REQUEST_ID and SOUND_ID.fullmatch(value):
            return value
    return os.urandom(8).hex().encode()
