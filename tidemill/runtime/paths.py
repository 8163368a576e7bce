"""Where everything lies: the project's root, and the state that is not data."""

import logging
import os
from pathlib import Path

from tidemill import TELEMETRY_OFF
from tidemill.runtime import addresses
from tidemill.runtime.errors import Refused


def project() -> Path | None:
    """The nearest folder at or above the working directory that has conf/config.yaml."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "conf" / "config.yaml").is_file():
            return folder
    return None


def root() -> Path:
    """The project's folder; refused outside of one."""
    folder = project()
    if folder is None:
        raise Refused(
            f"{Path.cwd()} is in no project (there is no conf/config.yaml here or above); "
            "cd into a project, or clone one"
        )
    return folder


def conf() -> Path:
    return root() / "conf"


def data(kind: str, name: str) -> Path:
    """The folder of a kind of data (raw, clean, blobs, select, ...), of a source or recipe."""
    return root() / "data" / kind / name


def state(*parts: str) -> Path:
    """A path under .tidemill/, the state that is not data; made private to its owner."""
    folder = root() / ".tidemill"
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.joinpath(*parts)


def unread(source: str) -> Path:
    """A mark of a source that had records which could not be read.

    The source is cleaned again the next night, though nothing of it changed.
    """
    return state("clean", f"{source}.unread")


def run(key: str) -> Path:
    """The receipts and checkpoints of one run of the model half."""
    return state("runs", key[:16])


def cache() -> Path:
    """Downloaded packages, by sha256; shared by clones where TIDEMILL_CACHE names a folder."""
    given = os.environ.get("TIDEMILL_CACHE")
    return Path(given) if given else state("cache")


def mlflow_login() -> Path:
    """The login of MLflow's server under `tidemill up --public`.

    User, password and the key of its sessions.
    """
    return state("keys", "mlflow-login.json")


def environment() -> dict[str, str]:
    """The variables every process of ours runs with; what is set already stays as it is.

    No telemetry anywhere; servers on this machine unless they are named; Prefect's recorder in
    batches (47 to 67 ms a task run as it comes, 17 ms so).
    """
    defaults = {
        **TELEMETRY_OFF,
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_HOME": str(state("prefect")),
        **_prefect_database(),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
        "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "100",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
        "PREFECT_CLIENT_MAX_RETRIES": "10",
        # the panel and the exit code speak for the run
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "tasks,flows,tidemill",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "MLFLOW_TRACKING_URI": addresses.sqlite(state("mlflow.db")),
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "OPTUNA_STORAGE": addresses.sqlite(state("sweeps.db")),
        **servers(),
    }
    given = {name: os.environ.get(name, value) for name, value in defaults.items()}
    return {**given, **addresses.direct()}


def _prefect_database() -> dict[str, str]:
    """Prefect's database, where Prefect's own way to name it would go wrong."""
    path = state("prefect", "prefect.db")
    if addresses.plain(path) or os.environ.get("PREFECT_API_DATABASE_CONNECTION_URL"):
        return {}
    return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": addresses.sqlite(path, "aiosqlite")}


def servers() -> dict[str, str]:
    """The variables that lead to the servers of `tidemill up`, while it is up.

    A run made meanwhile is seen on their pages.
    """
    import json

    from tidemill.runtime.files import held

    path = state("up.json")
    if not path.is_file() or not held(state("locks", "up")):
        return {}
    try:
        where = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    found = {
        "PREFECT_API_URL": f"{where['prefect']}/api",
        "PREFECT_UI_URL": where["prefect"],
        "MLFLOW_TRACKING_URI": where["mlflow"],
        "TIDEMILL_MLFLOW_URL": where["mlflow"],
    }
    login = mlflow_login()
    if where.get("public") and os.access(login, os.R_OK):
        own = json.loads(login.read_text())
        found |= {
            "MLFLOW_TRACKING_USERNAME": own["user"],
            "MLFLOW_TRACKING_PASSWORD": own["password"],
        }
    return found


def settle() -> None:
    """Set those variables in this process, before an engine is imported."""
    os.environ.update(environment())
    # Prefect hands these on to the run's page, at the level they have.
    for name in ("tasks", "flows", "tidemill"):
        logging.getLogger(name).setLevel(logging.INFO)
