"""Who is taken in: as many requests as can be answered in time, the others turned away at once."""

import asyncio
import os
import time
from email.utils import formatdate
from http import HTTPStatus

from tasks.serve.auth import REQUEST_ID, SAFE, Guard
from tasks.serve.batch import Batcher, Overloaded
from tasks.serve.loaded_model import LoadedModel
from tasks.serve.measure import REQUESTS
from tasks.serve.problem_json import Refusal
from tasks.serve.version_follower import ServedApplication, VersionFollower

VERSION_HEADER = "Tidemill-Version"
RawHeaders = list[tuple[bytes, bytes]]


class Admission:
    """Counts what is under way, and turns requests away by their head where there is no room."""

    def __init__(self, follower: VersionFollower, cors: bool = False) -> None:
        self.follower, self.cors = follower, cors
        self.batchers: dict[tuple[str, bool], Batcher] = {}
        # Requests whose body is being read or whose answer is being made.
        self.busy: dict[str, int] = {}
        # Requests let in since the loop's last round, which will be in the queue after this one.
        self.coming: dict[str, int] = {}
        # The last refusal as bytes: its key, its head, its body.
        self.last: tuple[tuple[str, str, int], bytes, bytes] | None = None
        self.guard: Guard

    def batcher(self, served: ServedApplication, challenger: bool = False) -> Batcher:
        key = (served.name, challenger)
        if key not in self.batchers:
            self.batchers[key] = Batcher(
                f"{served.name} challenger" if challenger else served.name,
                served.settings,
                lambda: champion(served),
            )
        return self.batchers[key]

    def check(self, served: ServedApplication) -> None:
        """Raise Refusal before a body is read, where the application is overloaded."""
        if self.busy.get(served.name, 0) >= served.settings.queue:
            raise overloaded(served.name, 1)
        try:
            self.batcher(served).room()
        except Overloaded as error:
            raise overloaded(served.name, error.after_s) from None

    def by_head(self, url: bytes, headers: RawHeaders) -> bytes | None:
        """The whole answer to a POST that there is no room for; None where it is read further.

        Called with a request's head alone. What else is wrong with a request that is turned away,
        it hears when it comes again.
        """
        is_prediction = url.startswith(b"/v1/") and url.endswith(b"/predict")
        name = url[4:-8].decode("latin-1") if is_prediction else ""
        served = self.follower.served.get(name)
        if served is None:
            return None
        try:
            if self.busy.get(name, 0) >= served.settings.queue:
                raise Overloaded(1)
            self.batcher(served).room(before=self.coming.get(name, 0))
        except Overloaded as error:
            model = served.pair.champion
            if model is None or not self.brief(served, url, headers):
                return None
            REQUESTS.labels(name, model.version, "429").inc()
            return self.answer(overloaded(name, error.after_s), model)
        if not self.coming:
            asyncio.get_running_loop().call_soon(self.coming.clear)
        self.coming[name] = self.coming.get(name, 0) + 1
        return None

    def brief(self, served: ServedApplication, url: bytes, headers: RawHeaders) -> bool:
        """Whether nothing but the lack of room is to be said to this request."""
        named = dict(headers)
        length = named.get(b"content-length", b"")
        return (
            length.isdigit()
            and int(length) <= served.settings.max_body_mb * 1e6
            and b"expect" not in named
            and not (self.cors and b"origin" in named)
            and self.guard.refusal(url.decode("latin-1"), headers) is None
        )

    def answer(self, refusal: Refusal, model: LoadedModel) -> bytes:
        """A refusal as it goes over the wire; made once a second, since thousands are the same."""
        key = (refusal.detail, model.version, int(time.time()))
        if self.last is None or self.last[0] != key:
            refusal.headers[VERSION_HEADER] = model.version
            response = refusal.response()
            phrase = HTTPStatus(refusal.status).phrase.encode()
            head = [(b"date", formatdate(usegmt=True).encode()), *response.raw_headers, *SAFE]
            lines = [b"HTTP/1.1 %d %s\r\n" % (refusal.status, phrase)]
            lines += [b"%s: %s\r\n" % item for item in head]
            self.last = (key, b"".join(lines), bytes(response.body))
        request_id = b"%s: %s\r\n\r\n" % (REQUEST_ID, os.urandom(8).hex().encode())
        return self.last[1] + request_id + self.last[2]

    def close(self) -> None:
        for batcher in self.batchers.values():
            batcher.close()


def champion(served: ServedApplication) -> LoadedModel:
    model = served.pair.champion
    if model is None:
        words = f"no version of {served.name} answers yet"
        raise Refusal(503, words, headers={"Retry-After": "5"})
    return model


def overloaded(name: str, after_s: int) -> Refusal:
    return Refusal(
        429,
        f"{name} has too many questions waiting; try again in {after_s} s",
        headers={"Retry-After": str(after_s)},
    )
