"""Runs that died without a word: found by their process, and set Crashed, so that their slots and
names are free.
"""

import json
import logging
import socket
from typing import Any

from tidemill.runtime import paths
from tidemill.runtime.files import write_json
from tidemill.runtime.lifetimes import identity

log = logging.getLogger(__name__)


def register_alive() -> None:
    """Note which process runs this flow run; the first thing a flow does."""
    from prefect.runtime import flow_run

    if flow_run.id:
        write_json(paths.state("alive", f"{flow_run.id}.json"), identity.me())


def reap(everything: bool = False) -> list[str]:
    """Set Crashed each run of this machine that is RUNNING and whose process is gone; their names.

    With `everything`, at the runner's start: also runs that a runner of ours had taken and that
    never noted their process.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    folder = paths.state("alive")
    kinds = (
        [StateType.RUNNING, StateType.CANCELLING, StateType.PENDING]
        if everything
        else [StateType.RUNNING, StateType.CANCELLING]
    )
    dead = []
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=kinds))
            )
        )
        for run in runs:
            path = folder / f"{run.id}.json"
            if path.is_file():
                who = json.loads(path.read_text())
                gone = who["host"] == socket.gethostname() and not identity.lives(who)
            else:
                # Taken by a runner of ours that is no more, and killed before it could note its
                # process: a fresh runner has taken nothing yet.
                gone = everything and "tidemill" in run.tags
            if gone:
                client.set_flow_run_state(
                    run.id,
                    Crashed(message="its process is gone: killed, or the machine went down"),
                    force=True,
                )
                path.unlink(missing_ok=True)
                dead.append(run.name)
                log.warning("%s: its process is gone; the run is Crashed", run.name)
    return dead


def collapse() -> list[str]:
    """Of the nights that are late, keep the newest and cancel the others; their names."""
    from datetime import UTC, datetime

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.states import Cancelled

    now = datetime.now(UTC)
    late: dict[str, list[Any]] = {}
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
            ),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=["nightly"])),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=200,
        )
        for run in runs:
            # A night a person asked for is not a missed one.
            if run.auto_scheduled and run.expected_start_time and run.expected_start_time < now:
                late.setdefault(json.dumps(run.parameters, sort_keys=True), []).append(run)
        gone = [run for group in late.values() for run in group[:-1]]
        for run in gone:
            client.set_flow_run_state(
                run.id,
                Cancelled(message="missed while the machine was off; a later night does its work"),
                force=True,
            )
    return [run.name for run in gone]
