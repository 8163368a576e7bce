"""python -m tasks.serve [APPLICATION ...] [--all] [--host HOST] [--port PORT] [--workers N].

Answers over HTTP. One process where there is one worker; several are children of a small parent
that holds the socket, so a worker that dies takes no other's connections with it, and another one
is started in its place.
"""

import argparse
import contextlib
import ctypes
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from tidemill.engines import config
from tidemill.engines.config.schema import Serving
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault, Refused

log = logging.getLogger(__name__)
FIRST_S = 30.0  # one of several workers waits so long for its models before it takes a connection
AGAIN_S = 1.0  # between two starts of one worker, so that one that cannot start does not spin
USAGE = "python -m tasks.serve [APPLICATION ...] [--all] [--host HOST] [--port PORT] [--workers N]"


def chosen(names: list[str], every: bool) -> tuple[str, ...]:
    """The applications to serve; none means every one that has a champion, now or later."""
    known = config.files("recipe")
    if every and names:
        raise Refused("--all serves every application; leave the names out")
    if not every and not names:
        raise Refused(f"name an application, or say --all; there are {', '.join(known)}")
    for name in names:
        if name not in known:
            raise Refused(f"no recipe '{name}'; conf/recipe has {', '.join(known)}")
        config.recipe(name)
    return tuple(dict.fromkeys(names))


def listening(settings: Serving) -> socket.socket:
    """The bound socket.

    Refuses an open address without a token, a port in use, and traces that nothing can send.
    """
    from tasks.serve.auth import may_bind
    from tasks.serve.telemetry import may_trace

    may_bind(settings.host)
    may_trace()
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
    except socket.gaierror as error:
        raise Refused(f"host {settings.host!r} is no address of this machine") from error
    # The protocol by its number: asyncio sends small packets at once only on a socket that says it
    # is TCP, else an answer takes 40 ms more.
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise Refused(
            f"cannot serve on {settings.host}:{settings.port}: {error.strerror}; "
            "name another with --port, 0 for any that is free"
        ) from error
    listener.listen(512)
    return listener


def address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(names: tuple[str, ...], settings: Serving, announce: Callable[[str], None]) -> int:
    """Answer until SIGTERM or Ctrl-C; the exit code."""
    with contextlib.closing(listening(settings)) as listener:
        announce(address(listener))
        if settings.workers == 1:
            return work(names, settings, listener)
        return Workers(names, settings, listener).keep()


def work(
    names: tuple[str, ...], settings: Serving, listener: socket.socket, first_s: float = 0.0
) -> int:
    """One worker, here."""
    import uvicorn

    # One or two heaps for all threads (glibc's M_ARENA_MAX): by default each thread keeps one of
    # its own, half of it empty.
    ctypes.CDLL(None).mallopt(-8, 2)
    from tasks.serve.app import make
    from tasks.serve.protocol import LimitedProtocol, Limits

    worker = make(names, settings, first_s=first_s)
    limits = Limits(settings.head_s, settings.connections, worker.admission.by_head)
    server = uvicorn.Server(
        uvicorn.Config(
            worker.asgi,
            http=partial(LimitedProtocol, limits=limits),  # type: ignore[arg-type]
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=512,
            timeout_keep_alive=max(1, round(settings.head_s)),
            timeout_graceful_shutdown=15,
            lifespan="on",
        )
    )
    server.run(sockets=[listener])
    return 0 if server.started else process.EXIT_FAULT


class Workers:
    """The parent of several workers."""

    def __init__(self, names: tuple[str, ...], settings: Serving, listener: socket.socket) -> None:
        self.names, self.settings, self.listener = names, settings, listener
        self.folder = paths.state("serve", f"metrics-{os.getpid()}")
        self.children: list[subprocess.Popen[bytes]] = []
        self.stopping = False

    def start(self) -> subprocess.Popen[bytes]:
        env = {
            **process.variables(),
            "PROMETHEUS_MULTIPROC_DIR": str(self.folder),
            "TIDEMILL_SERVE": self.settings.model_dump_json(),
        }
        number = self.listener.fileno()
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tasks.serve",
                "--socket",
                str(number),
                *(self.names or ["--all"]),
            ],
            env=env,
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            cwd=paths.root(),
        )

    def keep(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            for _ in range(self.settings.workers):
                self.children.append(self.start())
            while not self.stopping:
                time.sleep(0.1)
                for place, child in enumerate(self.children):
                    if child.poll() is not None and not self.stopping:
                        log.error(
                            "worker %d ended with %s; another is started",
                            child.pid,
                            child.returncode,
                        )
                        self.forget(child.pid)
                        time.sleep(AGAIN_S if child.returncode >= 0 else 0)
                        if not self.stopping:
                            self.children[place] = self.start()
            self.stop(
                signal.SIGTERM, None
            )  # once more: one may have been started in that very moment
            for child in self.children:
                child.wait(30)
            return 0
        finally:
            for child in self.children:
                if child.poll() is None:
                    child.kill()
            shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self, number: int, frame: object) -> None:
        self.stopping = True
        for child in self.children:
            if child.poll() is None:
                child.terminate()

    def forget(self, pid: int) -> None:
        """Leave a dead worker's gauges out of the sums."""
        for path in self.folder.glob(f"gauge_live*_{pid}.db"):
            path.unlink(missing_ok=True)


def settled(host: str | None, port: int | None, workers: int | None) -> Serving:
    """conf/config.yaml's serve section, with what the command line says instead."""
    own = config.general().serve.model_dump()
    given = {
        name: value
        for name, value in (("host", host), ("port", port), ("workers", workers))
        if value is not None
    }
    from pydantic import ValidationError

    try:
        return Serving.model_validate({**own, **given})
    except ValidationError as error:
        raise Refused(config.problems(error, "serve", Serving)) from error


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.serve", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="APPLICATION")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--socket", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    paths.settle()
    names = chosen(given.names, given.all)
    if given.socket is not None:
        code = work(
            names,
            Serving.model_validate_json(os.environ["TIDEMILL_SERVE"]),
            socket.socket(fileno=given.socket),
            FIRST_S,
        )
    else:
        code = serve(
            names,
            settled(given.host, given.port, given.workers),
            lambda where: print(where, flush=True),
        )
    if code:
        raise Fault("the server could not start; its log says why")


if __name__ == "__main__":
    process.main(main, USAGE)
