"""Evaluation that goes on after deployment: served questions are looked at, and a retraining begins where they moved."""

import logging
from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed

from flows.forms import Application
from flows.retrain import retrain
from tasks.serve import watching
from tidemill.engines import config
from tidemill.engines.prefect.names import hour, named
from tidemill.engines.prefect.reap import register_alive
from tidemill.records.receipts import Started, Watched
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.escape import line

log = logging.getLogger(__name__)


@flow(
    name="watch",
    flow_run_name=named(lambda given: f"watch what is served, {hour()}"),
    persist_result=False,
)
def watch(applications: list[Application] = [], retrain_them: bool = True) -> Any:
    """Compare what is asked of each champion, and how well it is answered, with what it was judged on.

    Args:
        applications: Which ones; empty for all whose conf/recipe samples served questions.
        retrain_them: Start a retraining where something moved, at most once a day for each application.
    """
    register_alive()
    ends: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for name in [str(name) for name in applications] or sampled():
        try:
            found: Watched = watching.submit(name).result()
        except (Fault, Refused) as error:
            ends[name] = f"Failed: {error}"
            continue
        rows += [
            {
                "application": name,
                "version": found.version,
                "rows": found.rows,
                "what": key,
                "figure": value,
                "alarm": found.alarm,
            }
            for key, value in found.drift.items()
        ]
        if found.figure is not None:
            rows.append(
                {
                    "application": name,
                    "version": found.version,
                    "rows": found.labelled,
                    "what": found.metric,
                    "figure": found.figure,
                    "alarm": found.alarm,
                }
            )
        ends[name] = acted(found) if found.alarm and retrain_them else line(found.because)
    if rows:
        create_table_artifact(
            key="served",
            description="Served questions against the rows the champion was judged on.",
            table=rows,
        )
    words = (
        "; ".join(f"{name}: {end}" for name, end in ends.items())
        or "no application samples what it is asked (serve.sample in conf/recipe)"
    )
    return (
        Failed(message=words)
        if any(end.startswith("Failed") for end in ends.values())
        else Completed(name="Watched", message=words, data=ends)
    )


def sampled() -> list[str]:
    return [name for name, recipe in config.sound().items() if recipe.serve.sample]


def acted(found: Watched) -> str:
    """Start the retraining, unless one was started for this application today; how it ended, in words."""
    path = paths.state("watch", f"{found.application}.json")
    today = datetime.now(UTC).date().isoformat()
    if (last := Started.load(path)) and last.day == today:
        return f"{found.because}; a retraining was started for it today already"
    Started(day=today, because=found.because).save(path)
    state: Any = retrain(
        Application(found.application),
        [],
        False,
        False,
        f"watch: {found.because}",
        return_state=True,
    )
    return (
        f"{found.because}; retrained: {state.name}"
        if state.is_completed()
        else f"Failed: {found.because}; the retraining failed: {state.message}"
    )
