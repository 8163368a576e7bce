"""MLflow's client, and where the registry lies.

Always the client with an explicit run id: the fluent interface is bound to a thread and writes to
the wrong run inside task threads."""

import os
from typing import Any

from tidemill.engines.mlflow import database, direct
from tidemill.runtime import addresses, paths


def connect() -> Any:
    """MLflow's client at MLFLOW_TRACKING_URI, by default the SQLite file of this project."""
    paths.settle()
    database.create(uri())
    from mlflow import MlflowClient

    return MlflowClient()


def uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or paths.environment()["MLFLOW_TRACKING_URI"]


def quick() -> direct.Registry | None:
    """The registry without MLflow's import; None where only MLflow's client can ask it."""
    path = addresses.sqlite_path(uri())
    if path is not None:
        database.settle(path)
    return direct.at(uri())


def unborn() -> bool:
    """Whether the registry is a SQLite file that nothing has been written to yet."""
    return database.missing(uri())
