"""What a request may be: packed, in MLflow's form, from another origin; and what it may cost."""

import gzip
import json
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import zlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HERE
from tests.support.serving import Project, Running, serving, until
from tidemill import contract

ORIGIN = "https://pages.example:8443"
QUESTION = {"text": "Jeder Mensch hat das Recht auf Leben"}
NAMES = contract.names()


@pytest.fixture(scope="module")
def running(project: Project) -> Iterator[Running]:
    before = (project.folder / "conf" / "config.yaml").read_text()
    project.clone.edit("config.yaml", lambda body: body["serve"].update(cors_origins=[ORIGIN]))
    with serving(project, *NAMES) as found:
        (project.folder / "conf" / "config.yaml").write_text(before)  # it has read it
        yield found


def raw(running: Running, head: str, body: bytes = b"") -> str:
    """The answer to a head as it stands here."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as client:
        client.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        return client.recv(65536).decode()


def test_a_refusal_is_a_problem_of_rfc_9457_with_a_remedy_and_the_requests_id(
    running: Running,
) -> None:
    for path, status in (("/nowhere", 404), ("/v1/nobody", 404)):
        code, headers, body = running.ask("GET", path, headers={"X-Request-Id": "mine-1"})
        assert code == status and headers["content-type"] == "application/problem+json"
        assert headers["x-request-id"] == "mine-1"
        assert body["status"] == status and body["title"] == "Not Found"
        assert body["detail"] and body["remedy"] and body["type"] == "about:blank"
    ids = {running.predict("languages", QUESTION)[1]["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    unsound = running.ask("GET", "/v1", headers={"X-Request-Id": "a b<"})[1]["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", unsound)


def test_a_trailing_slash_is_no_redirect(running: Running) -> None:
    assert running.ask("POST", "/v1/languages/predict/", QUESTION)[0] == 200
    assert running.ask("GET", "/v1/")[0] == 200 and running.ask("GET", "/health/")[0] == 200


def test_a_packed_body_is_read_within_bounds_or_refused_by_name(running: Running) -> None:
    def packed(body: bytes, coding: str = "gzip") -> tuple[int, Any]:
        headers = {"Content-Encoding": coding}
        status, _, answer = running.ask("POST", "/v1/languages/predict", body, headers)
        return status, answer

    question = json.dumps(QUESTION).encode()
    assert packed(gzip.compress(question))[0] == 200
    bomb = gzip.compress(b'{"text": "' + b"a" * 200_000_000 + b'"}')
    before = running.rss_mb()
    status, body = packed(bomb)
    assert status == 413 and "1 MB" in body["detail"] and running.rss_mb() - before < 30
    assert packed(question)[0] == 400
    assert packed(gzip.compress(question)[:-9])[0] == 400
    assert packed(gzip.compress(question) + b"more")[0] == 400
    assert packed(question, "br")[0] == 415 and "gzip" in packed(question, "br")[1]["detail"]


def test_a_key_or_a_host_that_is_there_twice_is_refused(running: Running) -> None:
    twice = b'{"text": "a", "text": "b"}'
    for body in (twice, b"[" + twice + b"]"):
        status, _, answer = running.ask("POST", "/v1/languages/predict", body)
        assert status == 400 and "twice" in answer["detail"]
    nested = b'{"inputs": [' + twice + b"]}"
    assert running.ask("POST", "/v1/languages/invocations", nested)[0] == 400
    head = "GET /v1 HTTP/1.1\nHost: localhost\nHost: evil.example\n"
    assert raw(running, head).startswith("HTTP/1.1 400 ")


def test_pages_of_the_named_origins_alone_may_ask_from_a_browser(running: Running) -> None:
    def allowed(origin: str) -> str | None:
        preflight = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        }
        _, asked, _ = running.ask("OPTIONS", "/v1/languages/predict", headers=preflight)
        status, given, _ = running.predict("languages", QUESTION, Origin=origin)
        assert status == 200
        name = "access-control-allow-origin"
        assert asked.get(name) == given.get(name)
        return given.get(name)

    assert allowed(ORIGIN) == ORIGIN
    assert allowed("https://evil.example") is None and allowed("null") is None


def test_an_origin_that_is_none_is_refused_in_one_line(project: Project) -> None:
    from pydantic import ValidationError

    from tidemill.engines.config.schema import Serving

    for origin in ("*", "pages.example", "https://pages.example/", "null"):
        with pytest.raises(ValidationError, match="is no origin"):
            Serving(cors_origins=(origin,))


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [QUESTION, QUESTION]},
        {"dataframe_split": {"columns": ["text"], "data": [[QUESTION["text"]]] * 2}},
        {"instances": [QUESTION, QUESTION]},
        {"inputs": [QUESTION, QUESTION]},
    ],
)
def test_mlflows_invocations_are_answered_as_predict_does(
    running: Running, body: dict[str, Any]
) -> None:
    status, headers, answer = running.ask("POST", "/v1/languages/invocations", body)
    assert status == 200 and headers["tidemill-version"] == "1", answer
    one = running.predict("languages", QUESTION)[2]
    first, second = answer["predictions"]
    assert first["language"] == second["language"] == one["language"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, "needs one of dataframe_records"),
        ({"inputs": [QUESTION], "instances": [QUESTION]}, 422, "only one"),
        ({"inputs": [QUESTION], "params": {}}, 422, "no such field"),
        ({"inputs": [{"text": 5}]}, 422, "string"),
        ({"inputs": []}, 422, "0 questions"),
        ({"dataframe_split": {"columns": ["text"], "data": [["a", "b"]]}}, 422, "each row"),
        (b"nonsense", 400, "not JSON"),
    ],
)
def test_an_invocation_that_makes_no_sense_is_refused(
    running: Running, body: Any, status: int, words: str
) -> None:
    code, _, answer = running.ask("POST", "/v1/languages/invocations", body)
    assert code == status and words in answer["detail"]
    code, _, answer = running.ask("POST", "/invocations", body)
    assert code == 404 and "/v1/languages/invocations" in answer["detail"]


def noise_png(bytes_at_most: int) -> str:
    """A picture of few bytes that takes long to decode.

    Interlaced, of the most pixels there are.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    side = 1_990
    head = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    rows = zlib.compress((b"\x04" + bytes(4 * side)) * side, 9)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert len(png) < bytes_at_most
    return b64encode(png).decode()


def test_pictures_that_take_long_to_decode_hold_nobody_else_up(running: Running) -> None:
    body = json.dumps({"image": noise_png(48_000)}).encode()
    assert len(body) < 64_000
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(running.ask("POST", "/v1/images/predict", body, timeout=120)[0])

    clients = [threading.Thread(target=ask) for _ in range(6)]
    for client in clients:
        client.start()
    asked_while_busy = 0
    while any(client.is_alive() for client in clients):
        assert running.ask("GET", "/health")[0] == 200
        asked_while_busy += 1
    for client in clients:
        client.join()
    # /health is answered between two pictures and not after all of them.
    assert asked_while_busy >= 6 and set(statuses) <= {200, 422, 429, 503}


def test_a_long_list_leaves_room_for_others_and_ends_when_its_client_has_gone(
    project: Project, running: Running
) -> None:
    slow = {"prompt": "Jeder", "max_tokens": 512, "temperature": 1.0}
    body = json.dumps([{**slow, "seed": number} for number in range(100)]).encode()
    head = (
        "POST /v1/text_generation/predict HTTP/1.1\nHost: localhost\n"
        f"Content-Type: application/json\nContent-Length: {len(body)}\n"
    )

    def waiting() -> float:
        text = running.ask("GET", "/metrics")[2]
        found = re.search(r'^tidemill_queue\{application="text_generation"\} (\S+)', text, re.M)
        return float(found[1]) if found else 0.0

    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as client:
        client.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        until(lambda: waiting() > 0, 20)
        status, _, answer = running.predict("text_generation", {"prompt": "a", "max_tokens": 2})
        assert status == 200, answer
        client.setblocking(False)
        with pytest.raises(BlockingIOError):  # the list is not answered yet
            client.recv(1)
    until(lambda: waiting() == 0, 20)
    assert 'status="499"' in running.ask("GET", "/metrics")[2]


def test_a_process_whose_follower_has_died_is_not_healthy(project: Project) -> None:
    from tasks.serve.version_follower import VersionFollower

    follower = VersionFollower((), 1.0)
    assert follower.works()
    follower.stopping.set()
    follower.start()
    follower.join()
    assert not follower.works()


def test_why_the_registry_is_unreachable_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    from tasks.serve.version_follower import VersionFollower

    follower = VersionFollower((), 1.0)
    for why in ("refused", "refused", "timed out"):
        follower.lost(why)
    assert [record.message.split("; ")[0] for record in caplog.records] == [
        "the registry is unreachable: refused",
        "the registry is unreachable: timed out",
    ]


# The description ----------------------------------------------------------------------------------


def test_every_schema_has_a_name_of_its_own_and_no_version_is_in_the_description(
    running: Running,
) -> None:
    whole = running.ask("GET", "/openapi.json")[2]
    titles = [schema["title"] for schema in whole["components"]["schemas"].values()]
    assert len(set(titles)) == len(titles) and "LanguagesAnswer" in titles
    assert set(titles) == set(whole["components"]["schemas"])
    [version] = whole["paths"]["/v1/languages/predict"]["post"]["parameters"]
    assert version["schema"] == {"type": "string"}


CLIENT = """
import json, sys
from tidemill_client import Client
from tidemill_client.api.{name} import predict_{name}
from tidemill_client.models import {question}
client = Client(base_url=sys.argv[1])
answer = predict_{name}.sync(client=client, body={question}.from_dict(json.loads(sys.argv[2])))
print(json.dumps(answer.to_dict()))
"""


@pytest.mark.system
def test_a_generated_client_asks_every_application_and_works_after_a_swap(
    project: Project, running: Running, tmp_path: Path
) -> None:
    generator = shutil.which("openapi-python-client")
    if generator is None:
        pytest.skip("no openapi-python-client; pipx install openapi-python-client")
    done = subprocess.run(
        [
            *(generator, "generate", "--url", f"{running.address}/openapi.json"),
            *("--meta", "none", "--output-path", str(tmp_path / "tidemill_client")),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0 and "WARNING" not in done.stdout + done.stderr, done.stdout
    whole = running.ask("GET", "/openapi.json")[2]["paths"]

    def ask(name: str) -> Any:
        schema = whole[f"/v1/{name}/predict"]["post"]["requestBody"]["content"]
        one = schema["application/json"]["schema"]["oneOf"][0]["$ref"].rpartition("/")[2]
        question = project.golden(name, 1)[0][0]
        done = subprocess.run(
            [
                *(sys.executable, "-c", CLIENT.format(name=name, question=one)),
                *(running.address, json.dumps(question)),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    for name in NAMES:
        assert ask(name)
    project.champion("languages", "2")
    try:
        until(lambda: running.ask("GET", "/v1/languages")[2]["version"] == "2", 20)
        assert ask("languages")
    finally:
        project.champion("languages", "1")


# The examples of the documentation ----------------------------------------------------------------


def examples() -> list[tuple[str, Any, dict[str, Any]]]:
    """Each curl of docs/serve.md with the answer below it: path, question, answer."""
    text = (HERE / "docs" / "serve.md").read_text()
    pattern = r"curl http://127\.0\.0\.1:8000(\S+) .*?-d '(.*?)'\n(\{.*?\})\n"
    return [
        (path, json.loads(question), json.loads(answer))
        for path, question, answer in re.findall(pattern, text, re.DOTALL)
    ]


def test_the_examples_of_the_documentation_are_asked_as_they_stand(running: Running) -> None:
    assert examples()
    for path, question, answer in examples():
        status, _, given = running.ask("POST", path, question)
        assert status == 200 and given.keys() == answer.keys()


@pytest.mark.system
def test_the_examples_of_the_documentation_are_answered_so_by_a_trained_model(
    lived: Any,
) -> None:
    project = Project(lived)
    with serving(project, "languages") as running:
        for path, question, answer in examples():
            if "/languages/" in path:
                assert running.ask("POST", path, question)[2]["language"] == answer["language"]
