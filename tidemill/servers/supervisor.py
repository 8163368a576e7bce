"""supervisor, which keeps the services: how it is asked, watched and stopped."""

import socket
import subprocess
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy, Transport

from tidemill.runtime import paths
from tidemill.runtime.errors import Fault
from tidemill.servers.services import RETRIES, STOP_S, socket_path

Report = Callable[[str, str], None]
"""Called with an event and its words: a service that answers, one started again, the end."""
Supervisor = subprocess.Popen[bytes]


class _Local(Transport):
    """XML-RPC through a socket file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: Any) -> HTTPConnection:
        connection = HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(str(self.path))
        return connection


def control(folder: Path) -> Any:
    return ServerProxy("http://localhost", transport=_Local(socket_path(folder))).supervisor


def last_words(name: str) -> str:
    """The last line of a service's log that says something."""
    path = paths.state("logs", f"{name}.log")
    lines = (
        [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
        if path.is_file()
        else []
    )
    errors = [line for line in lines[-40:] if "error" in line.lower()]
    return (errors or lines or ["it said nothing"])[-1][:300]


def ours(supervisor: Supervisor, address: str) -> bool:
    """Whether our server listens there, and not one that took the port in the same moment."""
    import psutil

    port = int(address.rsplit(":", 1)[1])
    for process in psutil.Process(supervisor.pid).children(recursive=True):
        try:
            if any(
                item.laddr and item.laddr.port == port and item.status == psutil.CONN_LISTEN
                for item in process.net_connections()
            ):
                return True
        except psutil.Error:
            continue
    return False


def check_alive(supervisor: Supervisor) -> None:
    """Raise where supervisor itself has ended."""
    if supervisor.poll() is not None:
        words = last_words("supervisor")
        raise Fault(f"supervisor ended: {words}; see .tidemill/logs/supervisor.log")


def given_up(rpc: Any) -> None:
    """Raise where a service died so often that supervisor gave it up, with its last words."""
    for item in rpc.getAllProcessInfo():
        if item["statename"] == "FATAL":
            name = item["name"]
            raise Fault(
                f"{name} died {RETRIES + 1} times: {last_words(name)}; "
                f"see .tidemill/logs/{name}.log"
            )


def watch(supervisor: Supervisor, folder: Path, report: Report) -> None:
    """Until somebody stops us: say what was started again, and give up where nothing helps."""
    rpc = control(folder)
    pids: dict[str, int] = {}
    while True:
        time.sleep(1)
        check_alive(supervisor)
        try:
            given_up(rpc)
            for name, pid in _started(rpc).items():
                if pids.get(name, pid) != pid:
                    report("again", f"{name} died and was started again")
                pids[name] = pid
        except OSError:
            rpc = control(folder) if supervisor.poll() is None else rpc


def _started(rpc: Any) -> dict[str, int]:
    return {item["name"]: item["pid"] for item in rpc.getAllProcessInfo() if item["pid"]}


def stop(supervisor: Supervisor) -> None:
    """All services, their children and supervisor; by force where ten seconds were not enough."""
    import psutil

    try:
        family = psutil.Process(supervisor.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if supervisor.poll() is None:
        supervisor.terminate()
    try:
        supervisor.wait(STOP_S - 2)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
    for process in psutil.wait_procs(family, timeout=1)[1]:
        process.kill()
