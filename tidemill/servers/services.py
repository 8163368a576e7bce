"""The four services of `tidemill up`.

What each runs, with which variables, and how supervisor keeps it.
"""

import hashlib
import os
import shlex
import sys
import tempfile
from pathlib import Path

from tidemill.runtime import addresses, paths, process
from tidemill.runtime.errors import Fault
from tidemill.runtime.lifetimes import bound
from tidemill.servers import logins
from tidemill.servers.ports import HOST

SERVICES = ("prefect", "mlflow", "runner", "serve")
RETRIES = 5
STOP_S = 10  # in which all has ended after `tidemill down`


def environment(where: dict[str, str], public: str = "") -> dict[str, str]:
    """What the servers and everything they start run with.

    With the name of `--public`, their logins too.
    """
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
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(
            [prefect, prefect.replace(HOST, "localhost"), seen["prefect"]]
        ),
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
    """The addresses that a person's browser uses.

    With `--public` they are those of the proxy that speaks TLS.
    """
    return (
        {
            name: address.replace(f"http://{HOST}", f"https://{public}")
            for name, address in where.items()
        }
        if public
        else where
    )


def commands(ports: dict[str, int], public: str = "") -> dict[str, list[str]]:
    """What each service runs."""
    names = [HOST, "localhost", *([public] if public else [])]
    prefect, serve = str(ports["prefect"]), str(ports["serve"])
    return {
        "prefect": process.python("tidemill.servers.prefect_server", prefect, *names),
        "mlflow": _mlflow(ports["mlflow"], names, public),
        "runner": process.python("flows.deployments"),
        "serve": process.python("tasks.serve", "--all", "--host", HOST, "--port", serve),
    }


def _mlflow(port: int, names: list[str], public: str) -> list[str]:
    hosts = [*(f"{name}:{port}" for name in names), *([public] if public else [])]
    origin = f"https://{public}:{port}"
    login = ["--app-name", "basic-auth", "--cors-allowed-origins", origin] if public else []
    return process.python(
        "tidemill.engines.mlflow.server",
        *("--host", HOST),
        *("--port", str(port)),
        *("--workers", "1"),
        *("--allowed-hosts", ",".join(hosts)),
        *login,
        *("--backend-store-uri", addresses.sqlite(paths.state("mlflow.db"))),
        *("--artifacts-destination", paths.state("artifacts").as_uri()),
    )


def variable(name: str) -> str:
    """The variable that holds a service's command line."""
    return f"TIDEMILL_SERVICE_{name.upper()}"


def command_lines(ports: dict[str, int], public: str = "") -> dict[str, str]:
    """Each service's command line, in its variable.

    A service ends when supervisor does (bound.py).
    """
    launcher = [sys.executable, "-I", "-S", str(Path(bound.__file__))]
    return {
        variable(name): shlex.join([*launcher, *command])
        for name, command in commands(ports, public).items()
    }


def configuration(folder: Path) -> str:
    """supervisord.conf, for a supervisor that runs in the project's folder.

    Its files have no way to write ` #`, ` ;` or `%` as themselves. So paths are relative, and what
    a service runs stands in a variable.
    """
    logs = paths.state("logs").relative_to(paths.root())
    up = folder.relative_to(paths.root())
    sections: dict[str, dict[str, object]] = {
        "unix_http_server": {"file": _shown(socket_path(folder)), "chmod": "0700"},
        "supervisord": {
            "nodaemon": "true",
            "logfile": logs / "supervisor.log",
            "logfile_maxbytes": "5MB",
            "logfile_backups": 2,
            "pidfile": up / "supervisord.pid",
            "childlogdir": logs,
            "silent": "true",
        },
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
    }
    for name in SERVICES:
        sections[f"program:{name}"] = _program(name, logs / f"{name}.log")
    return "\n\n".join(_section(name, values) for name, values in sections.items()) + "\n"


def _shown(path: Path) -> Path:
    return path.relative_to(paths.root()) if path.is_relative_to(paths.root()) else path


def _program(name: str, log: Path) -> dict[str, object]:
    return {
        "command": f"%(ENV_{variable(name)})s",
        "autostart": "false",
        "autorestart": "true",
        "startsecs": 8,
        "startretries": RETRIES,
        "stopsignal": "TERM",
        "stopwaitsecs": STOP_S - 4,
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": log,
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 2,
    }


def _section(name: str, values: dict[str, object]) -> str:
    return "\n".join([f"[{name}]", *(f"{key}={value}" for key, value in values.items())])


def socket_path(folder: Path) -> Path:
    """The address of supervisor's control socket.

    Beside its configuration, or in a private temporary folder where that path is too long for a
    socket.
    """
    path = folder / "supervisor.sock"
    if len(str(path)) < 100:
        return path
    private = Path(tempfile.gettempdir()) / f"tidemill-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    if private.stat().st_uid != os.getuid() or private.stat().st_mode & 0o077:
        raise Fault(
            f"{private} belongs to somebody else or is open to others; remove it and try again"
        )
    return private / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.sock"
