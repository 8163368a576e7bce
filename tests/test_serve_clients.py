"""Clients that keep to no rule cost the server little.

And each request of the others is told what is so.
"""

import asyncio
import contextlib
import json
import re
import shutil
import socket
import time
from collections.abc import Iterator

import pytest
import uvicorn
from uvicorn.server import ServerState

from tasks.serve import protocol
from tasks.serve.protocol import HEAD_BYTES, LINE, LimitedProtocol, Limits
from tests.conftest import HERE
from tests.support.serving import Project, Running, serving, until

KEY = "Authorization: Bearer a-token-of-24-characters\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
QUESTION = b'{"text": "a"}'
HEAD_S = 2


@pytest.fixture(scope="module")
def running(project: Project) -> Iterator[Running]:
    """A server with room for one question.

    That waits for a head for a short time and for a body for a long one.
    """
    project.clone.edit("recipe/languages.yaml", lambda body: body.update(serve={"queue": 1}))
    project.clone.edit("config.yaml", lambda body: body["serve"].update(head_s=HEAD_S, body_s=60))
    with serving(project, "languages", TIDEMILL_TOKENS="a-token-of-24-characters") as found:
        for name in ("recipe/languages.yaml", "config.yaml"):  # it has read them
            shutil.copy(HERE / "conf" / name, project.folder / "conf" / name)
        yield found


def client(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=20)


def post(
    body: bytes, head: str = f"Content-Length: {len(QUESTION)}\r\n{KEY}", version: str = "1.1"
) -> bytes:
    return (
        f"POST /v1/languages/predict HTTP/{version}\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\n{head}\r\n".encode()
        + body
    )


def told(of: socket.socket, count: int | None = None) -> list[str]:
    """The statuses of so many answers; of all until the server hangs up, where none is named."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while (count is None or found.count(b"HTTP/1.1 ") < count) and (piece := of.recv(65536)):
            found += piece
    return re.findall(r"HTTP/1\.1 (\d+)", found.decode())


@contextlib.contextmanager
def full(running: Running) -> Iterator[None]:
    """While a question is at work whose body is not whole."""
    with client(running) as first:
        first.sendall(post(QUESTION[:5]))
        until(
            lambda: (
                running.ask(
                    "POST",
                    "/v1/languages/predict",
                    QUESTION,
                    {"Authorization": "Bearer a-token-of-24-characters"},
                )[0]
                == 429
            ),
            20,
        )
        yield
        first.sendall(QUESTION[5:])
        assert told(first, 1) == ["200"]


@pytest.mark.parametrize("more", [b"a", b"a\r\nX-B: "])
def test_a_head_without_end_is_refused_before_it_fills_the_memory(
    running: Running, more: bytes
) -> None:
    with client(running) as one:
        one.sendall(GET[:-2] + b"X-A: " + (more * HEAD_BYTES)[:HEAD_BYTES])
        assert told(one) == ["431"]
    assert running.ask("GET", "/health")[0] == 200


def test_trailers_without_end_are_cut_and_none_of_them_is_a_header(running: Running) -> None:
    chunked = post(
        b"%x\r\n%s\r\n0\r\n" % (len(QUESTION), QUESTION), "Transfer-Encoding: chunked\r\n"
    )
    with client(running) as one, client(running) as two:
        one.sendall(chunked + KEY.encode() + b"\r\n")
        assert told(one, 1) == ["401"]
        with contextlib.suppress(ConnectionError):
            two.sendall(
                chunked.replace(b"\r\n\r\n", b"\r\n" + KEY.encode() + b"\r\n", 1)
                + b"a: b\r\n" * 200_000
            )
        assert told(two) == []


def test_a_long_pipeline_is_answered_and_one_without_end_is_cut(running: Running) -> None:
    with client(running) as one:
        one.sendall(GET * LINE)
        assert told(one, LINE) == ["200"] * LINE
        with contextlib.suppress(ConnectionError):
            one.sendall(GET * 5_000)
        assert len(told(one)) < 5_000
    assert running.ask("GET", "/health")[0] == 200


def test_a_request_that_waited_behind_another_has_as_long_for_its_body_as_any(
    running: Running,
) -> None:
    with client(running) as one:
        one.sendall(GET + post(QUESTION[:5]))
        assert told(one, 1) == ["200"]
        with client(running) as later:
            assert told(later) == []  # cut, since it sent no head
        one.sendall(QUESTION[5:])
        assert told(one, 1) == ["200"]


def test_what_comes_behind_a_request_that_is_turned_away_does_not_take_its_answers_place(
    running: Running,
) -> None:
    with full(running), client(running) as one:
        one.sendall(post(QUESTION) + b"\x00\x01nonsense\r\n\r\n")
        assert told(one) == ["429", "400"]


def test_a_client_of_http_1_0_that_is_turned_away_is_told_that_the_server_hangs_up(
    running: Running,
) -> None:
    with full(running), client(running) as one:
        one.sendall(
            post(
                QUESTION,
                f"Content-Length: {len(QUESTION)}\r\nConnection: keep-alive\r\n{KEY}",
                "1.0",
            )
        )
        found = b""
        while piece := one.recv(65536):
            found += piece
        head, _, body = found.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ") and b"connection: close" in head.lower()
        assert "too many questions" in json.loads(body)["detail"]


def test_a_client_that_does_not_take_its_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(head_s=0.3)
    monkeypatch.setattr(protocol, "LOOK_S", 0.05)
    most = 64_000_000  # more than any buffer between the two holds

    async def answer(scope: dict, receive: object, send) -> None:  # type: ignore[no-untyped-def]
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"%d" % most)],
            }
        )
        for _ in range(64):
            await send(
                {"type": "http.response.body", "body": b"a" * (most // 64), "more_body": True}
            )

    async def run() -> None:
        config = uvicorn.Config(answer, log_config=None, lifespan="off")
        config.load()
        server = await asyncio.get_running_loop().create_server(
            lambda: LimitedProtocol(config, ServerState(), {}, limits=limits), "127.0.0.1", 0
        )
        with socket.create_connection(server.sockets[0].getsockname(), timeout=20) as one:
            one.sendall(GET)
            async with asyncio.timeout(20):
                while not any(protocol.flow.write_paused for protocol in limits.open):
                    await asyncio.sleep(0.01)
                while limits.open:
                    await asyncio.sleep(0.01)
        server.close()

    asyncio.run(run())


HEAD = (
    "POST /v1/languages/predict HTTP/1.1\r\nHost: localhost\r\n"
    "Content-Type: application/json\r\nContent-Length: {}\r\n{}\r\n"
)


def test_whoever_is_turned_away_is_told_so_by_its_head_alone_in_its_turn_and_after_the_door(
    project: Project,
) -> None:
    project.clone.edit("recipe/languages.yaml", lambda body: body.update(serve={"queue": 1}))
    token = "a-token-of-24-characters"
    key = f"Authorization: Bearer {token}\r\n"
    try:
        with serving(project, "languages", TIDEMILL_TOKENS=token) as running:

            def client() -> socket.socket:
                return socket.create_connection(("127.0.0.1", running.port), timeout=10)

            def answers(of: socket.socket, count: int) -> str:
                found = ""
                while found.count("HTTP/1.1 ") < count or not found.endswith("}"):
                    piece = of.recv(65536).decode()
                    assert piece, found
                    found += piece
                return found

            with (
                client() as slow,
                client() as head,
                client() as two,
                client() as stranger,
                client() as large,
            ):
                slow.sendall(
                    (HEAD.format(13, key) + '{"text"').encode()
                )  # it is at work as long as its body is awaited
                until(
                    lambda: (
                        running.ask(
                            "POST",
                            "/v1/languages/predict",
                            {"text": "a"},
                            {"Authorization": f"Bearer {token}"},
                        )[0]
                        == 429
                    ),
                    5,
                )
                began = time.monotonic()
                head.sendall(HEAD.format(50, key).encode())  # no byte of the body
                told = answers(head, 1)
                assert told.startswith("HTTP/1.1 429 ") and time.monotonic() - began > 0.09, (
                    told
                )  # held for a moment
                names = {
                    line.split(":")[0].lower() for line in told.split("\r\n")[1:] if ": " in line
                }
                assert {
                    "retry-after",
                    "tidemill-version",
                    "date",
                    "content-type",
                    "content-length",
                    "x-content-type-options",
                    "cache-control",
                } <= names
                assert json.loads(told.split("\r\n\r\n")[1])["detail"].startswith(
                    "languages has too many questions waiting"
                )
                two.sendall(
                    (HEAD.format(1, key) + "{").encode() * 2
                    + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
                )  # not JSON, which nobody reads
                told = answers(two, 3)
                assert [part.split(" ")[0] for part in told.split("HTTP/1.1 ")[1:]] == [
                    "429",
                    "429",
                    "200",
                ]
                stranger.sendall((HEAD.format(13, "") + '{"text": "a"}').encode())
                assert answers(stranger, 1).startswith("HTTP/1.1 401 ")
                large.sendall(HEAD.format(50_000_000, key).encode())
                assert large.recv(65536).startswith(
                    b"HTTP/1.1 429 "
                )  # the long way, which hangs up after it
                slow.sendall(b': "a"')
                slow.sendall(b"}")
                assert answers(slow, 1).startswith("HTTP/1.1 200 ")
                head.sendall(b" " * 50 + (HEAD.format(13, key) + '{"text": "a"}').encode())
                assert answers(head, 1).startswith("HTTP/1.1 200 ")
            metrics = running.ask("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})[
                2
            ]
            assert 'status="429",version="1"' in metrics
    finally:
        shutil.copy(
            HERE / "conf" / "recipe" / "languages.yaml",
            project.folder / "conf" / "recipe" / "languages.yaml",
        )


def test_an_answers_head_and_body_are_one_write() -> None:
    from tasks.serve.protocol import JoinedWrites

    class Wire:
        def __init__(self) -> None:
            self.told: list = []

        def write(self, data: bytes) -> None:
            self.told.append(data)

        def close(self) -> None:
            self.told.append("closed")

        def is_closing(self) -> bool:
            return "closed" in self.told

    async def run() -> list:
        wire = Wire()
        joined = JoinedWrites(wire, asyncio.get_running_loop())
        joined.write(b"head ")
        joined.write(b"body")
        assert not wire.told
        await asyncio.sleep(0)
        joined.write(b"more")
        joined.close()
        joined.write(b"too late")
        await asyncio.sleep(0)
        return wire.told

    assert asyncio.run(run()) == [b"head body", b"more", "closed"]


def test_slow_clients_are_cut_and_the_others_do_not_notice(project: Project) -> None:
    project.clone.edit("config.yaml", lambda body: body["serve"].update(head_s=4, body_s=4))
    try:
        with serving(project, "languages") as running:
            slow = [
                socket.create_connection(("127.0.0.1", running.port), timeout=20) for _ in range(60)
            ]
            for number, client in enumerate(slow):
                if number % 2:
                    client.sendall(
                        b"POST /v1/languages/predict HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
                    )
                else:
                    client.sendall(
                        b"POST /v1/languages/predict HTTP/1.1\r\nHost: localhost\r\n"
                        b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
                    )
            assert running.predict("languages", {"text": "a"})[0] == 200
            for client in slow:  # so the answer did not wait for them to be cut
                client.setblocking(False)
                with pytest.raises(BlockingIOError):
                    client.recv(1)
                client.settimeout(20)  # each is cut long before
            answers = [b""] * len(slow)
            for number, client in enumerate(slow):
                try:
                    while piece := client.recv(4096):
                        answers[number] += piece
                except ConnectionResetError:
                    pass
                client.close()
            assert all(b"408" in answer for answer in answers[::2])
            assert running.predict("languages", {"text": "a"})[0] == 200
    finally:
        shutil.copy(HERE / "conf" / "config.yaml", project.folder / "conf" / "config.yaml")
