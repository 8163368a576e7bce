"""Runs whose process died without a word.

They are found by their process and set Crashed, so that their slots and names are free.
"""

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidemill.runtime import paths
from tidemill.runtime.files import write_json
from tidemill.runtime.lifetimes import identity

log = logging.getLogger(__name__)
PAGE = 200  # runs in one answer of Prefect's server, at most


def register_alive() -> None:
    """Note which process runs this flow run; the first thing a flow does."""
    from prefect.runtime import flow_run

    if flow_run.id:
        write_json(paths.state("alive", f"{flow_run.id}.json"), identity.me())


def reap(everything: bool = False) -> list[str]:
    """Set Crashed each run of this machine that is RUNNING and whose process is gone; their names.

    One that a person was cancelling when its process went is Cancelled, as it was meant to be.
    With `everything`, at the runner's start, also runs that a runner of ours had taken and that
    never noted their process.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.states import Cancelled, Crashed

    kinds = [StateType.RUNNING, StateType.CANCELLING]
    dead = []
    with get_client(sync_client=True) as client:
        for run in _runs(client, [*kinds, StateType.PENDING] if everything else kinds):
            if not _gone(run, everything):
                continue
            end = Cancelled if run.state_type == StateType.CANCELLING else Crashed
            words = "its process is gone: killed, or the machine went down"
            client.set_flow_run_state(run.id, end(message=words), force=True)
            _note(run).unlink(missing_ok=True)
            dead.append(run.name)
            log.warning("%s: its process is gone; the run is %s", run.name, end.__name__)
    return dead


def _note(run: Any) -> Path:
    """Where a run noted its process."""
    return paths.state("alive", f"{run.id}.json")


def _gone(run: Any, everything: bool) -> bool:
    path = _note(run)
    if path.is_file():
        who = json.loads(path.read_text())
        return who["host"] == socket.gethostname() and not identity.lives(who)
    # Taken by a runner of ours that is no more, and killed before it could note its process:
    # a fresh runner has taken nothing yet.
    return everything and "tidemill" in run.tags


def _runs(client: Any, kinds: list[Any]) -> Iterator[Any]:
    """The runs in these kinds of state, page by page: the server gives 200 at a time."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )

    of_kinds = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=kinds)))
    runs: list[Any] = []
    while page := client.read_flow_runs(flow_run_filter=of_kinds, limit=PAGE, offset=len(runs)):
        runs += page
    return iter(runs)


def collapse() -> list[str]:
    """Of what the clock started and is late, keep the newest and cancel the others; their names."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    words = "missed while the machine was off; a later night does its work"
    late: dict[str, list[Any]] = {}
    with get_client(sync_client=True) as client:
        for run in _late(client):
            group = json.dumps([str(run.deployment_id), run.parameters], sort_keys=True)
            late.setdefault(group, []).append(run)
        gone = [run for group in late.values() for run in group[:-1]]
        for run in gone:
            client.set_flow_run_state(run.id, Cancelled(message=words), force=True)
    return [run.name for run in gone]


def _late(client: Any) -> list[Any]:
    """The runs that the clock should have started by now, the earliest first.

    A night that a person asked for is not among them: it is not a missed one.
    """
    from datetime import UTC, datetime

    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    now = datetime.now(UTC)
    scheduled = FlowRunFilterStateType(any_=[StateType.SCHEDULED])
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=scheduled)),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=["nightly", "watch"])),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=200,
    )
    return [
        run
        for run in runs
        if run.auto_scheduled and run.expected_start_time and run.expected_start_time < now
    ]
