"""Evaluation after deployment: what is served is compared with what was judged.

A retraining starts where it moved.
"""

import logging
from datetime import UTC, datetime
from typing import Any, TypedDict

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


class ServedRow(TypedDict):
    """A row of the table of served questions on Prefect's page."""

    application: str
    version: str
    rows: int
    what: str  # a noted column, or the metric
    figure: float  # the column's drift (PSI), or the metric on served rows
    alarm: bool


@flow(
    name="watch",
    flow_run_name=named(lambda given: f"watch what is served, {hour()}"),
    persist_result=False,
)
def watch(applications: list[Application] = [], retrain_them: bool = True) -> Any:
    """Compare what each champion is asked, and how well it answers, with what it was judged on.

    Args:
        applications: Which ones; empty for all whose conf/recipe samples served questions.
        retrain_them: Start a retraining where something moved, at most once a day for each
            application.
    """
    register_alive()
    ends: dict[str, str] = {}
    rows: list[ServedRow] = []
    for name in [str(name) for name in applications] or sampled():
        try:
            watched: Watched = watching.submit(name).result()
        except (Fault, Refused) as error:
            ends[name] = f"Failed: {error}"
            continue
        rows += table(name, watched)
        ends[name] = acted(watched) if watched.alarm and retrain_them else line(watched.because)
    if rows:
        create_table_artifact(
            key="served",
            description="Served questions against the rows the champion was judged on.",
            table=[dict(row) for row in rows],
        )
    words = (
        "; ".join(f"{name}: {end}" for name, end in ends.items())
        or "no application samples what it is asked (serve.sample in conf/recipe)"
    )
    if any(end.startswith("Failed") for end in ends.values()):
        return Failed(message=words)
    return Completed(name="Watched", message=words, data=ends)


def table(name: str, watched: Watched) -> list[ServedRow]:
    """A row for each column's drift, and one for the metric on served rows with a label."""

    def row(rows: int, what: str, figure: float) -> ServedRow:
        return {
            "application": name,
            "version": watched.version,
            "rows": rows,
            "what": what,
            "figure": figure,
            "alarm": watched.alarm,
        }

    lines = [row(watched.rows, column, value) for column, value in watched.drift.items()]
    if watched.figure is not None:
        lines.append(row(watched.labelled, watched.metric, watched.figure))
    return lines


def sampled() -> list[str]:
    return [name for name, recipe in config.sound().items() if recipe.serve.sample]


def acted(watched: Watched) -> str:
    """Start the retraining, unless one was started for this application today.

    Gives how it ended, in words.
    """
    path = paths.state("watch", f"{watched.application}.json")
    today = datetime.now(UTC).date().isoformat()
    if (last := Started.load(path)) and last.day == today:
        return f"{watched.because}; a retraining was started for it today already"
    Started(day=today, because=watched.because).save(path)
    state: Any = retrain(
        Application(watched.application),
        [],
        False,
        False,
        f"watch: {watched.because}",
        return_state=True,
    )
    return (
        f"{watched.because}; retrained: {state.name}"
        if state.is_completed()
        else f"Failed: {watched.because}; the retraining failed: {state.message}"
    )
