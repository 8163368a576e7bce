"""MLflow's client, and where the registry lies.

Always the client with an explicit run id: the fluent interface is bound to a thread and writes to
the wrong run inside task threads. What MLflow raises leaves here as a `Fault` of one line.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from tidemill.engines.mlflow import database, direct
from tidemill.runtime import addresses, paths
from tidemill.runtime.errors import Fault

ABSENT = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "ENDPOINT_NOT_FOUND")
BUSY = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
UNREACHED = "failed with exception"  # what MLflow says where its server does not answer


class Missing(Fault):
    """MLflow has no such experiment, run, model, version or file."""


class Client:
    """MLflow's own client, whose errors are ours."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._client, name)
        return explained(member) if callable(member) else member


def connect() -> Any:
    """MLflow's client at MLFLOW_TRACKING_URI, by default the SQLite file of this project."""
    paths.settle()
    database.create(uri())
    from mlflow import MlflowClient

    with errors():
        return Client(MlflowClient())


def explained(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call; what MLflow raises in it is raised as a `Fault`."""

    @wraps(call)
    def asked(*arguments: Any, **named: Any) -> Any:
        with errors():
            return call(*arguments, **named)

    return asked


@contextmanager
def errors() -> Iterator[None]:
    """What MLflow raises within is raised as a `Fault` of one line, as `Missing` where it fits."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        lines = str(error.message).strip().splitlines()
        words = f"MLflow at {uri()}: {lines[0][:400] if lines else error.error_code}"
        if error.error_code in ABSENT:
            raise Missing(words) from error
        heals = error.error_code in BUSY or UNREACHED in words
        raise Fault(words, heals=heals) from error


def uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or paths.environment()["MLFLOW_TRACKING_URI"]


def own() -> bool:
    """Whether the registry is this project's: its SQLite file, or the server of `tidemill up`."""
    if uri() == os.environ.get("TIDEMILL_MLFLOW_URL"):
        return True
    return addresses.sqlite_path(uri()) == paths.state("mlflow.db")


def quick() -> direct.Registry | None:
    """The registry without MLflow's import; None where only MLflow's client can ask it."""
    path = addresses.sqlite_path(uri())
    if path is not None:
        database.settle(path)
    return direct.at(uri())


def unborn() -> bool:
    """Whether the registry is a SQLite file that nothing has been written to yet."""
    return database.missing(uri())
