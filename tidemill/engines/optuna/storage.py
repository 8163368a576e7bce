"""Optuna's database, which may be locked or unreachable for a while."""

import inspect
import os
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import optuna
import sqlalchemy.exc

from tidemill.runtime.errors import Fault

HEARTBEAT_S, GRACE_S = 20, 90  # a worker of another machine that was silent for so long is dead
LOCK_WAIT_S = 30  # SQLite's own wait for a lock; some locks it reports at once
PAUSES_S = (0.2, 1.0, 3.0)  # before each further attempt
PASSING = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.TimeoutError,
)
"""Locked, unreachable, restarting: errors of the database that are none of what was asked."""


class StorageUnavailable(Fault):
    """The database stayed locked or unreachable; the sweep resumes where it was once it is back."""

    def __init__(self, error: BaseException) -> None:
        cause = " ".join(str(getattr(error, "orig", None) or error).split())[:200]
        super().__init__(f"the sweep's storage is not available: {cause}; run again", heals=True)


def passing(error: BaseException) -> BaseException | None:
    """The database's own error behind one of Optuna's, where it passes; else None."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    return cause if isinstance(cause, PASSING) else None


def patient(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Ask again after a pause where the database was locked; then raise StorageUnavailable.

    What failed was rolled back, so it is not done twice.
    """

    @wraps(ask)
    def asked(*arguments: Any, **named: Any) -> Any:
        for pause_s in (*PAUSES_S, None):
            try:
                return ask(*arguments, **named)
            except Exception as error:
                cause = passing(error)
                if cause is None:
                    raise
                if pause_s is None:
                    raise StorageUnavailable(cause) from error
                time.sleep(pause_s)
        raise AssertionError("unreachable")

    return asked


class Storage(optuna.storages.RDBStorage):
    """Optuna's storage with every question asked patiently, those of its cache too."""


for _name, _ask in vars(optuna.storages.RDBStorage).items():
    if inspect.isfunction(_ask) and not _name.startswith("__"):
        setattr(Storage, _name, patient(_ask))


@patient
def opened() -> Storage:
    """The storage that OPTUNA_STORAGE names."""
    url = os.environ["OPTUNA_STORAGE"]
    sqlite = url.startswith("sqlite")
    return Storage(
        url,
        heartbeat_interval=HEARTBEAT_S,
        grace_period=GRACE_S,
        engine_kwargs={"connect_args": {"timeout": LOCK_WAIT_S}} if sqlite else None,
    )
