"""Create once: a lost answer must not make a second run or version.

MLflow's client sends a creating call again when its answer is lost, and the server creates again.
So here a creating call is sent without retries, what it should have made is searched for by a tag
of ours before each attempt and after it, and where two came to be, by a lost answer or by two
machines at once, the first one stays.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from tidemill.engines.mlflow.client import Missing
from tidemill.runtime.errors import Fault

T = TypeVar("T")
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
ATTEMPTS = 8


@contextmanager
def unrepeated() -> Iterator[None]:
    """MLflow's client sends each request once within.

    Children are single-threaded where they register.
    """
    before = os.environ.get(RETRIES)
    os.environ[RETRIES] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[RETRIES]
        else:
            os.environ[RETRIES] = before


def once(
    find: Callable[[], list[T]],
    create: Callable[[], object],
    drop: Callable[[T], object],
    delay_s: float = 0.2,
) -> T:
    """The one thing there is: found, or created where there was none.

    `find` gives the first one first; `drop` removes one of the others, which another process may
    be removing too. Raises the last error of `create` where it failed eight times and nothing came
    of it.
    """
    error: Fault | None = None
    for attempt in range(ATTEMPTS):
        things = find()
        if len(things) == 1:
            return things[0]
        for more in things[1:]:
            with suppress(Missing):
                drop(more)
        if things:
            continue
        try:
            with unrepeated():
                create()
        except Fault as lost:
            error = lost
            time.sleep(delay_s * 2 ** min(attempt, 4))
    things = find()
    if not things:
        raise error or Fault("created in MLflow, and not found afterwards", heals=True)
    return things[0]
