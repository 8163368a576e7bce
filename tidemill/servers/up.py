"""One command up: Prefect, MLflow, the nightly runner and the prediction server on loopback, kept by supervisor, stopped together.

Who is up is a kernel lock, never a file that outlives its owner; .tidemill/up.json only says where.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NoReturn
from xmlrpc.client import Fault as Refusal
from xmlrpc.client import ServerProxy, Transport

from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import held, holding, write, write_json
from tidemill.servers import logins

HOST = "127.0.0.1"
READY_S = 120  # the first start migrates two databases
STOP_S = 10
PORTS = {"prefect": 4200, "mlflow": 5000, "serve": 8000}
RETRIES = 5
SERVICES = ("prefect", "mlflow", "runner", "serve")


def lock() -> Path:
    return paths.state("locks", "up")


def running() -> dict[str, Any] | None:
    """Where the servers are, while somebody keeps them up; None else."""
    if not held(lock()):
        return None
    try:
        return json.loads(paths.state("up.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}


def settled() -> dict[str, Any] | None:
    """Where the servers are that somebody else keeps up, once they answer; None where nobody does, or no longer."""
    until = time.monotonic() + READY_S
    while (where := running()) is not None and not where.get("ready"):
        if time.monotonic() > until:
            raise Fault(
                f"another tidemill up has not become ready within {READY_S} s; see .tidemill/logs, or tidemill down"
            )
        time.sleep(0.2)
    return where


def free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose(name: str, given: int | None) -> int:
    """The port a service gets: the one asked for, or its usual one, or any that is free."""
    if given is not None:
        if not 1 <= given <= 65535:
            raise Refused(f"--{name}-port {given} is no port; it is between 1 and 65535")
        if not free(given):
            raise Refused(
                f"port {given} for {name} is in use; name another with --{name}-port, or leave it out"
            )
        return given
    if free(PORTS[name]):
        return PORTS[name]
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def addresses(ports: dict[str, int]) -> dict[str, str]:
    return {name: f"http://{HOST}:{port}" for name, port in ports.items()}


def environment(where: dict[str, str], public: str = "") -> dict[str, str]:
    """What the servers and everything they start run with; with the name of `--public`, their logins too."""
    own = {
        name: value
        for name, value in paths.environment().items()
        if name not in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
    }
    prefect = where["prefect"]
    seen = outside(where, public)
    return {
        **own,
        **(logins.environment() if public else {}),
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_UI_URL": seen["prefect"],
        "PREFECT_SERVER_UI_API_URL": f"{seen['prefect']}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{prefect},{prefect.replace(HOST, 'localhost')},{seen['prefect']}",
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        "MLFLOW_TRACKING_URI": where["mlflow"],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "TIDEMILL_MLFLOW_URL": where["mlflow"],
        "TIDEMILL_MLFLOW_PAGES": seen["mlflow"],
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(paths.root()),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
    }


def outside(where: dict[str, str], public: str) -> dict[str, str]:
    """The addresses that a person's browser uses: with `--public` those of the proxy that speaks TLS."""
    return (
        {
            name: address.replace(f"http://{HOST}", f"https://{public}")
            for name, address in where.items()
        }
        if public
        else where
    )


def commands(ports: dict[str, int], public: str = "") -> dict[str, list[str]]:
    """What each service runs; a service ends when its supervisor does (tidemill/runtime/lifetimes/subreaper.py)."""
    python = [sys.executable, "-m"]
    names = [HOST, "localhost", *([public] if public else [])]
    hosts = ",".join(
        [*(f"{name}:{ports['mlflow']}" for name in names), *([public] if public else [])]
    )
    login = (
        [
            "--app-name",
            "basic-auth",
            "--cors-allowed-origins",
            f"https://{public}:{ports['mlflow']}",
        ]
        if public
        else []
    )
    return {
        "prefect": [*python, "tidemill.servers.prefect_server", str(ports["prefect"]), *names],
        "mlflow": [
            *python,
            "tidemill.engines.mlflow.server",
            "--host",
            HOST,
            "--port",
            str(ports["mlflow"]),
            "--workers",
            "1",
            "--allowed-hosts",
            hosts,
            *login,
            "--backend-store-uri",
            f"sqlite:///{paths.state('mlflow.db')}",
            "--artifacts-destination",
            str(paths.state("artifacts")),
        ],
        "runner": [*python, "flows.deployments"],
        "serve": [*python, "tasks.serve", "--all", "--host", HOST, "--port", str(ports["serve"])],
    }


def configuration(ports: dict[str, int], folder: Path, public: str = "") -> str:
    """supervisord.conf. A percent sign begins an expansion there, so ours are doubled."""

    def plain(text: str) -> str:
        return text.replace("%", "%%")

    logs = paths.state("logs")
    parts = [
        f"[unix_http_server]\nfile={plain(str(socket_path(folder)))}\nchmod=0700",
        f"[supervisord]\nnodaemon=true\nlogfile={plain(str(logs / 'supervisor.log'))}\nlogfile_maxbytes=5MB\nlogfile_backups=2\npidfile={plain(str(folder / 'supervisord.pid'))}\n"
        f"childlogdir={plain(str(logs))}\ndirectory={plain(str(paths.root()))}\nsilent=true",
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for name, command in commands(ports, public).items():
        whole = shlex.join([sys.executable, "-m", "tidemill.runtime.lifetimes.subreaper", *command])
        parts.append(
            f"[program:{name}]\ncommand={plain(whole)}\nautostart=false\nautorestart=true\nstartsecs=8\nstartretries={RETRIES}\n"
            f"stopsignal=TERM\nstopwaitsecs={STOP_S - 4}\nkillasgroup=true\nredirect_stderr=true\n"
            f"stdout_logfile={plain(str(logs / (name + '.log')))}\nstdout_logfile_maxbytes=10MB\nstdout_logfile_backups=2"
        )
    return "\n\n".join(parts) + "\n"


def socket_path(folder: Path) -> Path:
    """supervisor's control socket: beside its configuration, or in a private temporary folder where that path is too long for a socket."""
    path = folder / "supervisor.sock"
    if len(str(path)) < 100:
        return path
    import hashlib
    import tempfile

    private = Path(tempfile.gettempdir()) / f"tidemill-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    if private.stat().st_uid != os.getuid() or private.stat().st_mode & 0o077:
        raise Fault(
            f"{private} belongs to somebody else or is open to others; remove it and try again"
        )
    return private / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.sock"


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


def answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            url, timeout=2
        ) as response:
            return response.status == 200
    except OSError:
        return False


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


def keep(
    ports: dict[str, int | None], told: Callable[[str, str], None], public: str = ""
) -> NoReturn:
    """Start all, say when each answers, and stay until Ctrl-C or `down`; what dies is started again."""
    if public:
        logins.check(public)
    with holding(lock()) as mine:
        if not mine:
            raise Refused(
                "tidemill is up already; tidemill status says where, tidemill down stops it"
            )
        chosen = {name: choose(name, ports.get(name)) for name in PORTS}
        where = addresses(chosen)
        folder = paths.state("up")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths.state("logs").mkdir(parents=True, exist_ok=True)
        (folder / "runner.ready").unlink(missing_ok=True)
        write(folder / "supervisord.conf", configuration(chosen, folder, public))
        env = {**os.environ, **environment(where, public)}
        for name in ("TIDEMILL_OWNER", "TIDEMILL_RECEIPT"):
            env.pop(name, None)
        supervisor = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tidemill.runtime.lifetimes.subreaper",
                sys.executable,
                "-m",
                "supervisor.supervisord",
                "-c",
                str(folder / "supervisord.conf"),
            ],
            env=env,
            cwd=paths.root(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            stdout=(paths.state("logs", "supervisor.out")).open("w"),
            stderr=subprocess.STDOUT,
        )
        code = 0
        try:
            signal.signal(signal.SIGTERM, _interrupt)
            signal.signal(signal.SIGINT, _interrupt)
            begin(supervisor, folder, where, told, public)
            write_json(
                paths.state("up.json"),
                {"pid": os.getpid(), "ready": True, "public": public, **where},
            )
            if public:
                told("public", logins.words(public, where))
            told("ready", "")
            watch(supervisor, folder, told)
        except KeyboardInterrupt:
            told("stopping", "")
        except Fault as fault:
            told("failed", str(fault))
            code = 1
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            paths.state("up.json").unlink(missing_ok=True)
            stop(supervisor)
    sys.exit(code)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def begin(
    supervisor: subprocess.Popen[bytes],
    folder: Path,
    where: dict[str, str],
    told: Callable[[str, str], None],
    public: str = "",
) -> None:
    """Start the services in order, each once the one before answers; the two servers together, since neither waits for the other."""
    until = time.monotonic() + READY_S
    rpc = None
    while rpc is None:
        _alive(supervisor, until, "supervisor")
        try:
            rpc = control(folder)
            rpc.getState()
        except (OSError, Refusal):
            rpc = None
            time.sleep(0.1)
    for name in ("prefect", "mlflow"):
        rpc.startProcess(name, False)
    ready = {
        "prefect": lambda: (
            answers(f"{where['prefect']}/api/health") and ours(supervisor, where["prefect"])
        ),
        "mlflow": lambda: (
            answers(f"{where['mlflow']}/health") and ours(supervisor, where["mlflow"])
        ),
        "runner": (folder / "runner.ready").is_file,
        "serve": lambda: answers(f"{where['serve']}/ready") and ours(supervisor, where["serve"]),
    }
    for name in SERVICES:
        if name == "runner":  # the runner and the answers need both servers, and not each other
            for both in ("runner", "serve"):
                rpc.startProcess(both, False)
        while not ready[name]():
            _alive(supervisor, until, name)
            given_up(rpc)
            time.sleep(0.2)
        told(name, where.get(name, ""))
        if name == "mlflow":
            # From here on `tidemill run` uses these servers; the runner's own steps do too.
            write_json(
                paths.state("up.json"),
                {"pid": os.getpid(), "ready": False, "public": public, **where},
            )


def ours(supervisor: subprocess.Popen[bytes], address: str) -> bool:
    """Whether it is our server that listens there, and not one that took the port in the same moment."""
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


def _alive(supervisor: subprocess.Popen[bytes], until: float, name: str) -> None:
    if supervisor.poll() is not None:
        raise Fault(
            f"supervisor ended: {last_words('supervisor')}; see .tidemill/logs/supervisor.log"
        )
    if time.monotonic() > until:
        raise Fault(
            f"{name} did not answer within {READY_S} s: {last_words(name)}; see .tidemill/logs/{name}.log"
        )


def given_up(rpc: Any) -> None:
    """Raise where a service died so often that supervisor gave it up, with its last words."""
    for item in rpc.getAllProcessInfo():
        if item["statename"] == "FATAL":
            raise Fault(
                f"{item['name']} died {RETRIES + 1} times: {last_words(item['name'])}; see .tidemill/logs/{item['name']}.log"
            )


def watch(
    supervisor: subprocess.Popen[bytes], folder: Path, told: Callable[[str, str], None]
) -> None:
    """Until somebody stops us: say what was started again, and give up where nothing helps."""
    rpc = control(folder)
    pids: dict[str, int] = {}
    while True:
        time.sleep(1)
        if supervisor.poll() is not None:
            raise Fault(
                f"supervisor ended: {last_words('supervisor')}; see .tidemill/logs/supervisor.log"
            )
        try:
            given_up(rpc)
            for item in rpc.getAllProcessInfo():
                if item["pid"] and pids.get(item["name"], item["pid"]) != item["pid"]:
                    told("again", f"{item['name']} died and was started again")
                if item["pid"]:
                    pids[item["name"]] = item["pid"]
        except OSError:
            rpc = control(folder) if supervisor.poll() is None else rpc


def stop(supervisor: subprocess.Popen[bytes]) -> None:
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
                f"process {where['pid']} did not stop within {STOP_S + 5} s; see .tidemill/logs/supervisor.log"
            )
        time.sleep(0.1)
    return True
