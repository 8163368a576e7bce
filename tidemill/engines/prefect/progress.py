"""How far a long step is, on its page in Prefect.

A progress artifact, a line in its log, a table that fills.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tidemill.runtime import process
from tidemill.runtime.events import Cell, Event, StepProgress, TrialRow

log = logging.getLogger(__name__)
SHOWN_EVERY_S, LOGGED_EVERY_S = 5.0, 15.0


def which(step: str, event: StepProgress) -> str:
    """Which of a step's trainings tells this, as "member 1: "; nothing where it is the only one."""
    what = step if event.training is None else event.training
    return "" if what == step else f"{what.removeprefix(f'{step}: ')}: "


def resumed(step: str, event: StepProgress) -> str:
    """That a training goes on from a checkpoint, where it says so."""
    return (
        f"{step}: {which(step, event)}goes on from its checkpoint at step {event.resumed:,} of "
        f"{event.total:,}"
        if event.resumed is not None
        else ""
    )


class ProgressPage:
    """Hears one step's progress. Without a Prefect run around it, it only logs."""

    def __init__(self, step: str) -> None:
        self.step, self.key = step, step.replace(" ", "-").replace("_", "-")
        self.shown = self.logged = time.monotonic()
        self.progress: Any = None
        self.table: Any = None
        self.words = ""
        self.rows: dict[str, Mapping[str, Cell]] = {}

    def __call__(self, step: str, event: Event) -> None:
        if step != self.step:
            return
        if isinstance(event, TrialRow):
            self.fill(event.cells)
        elif isinstance(event, StepProgress) and event.total:
            self.progressed(step, event, event.total)

    def progressed(self, step: str, event: StepProgress, total: float) -> None:
        """How far the step is, as often as a log and a page bear it."""
        now = time.monotonic()
        if words := resumed(step, event):
            log.info("%s", words)
            self.logged = now
        self.words = which(step, event) + ", ".join(
            f"{name} {value}"
            for name, value in sorted({**event.figures, "done": event.done}.items())
            if value not in ({}, None)
        )
        if now - self.logged > LOGGED_EVERY_S:
            self.logged = now
            more = ", ".join(f"{name} {value}" for name, value in event.figures.items())
            log.info(
                "%s: %s%g of %g %s, %s",
                step,
                which(step, event),
                event.done,
                total,
                event.unit,
                more,
            )
        if now - self.shown > SHOWN_EVERY_S:
            self.shown = now
            self.show(100 * event.done / total)

    def show(self, percent: float) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if self.progress is None:
            self.progress = create_progress_artifact(
                percent, key=self.key, description=f"How far {self.step} is: {self.words}"
            )
        else:
            update_progress_artifact(
                self.progress, percent, description=f"How far {self.step} is: {self.words}"
            )

    def fill(self, row: Mapping[str, Cell]) -> None:
        """One more row, or another state of one; the first column names it."""
        from prefect.artifacts import create_table_artifact

        self.rows[str(next(iter(row.values())))] = row
        table = sorted(map(dict, self.rows.values()), key=_name)
        if self.table is None:
            self.table = create_table_artifact(
                table,
                key=f"{self.key}-trials",
                description=f"The trials of {self.step}, as they end.",
            )
        else:
            _update(self.table, table)


def _name(row: Mapping[str, Any]) -> Any:
    return next(iter(row.values()))


def _update(artifact: Any, table: list[dict[str, Cell]]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactUpdate

    with get_client(sync_client=True) as client:
        client.update_artifact(artifact, ArtifactUpdate(data=json.dumps(table)))


@contextmanager
def told(step: str) -> Iterator[None]:
    """Show what a child says of its progress on the Prefect task's page.

    For use within a task, while the child works.
    """
    if not _in_prefect():
        yield
        return
    page = ProgressPage(step)
    process.listeners.append(page)
    try:
        yield
    finally:
        process.listeners.remove(page)
    if page.progress is not None:
        page.show(100.0)


def _in_prefect() -> bool:
    import sys

    if "prefect" not in sys.modules:
        return False
    from prefect.context import TaskRunContext

    return TaskRunContext.get() is not None
