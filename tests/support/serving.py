"""What the server's tests share: a project with registered models, a server of it, and clients."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.conftest import HERE, Clone, make_clone
from tests.support.making import inside, make_live
from tidemill.engines.mlflow.direct import Stored

JSON = {"Content-Type": "application/json"}


class Project:
    """A clone with small models in its registry."""

    def __init__(self, clone: Clone) -> None:
        self.clone, self.folder = clone, clone.folder

    @property
    def registry(self) -> Stored:
        return Stored(self.folder / ".tidemill" / "mlflow.db")

    def champion(self, name: str, number: str, nudge: bool = True) -> None:
        """Make a version live as `promote` does it, without its checks."""
        with inside(self.folder):
            make_live(name, number)
        if nudge:
            path = self.folder / ".tidemill" / "serve" / "nudge"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def alias(self, name: str, alias: str, number: str | None) -> None:
        """Move or remove an alias as a person does it on MLflow's page: past the ledger."""
        from tidemill.engines.mlflow import registry

        with inside(self.folder):
            registry.move(name, alias, number) if number else registry.drop(name, alias)

    def golden(self, name: str, number: int) -> list[tuple[dict, dict]]:
        rows = json.loads(
            (self.folder / ".tidemill" / "made" / f"{name}-{number}" / "golden.json").read_text()
        )
        return [(row["question"], row["answer"]) for row in rows]


def made(folder: Path, *names: str) -> Project:
    clone = make_clone(folder, git=False)
    done = subprocess.run(
        [sys.executable, str(HERE / "tests" / "support" / "making.py"), *names],
        cwd=folder,
        env={**clone.env, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Project(clone)


class Running:
    """A server that answers."""

    def __init__(self, address: str, process: subprocess.Popen[str], log: Path) -> None:
        self.address, self.process, self.log = address, process, log
        self.port = urlsplit(address).port or 0

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30,
    ) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            return asked(connection, method, path, body, headers)
        finally:
            connection.close()

    def predict(self, name: str, question: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
        return self.ask("POST", f"/v1/{name}/predict", question, headers)

    def workers(self) -> list[int]:
        import psutil

        def lives(child: psutil.Process) -> bool:
            try:
                return bool(child.status() != psutil.STATUS_ZOMBIE)
            except psutil.NoSuchProcess:  # it ended between the two questions
                return False

        return [child.pid for child in psutil.Process(self.process.pid).children() if lives(child)]

    def rss_mb(self) -> float:
        import psutil

        return psutil.Process(self.process.pid).memory_info().rss / 1e6


def asked(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], Any]:
    sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(
        method, path, sent, {**(JSON if body is not None else {}), **(headers or {})}
    )
    answer = connection.getresponse()
    text = answer.read()
    told = {name.lower(): value for name, value in answer.getheaders()}
    return (
        answer.status,
        told,
        json.loads(text)
        if told.get("content-type") in ("application/json", "application/problem+json")
        else text.decode(errors="replace"),
    )


@contextlib.contextmanager
def serving(project: Project, *arguments: str, **env: str) -> Iterator[Running]:
    log = project.folder / ".tidemill" / "logs" / f"serve-{time.monotonic_ns()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.serve", *arguments, "--port", "0"],
            cwd=project.folder,
            env={**project.clone.env, "OMP_NUM_THREADS": "1", **env},
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http"), log.read_text()
        running = Running(address, process, log)
        until(lambda: running.ask("GET", "/ready")[0] == 200, 60, lambda: log.read_text())
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until(found: Callable[[], Any], seconds: float, words: Callable[[], str] = lambda: "") -> float:
    """Wait until `found` is true; the seconds it took."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found():
                return time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s; {words()}")


class Load:
    """So many clients that ask one question after another.

    A lost connection is asked once again, as a client would.
    """

    def __init__(
        self, running: Running, name: str, questions: list[dict], clients: int, pause_s: float = 0.0
    ) -> None:
        self.running, self.name, self.questions, self.pause_s = running, name, questions, pause_s
        self.seen: list[
            tuple[int, int, str, Any, float]
        ] = []  # which question, status, version, answer, seconds
        self.lost: list[str] = []
        self.again = 0
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(target=self._client, args=(number,), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)

    def _client(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.running.port, timeout=30)
        at = number
        while not self.stopping.is_set():
            which = at % len(self.questions)
            at += 1
            began = time.perf_counter()
            for attempt in (1, 2):
                try:
                    status, headers, body = asked(
                        connection, "POST", f"/v1/{self.name}/predict", self.questions[which]
                    )
                    self.seen.append(
                        (
                            which,
                            status,
                            headers.get("tidemill-version", ""),
                            body,
                            time.perf_counter() - began,
                        )
                    )
                    break
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    if attempt == 2:
                        self.lost.append(f"{type(error).__name__}: {error}")
                    else:
                        self.again += 1
            if self.pause_s:
                time.sleep(self.pause_s)
        connection.close()
