"""Prefect's server takes changes from its own pages and from programs, and from nobody else."""

import contextlib
import functools
import http.server
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.serving import until
from tidemill.servers.own_pages import IN_PROCESS, ForeignRequest, OwnPages

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ORIGIN = "http://127.0.0.1:4200"
AUTOMATION = {
    "name": "a test",
    "trigger": {"type": "event", "posture": "Reactive", "expect": ["test.ping"], "threshold": 1},
    "actions": [{"type": "do-nothing"}],
}


def scope(method: str, headers: dict[str, str], kind: str = "http", server: str = "127.0.0.1"):
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": kind, "method": method, "headers": pairs, "server": (server, 4200)}


def refused(method: str, headers: dict[str, str], kind: str = "http") -> int:
    """The status of a refusal; 0 for a request that is let through."""
    guard = OwnPages(None, ["127.0.0.1", "localhost"], [ORIGIN])  # type: ignore[arg-type]
    try:
        guard.check(scope(method, {"host": "127.0.0.1:4200", **headers}, kind))
    except ForeignRequest as refusal:
        return refusal.status
    return 0


JSON = {"content-type": "application/json", "content-length": "2"}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", JSON, 0),  # a program
        ("POST", {**JSON, "origin": ORIGIN, "sec-fetch-site": "same-origin"}, 0),
        ("POST", {}, 0),
        ("DELETE", {}, 0),
        ("GET", {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}, 0),
        ("POST", {**JSON, "origin": "http://evil.example"}, 403),
        ("POST", {**JSON, "origin": "http://127.0.0.1:8000"}, 403),  # another port
        ("POST", {**JSON, "origin": "https://127.0.0.1:4200"}, 403),
        ("POST", {**JSON, "origin": "null"}, 403),
        ("POST", {**JSON, "origin": ""}, 403),
        ("POST", {**JSON, "sec-fetch-site": "cross-site"}, 403),
        ("POST", {**JSON, "sec-fetch-site": "same-site"}, 403),
        ("DELETE", {"origin": "http://evil.example"}, 403),
        ("PATCH", {"origin": "http://evil.example"}, 403),
        ("POST", {"content-length": "2"}, 415),
        ("POST", {"transfer-encoding": "chunked"}, 415),
        ("POST", {**JSON, "content-type": "text/plain"}, 415),
        ("POST", {**JSON, "content-type": "application/json; charset=utf-8"}, 0),
        ("GET", {"host": "evil.example"}, 400),
        ("GET", {"host": "evil.example:4200"}, 400),
        ("GET", {"host": "127.0.0.1.evil.example"}, 400),
        ("GET", {"host": f"{IN_PROCESS}:4200"}, 400),
        ("GET", {"host": "localhost"}, 0),
        ("GET", {"host": "[::1"}, 400),
    ],
)
def test_changes_come_from_our_own_pages_and_from_programs_alone(
    method: str, headers: dict[str, str], status: int
) -> None:
    assert refused(method, headers) == status


@pytest.mark.parametrize(("origin", "status"), [(ORIGIN, 0), ("http://evil.example", 403)])
def test_a_websocket_is_opened_by_our_own_pages_alone(origin: str, status: int) -> None:
    assert refused("GET", {"origin": origin}, "websocket") == status


@given(origin=st.text(st.characters(max_codepoint=255), max_size=40))
def test_no_origin_but_our_own_changes_anything(origin: str) -> None:
    assert (refused("POST", {**JSON, "origin": origin}) == 0) == (origin.lower() == ORIGIN)


def test_a_request_with_two_host_headers_is_refused() -> None:
    guard = OwnPages(None, ["127.0.0.1"], [ORIGIN])  # type: ignore[arg-type]
    twice = scope("GET", {})
    twice["headers"] = [(b"host", b"127.0.0.1"), (b"host", b"evil.example")]
    with pytest.raises(ForeignRequest):
        guard.check(twice)


# The server itself --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a database of its own."""
    from tests.conftest import make_clone

    clone = make_clone(tmp_path_factory.mktemp("own-pages") / "clone", git=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    env = {
        **clone.env,
        "PREFECT_API_URL": f"{address}/api",
        "PREFECT_UI_URL": address,
        "PREFECT_SERVER_UI_API_URL": f"{address}/api",
    }
    log = clone.folder / "prefect.log"
    command = ["tidemill.servers.prefect_server", str(port), "127.0.0.1", "localhost"]
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=clone.folder, env=env, stdout=file, stderr=file
        )
    try:
        until(lambda: ask(f"{address}/api/health")[0] == 200, 120, log.read_text)
        yield address
    finally:
        server.terminate()
        server.wait(20)


def ask(
    url: str, body: Any = None, method: str | None = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body; 503 (its database is busy) is asked again, as its client does."""
    for wait_s in (0.5, 1, 2, 4, 8, 16, 0):
        answered = _ask(url, body, method, **headers)
        if answered[0] != 503:
            break
        time.sleep(wait_s)
    return answered


def _ask(
    url: str, body: Any = None, method: str | None = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    sent = None if body is None else json.dumps(body).encode()
    kind = {} if body is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(
        url,
        sent,
        {**kind, **{name.replace("_", "-"): value for name, value in headers.items()}},
        method=method,
    )
    try:
        with opener.open(request, timeout=30) as answer:
            text = answer.read()
            is_json = "json" in answer.headers.get("content-type", "")
            return answer.status, dict(answer.headers), json.loads(text) if is_json else text
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def automations(address: str) -> int:
    return ask(f"{address}/api/automations/count", {})[2]


def test_an_automation_acts_through_prefects_own_client_behind_our_wrapper(prefect: str) -> None:
    api = f"{prefect}/api"
    flow = ask(f"{api}/flows/", {"name": "a flow"})[2]["id"]
    made = ask(f"{api}/deployments/", {"name": "a deployment", "flow_id": flow})
    assert made[0] == 201, made
    deployment = made[2]["id"]
    action = {"type": "pause-deployment", "source": "selected", "deployment_id": deployment}
    status, _, created = ask(f"{api}/automations/", {**AUTOMATION, "actions": [action]})
    assert status == 201, created

    def paused() -> bool:
        event = {
            "event": "test.ping",
            "resource": {"prefect.resource.id": "a.test"},
            "occurred": created["created"],
            "id": str(uuid4()),
        }
        assert ask(f"{api}/events", [event])[0] == 204
        return ask(f"{api}/deployments/{deployment}")[2]["paused"]

    until(paused, 60, lambda: "the automation did not act")
    assert ask(f"{api}/automations/{created['id']}", method="DELETE")[0] == 204


def test_a_request_of_a_foreign_page_changes_nothing_and_each_answer_has_the_policy(
    prefect: str,
) -> None:
    before = automations(prefect)
    for headers in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
        assert ask(f"{prefect}/api/automations/", AUTOMATION, **headers)[0] == 403
    assert ask(f"{prefect}/api/automations/", AUTOMATION, Content_Type="text/plain")[0] == 415
    assert automations(prefect) == before
    for page in ("/", "/v2", "/api/health"):
        policy = ask(f"{prefect}{page}")[1]["content-security-policy"]
        assert "frame-ancestors 'self'" in policy and "connect-src 'self'" in policy


ATTACK = """<!doctype html><title>evil</title><iframe src="{prefect}/v2/"></iframe><script>
addEventListener("load", async () => {{
  const body = new Blob(['{automation}']);
  const to = "{prefect}/api/automations/";
  const asked = await Promise.allSettled([
    fetch(to, {{method: "POST", mode: "no-cors", body}}),
    fetch(to, {{method: "POST", mode: "no-cors", body: '{automation}'}}),
    fetch(to, {{method: "POST", body, headers: {{"Content-Type": "application/json"}}}}),
  ]);
  const socket = new WebSocket("{prefect}/api/events/out".replace("http", "ws"), ["prefect"]);
  socket.onopen = () => {{ document.title = "opened"; }};
  socket.onerror = () => {{ document.title = "tried " + asked.length; }};
}});</script>"""


@contextlib.contextmanager
def pages(folder: Path) -> Iterator[int]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; apt-get install chromium")
def test_in_a_browser_a_foreign_page_makes_no_automation_and_frames_nothing(
    prefect: str, tmp_path: Path
) -> None:
    from playwright.sync_api import sync_playwright

    before = automations(prefect)
    page_text = ATTACK.format(prefect=prefect, automation=json.dumps(AUTOMATION))
    (tmp_path / "index.html").write_text(page_text)
    with pages(tmp_path) as port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--host-resolver-rules=MAP evil.example 127.0.0.1"],
        )
        page = browser.new_page()
        page.goto(f"http://evil.example:{port}/")
        page.wait_for_function("document.title != 'evil'", timeout=30_000)
        assert page.title() == "tried 3"
        frame = next(one for one in page.frames if one is not page.main_frame)
        assert not frame.url.startswith(prefect)
        browser.close()
    assert automations(prefect) == before


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; apt-get install chromium")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.system
def test_in_a_browser_prefects_own_pages_work_and_connect_to_nobody_else(
    prefect: str, host: str
) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context()
        page = context.new_page()
        outside: list[str] = []

        def seen(url: str) -> None:
            if not url.startswith(("http://127.0.0.1:", "http://localhost:", "data:", "blob:")):
                outside.append(url)

        page.on("requestfinished", lambda request: seen(request.url))
        page.on("response", lambda response: seen(response.url))
        for path in ("/dashboard", "/v2/dashboard"):
            with page.expect_response(lambda answer: "/api/flow_runs/" in answer.url) as answer:
                page.goto(prefect.replace("127.0.0.1", host) + path)
            assert answer.value.status == 200, answer.value.url
        page.wait_for_timeout(2_000)
        assert not outside
        browser.close()
