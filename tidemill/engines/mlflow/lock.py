"""One promotion of an application at a time, over processes and over machines.

On one machine a kernel lock holds. Machines that share a server of MLflow take turns by tags of the
registered model: each writes a tag of its own and then reads all of them. Whoever sees another's
withdraws, so of two at once at most one goes on; both may withdraw, and try again.
"""

import json
import logging
import random
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tidemill.engines.mlflow import client, registry
from tidemill.runtime import addresses, paths
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import canonical, locked
from tidemill.runtime.lifetimes import identity

log = logging.getLogger(__name__)
TAG = "tidemill.promoting."
DEAD_S = 60.0  # a tag that stayed so long, seen by one waiting machine, is of one that died
WAIT_S = 120.0


@contextmanager
def held(application: str) -> Iterator[None]:
    """Nobody else moves this application's champion within. Raises `Fault` after WAIT_S."""
    with ExitStack() as stack:
        stack.enter_context(locked(paths.state("locks", f"promote-{application}")))
        file = addresses.sqlite_path(client.uri())
        if file is not None:
            if not client.own():  # another project's file: its lock lies beside it
                stack.enter_context(locked(_beside(file, application)))
        else:
            stack.enter_context(leased(application))
        yield


def _beside(file: Path, application: str) -> Path:
    return file.with_name(f".{file.name}.promote-{application}.lock")


@contextmanager
def leased(application: str) -> Iterator[None]:
    """The turn among machines that share a registry."""
    mine = TAG + secrets.token_hex(8)
    _take(application, mine)
    try:
        yield
    finally:
        registry.drop_tag(application, mine)


def _take(application: str, mine: str) -> None:
    first_seen: dict[str, float] = {}
    until = time.monotonic() + WAIT_S
    while True:
        registry.set_tag(application, mine, canonical(identity.me()))
        others = _others(application, mine, first_seen)
        if not others:
            return
        registry.drop_tag(application, mine)
        if time.monotonic() > until:
            raise Fault(
                f"another machine has been promoting {application} for {WAIT_S:.0f} s; look at "
                f"tidemill history {application} and run again",
                heals=True,
            )
        log.warning("waiting for another machine, which promotes %s", application)
        time.sleep(random.uniform(0.2, 1.5))


def _others(application: str, mine: str, first_seen: dict[str, float]) -> list[str]:
    """The tags of others that live; what the dead left is removed."""
    model = registry.model(application)
    alive = []
    for name, text in (model.tags if model else {}).items():
        if not name.startswith(TAG) or name == mine:
            continue
        since = first_seen.setdefault(name, time.monotonic())
        if _died(text) or time.monotonic() - since > DEAD_S:
            registry.drop_tag(application, name)
        else:
            alive.append(name)
    return alive


def _died(text: str) -> bool:
    """Whether the process that wrote a tag was one of this machine and is no more."""
    try:
        who = json.loads(text)
    except ValueError:
        return True
    here = identity.me()
    return who.get("host") == here["host"] and not identity.lives(who)
