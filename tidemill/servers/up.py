"""One command up, for all servers.

Prefect, MLflow, the nightly runner and the prediction server on loopback, kept by supervisor.

They are stopped together. Who is up is a kernel lock, never a file that outlives its owner;
.tidemill/up.json only says where.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypedDict
from xmlrpc.client import Fault as Refusal

from tidemill.engines import config
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import held, holding, write, write_json
from tidemill.servers import logins
from tidemill.servers.ports import PORTS, answers, choose, urls
from tidemill.servers.services import SERVICES, STOP_S, command_lines, configuration, environment
from tidemill.servers.supervisor import (
    Report,
    Supervisor,
    check_alive,
    control,
    given_up,
    last_words,
    ours,
    stop,
    watch,
)

POLL_S = 0.2


class ServersUp(TypedDict, total=False):
    """.tidemill/up.json: where the servers are; empty while they just start or stop."""

    pid: int  # of `tidemill up`
    ready: bool
    public: str  # the host name others reach them by; empty: nobody else does
    prefect: str  # addresses
    mlflow: str
    serve: str


@dataclass(frozen=True)
class Servers:
    """One start of the services: where they are, and until when they must answer."""

    supervisor: Supervisor
    folder: Path
    where: dict[str, str]
    public: str
    ready_s: float
    until: float

    def note(self, ready: bool) -> None:
        """Say where they are, for `running` and for every process that starts from here on."""
        body = {"pid": os.getpid(), "ready": ready, "public": self.public, **self.where}
        write_json(paths.state("up.json"), body)


def lock() -> Path:
    return paths.state("locks", "up")


def running() -> ServersUp | None:
    """Where the servers are, while somebody keeps them up; None else."""
    if not held(lock()):
        return None
    try:
        return json.loads(paths.state("up.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}


def settled() -> ServersUp | None:
    """Where the servers are that somebody else keeps up, once they answer.

    None where nobody does, or no longer.
    """
    until: float | None = None
    while (where := running()) is not None and not where.get("ready"):
        ready_s = config.general().up.ready_s
        until = until or time.monotonic() + ready_s
        if time.monotonic() > until:
            raise Fault(
                f"another tidemill up has not become ready within {ready_s:g} s; "
                "see .tidemill/logs, or tidemill down"
            )
        time.sleep(POLL_S)
    return where


def keep(ports: dict[str, int | None], report: Report, public: str = "") -> NoReturn:
    """Start all, report when each answers, and stay until Ctrl-C or `down`.

    What dies is started again.
    """
    if public:
        logins.check(public)
    ready_s = config.general().up.ready_s
    with holding(lock()) as mine:
        if not mine:
            raise Refused(
                "tidemill is up already; tidemill status says where, tidemill down stops it"
            )
        chosen = {name: choose(name, ports.get(name)) for name in PORTS}
        folder, where = paths.state("up"), urls(chosen)
        supervisor = _supervisor(chosen, folder, where, public)
        servers = Servers(supervisor, folder, where, public, ready_s, time.monotonic() + ready_s)
        code = _kept(servers, report)
    sys.exit(code)


def _supervisor(
    ports: dict[str, int], folder: Path, where: dict[str, str], public: str
) -> Supervisor:
    """supervisor, started; it starts no service by itself."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths.state("logs").mkdir(parents=True, exist_ok=True)
    (folder / "runner.ready").unlink(missing_ok=True)
    write(folder / "supervisord.conf", configuration(folder))
    env = {**os.environ, **environment(where, public), **command_lines(ports, public)}
    for name in ("TIDEMILL_OWNER", "TIDEMILL_RECEIPT"):
        env.pop(name, None)
    conf = (folder / "supervisord.conf").relative_to(paths.root())
    supervisord = process.python("supervisor.supervisord", "-c", str(conf))
    with paths.state("logs", "supervisor.out").open("w") as log:
        return subprocess.Popen(
            process.python("tidemill.runtime.lifetimes.subreaper", *supervisord),
            env=env,
            cwd=paths.root(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _kept(servers: Servers, report: Report) -> int:
    """From the start of the services to their end; the exit code."""
    try:
        signal.signal(signal.SIGTERM, _interrupt)
        signal.signal(signal.SIGINT, _interrupt)
        begin(servers, report)
        servers.note(ready=True)
        if servers.public:
            report("public", logins.words(servers.public, servers.where))
        report("ready", "")
        watch(servers.supervisor, servers.folder, report)
    except KeyboardInterrupt:
        report("stopping", "")
    except Fault as fault:
        report("failed", str(fault))
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        paths.state("up.json").unlink(missing_ok=True)
        stop(servers.supervisor)
    return 0


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def begin(servers: Servers, report: Report) -> None:
    """Start the services.

    The runner and the prediction server once both servers answer, which they need.
    """
    rpc = _connected(servers)
    for name in ("prefect", "mlflow"):
        rpc.startProcess(name, False)
    for name in SERVICES:
        if name == "runner":
            for both in ("runner", "serve"):
                rpc.startProcess(both, False)
        _wait(servers, rpc, name)
        report(name, servers.where.get(name, ""))
        if name == "mlflow":
            # From here on `tidemill run` uses these servers; the runner's own steps do too.
            servers.note(ready=False)


def _connected(servers: Servers) -> Any:
    """supervisor's interface, once it answers."""
    while True:
        check_alive(servers.supervisor)
        _check_time(servers, "supervisor")
        try:
            rpc = control(servers.folder)
            rpc.getState()
            return rpc
        except (OSError, Refusal):
            time.sleep(POLL_S)


def _wait(servers: Servers, rpc: Any, name: str) -> None:
    """Until a service answers; raises Fault where it does not in time, or died too often."""
    ready = _ready(servers)[name]
    while not ready():
        check_alive(servers.supervisor)
        _check_time(servers, name)
        given_up(rpc)
        time.sleep(POLL_S)


def _ready(servers: Servers) -> dict[str, Callable[[], bool]]:
    def answers_at(name: str, path: str) -> bool:
        address = servers.where[name]
        return answers(f"{address}{path}") and ours(servers.supervisor, address)

    return {
        "prefect": lambda: answers_at("prefect", "/api/health"),
        "mlflow": lambda: answers_at("mlflow", "/health"),
        "runner": (servers.folder / "runner.ready").is_file,
        "serve": lambda: answers_at("serve", "/ready"),
    }


def _check_time(servers: Servers, name: str) -> None:
    if time.monotonic() > servers.until:
        raise Fault(
            f"{name} did not answer within {servers.ready_s:g} s (up.ready_s in conf/config.yaml): "
            f"{last_words(name)}; see .tidemill/logs/{name}.log"
        )


def detached(arguments: list[str]) -> ServersUp:
    """Start `tidemill up` in a session of its own, and wait until it is ready or has failed."""
    log = paths.state("logs", "up.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        child = subprocess.Popen(
            process.python("tidemill.cli", "up", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    ready_s = config.general().up.ready_s
    until = time.monotonic() + ready_s + STOP_S
    while time.monotonic() < until:
        where = running()
        if where and where.get("ready"):
            return where
        # Where somebody is up, it gave way to another that starts just now.
        if child.poll() is not None and where is None:
            words, _ = process.why(log.read_text().splitlines())
            raise (Refused if child.returncode == process.EXIT_REFUSED else Fault)(words)
        time.sleep(POLL_S)
    raise Fault(f"the servers were not ready within {ready_s:g} s; see {log}")


def down() -> bool:
    """Stop what is up; whether there was anything."""
    where = running()
    if where is None:
        return False
    if "pid" not in where:
        raise Fault("tidemill is just starting or stopping; try again in a few seconds")
    os.kill(where["pid"], signal.SIGTERM)
    until = time.monotonic() + STOP_S + 5
    while held(lock()):
        if time.monotonic() > until:
            raise Fault(
                f"process {where['pid']} did not stop within {STOP_S + 5} s; "
                "see .tidemill/logs/supervisor.log"
            )
        time.sleep(0.1)
    return True
