"""python -m flows.deployments: what people and the clock trigger.

It is served from one process.

On the way up it reaps what died with the machine, and lets missed nights collapse into one.
"""

import logging
import threading
import time
from typing import Any

from prefect import flow, serve
from prefect.schedules import Cron
from prefect.states import Completed

from flows import artifacts
from flows.answer import answer
from flows.approve import approve
from flows.forms import Application, Source
from flows.nightly import nightly
from flows.retrain import data_half, retrain
from flows.rollback import rollback
from flows.verify import verify
from flows.watch import sampled
from flows.watch import watch as watch_served
from tasks.collect import collect as collecting
from tasks.sweep import sweep as sweeping
from tidemill.engines import config
from tidemill.engines.dvc import stages
from tidemill.engines.prefect.mail import Mail
from tidemill.engines.prefect.names import hour, named
from tidemill.engines.prefect.notices import overdue
from tidemill.engines.prefect.reap import collapse, reap, register_alive
from tidemill.runtime import paths
from tidemill.runtime.files import write

log = logging.getLogger(__name__)
REAP_EVERY_S = 20


def _prepare() -> None:
    """The data graph as conf/ has it today, which somebody may have edited since the last run."""
    for line in stages.prepare():
        log.warning("%s", line)


@flow(
    name="collect",
    flow_run_name=named(lambda given: f"collect {given.get('source', '')}, {hour()}"),
    persist_result=False,
)
def collect(source: Source) -> Any:
    """Bring in what is new at one source.

    Args:
        source: Which source; a file of conf/source.
    """
    register_alive()
    _prepare()
    found = collecting.submit(str(source)).result()
    artifacts.sources([found])
    return Completed(
        name="Collected",
        message=f"{found.records} records: {found.fetched} fetched, {found.unchanged} unchanged, "
        f"{found.gone} gone, {found.failed} failed",
        data=found.model_dump(),
    )


@flow(
    name="sweep",
    flow_run_name=named(lambda given: f"sweep {given.get('application', '')}, {hour()}"),
    persist_result=False,
)
def sweep(application: Application, overrides: list[str] = []) -> Any:
    """Search the hyperparameters of one application on today's data.

    A retraining with the same settings uses what was found.

    Args:
        application: Which application; a file of conf/recipe.
        overrides: Settings of the model half for this run, each as key=value.
    """
    register_alive()
    _prepare()
    given = list(overrides)
    recipe = config.recipe(str(application), given)
    data_half(recipe)
    found = sweeping.submit(str(application), given).result()
    return Completed(
        name="Swept",
        message=f"{found.complete} trials, {found.metric} {found.value}",
        data=found.model_dump(),
    )


def nights() -> list[Any]:
    """One schedule for each cron and time zone that recipes name.

    It has the applications of that night.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for name, recipe in config.nightly().items():
        groups.setdefault((recipe.cron, recipe.timezone), []).append(name)
    return [
        Cron(cron, timezone=zone, parameters={"applications": names}, slug=f"night-{number}")
        for number, ((cron, zone), names) in enumerate(sorted(groups.items()))
    ]


def deployments() -> list[Any]:
    """What the runner serves; the forms' help texts are the flows' docstrings."""
    return [
        retrain.to_deployment(
            "retrain", tags=["tidemill"], description="One retraining, to its verdict."
        ),
        nightly.to_deployment(
            "nightly",
            tags=["tidemill"],
            schedules=nights(),
            description="What the clock starts: all sources once, then each application.",
        ),
        collect.to_deployment("collect", tags=["tidemill"]),
        sweep.to_deployment("sweep", tags=["tidemill"]),
        answer.to_deployment(
            "answer", tags=["tidemill"], description="Files that wait for answers, each once."
        ),
        approve.to_deployment("approve", tags=["tidemill"]),
        rollback.to_deployment("rollback", tags=["tidemill"]),
        watch_served.to_deployment(
            "watch",
            tags=["tidemill"],
            schedules=[Cron(config.general().serve.watch_cron, slug="watch")] if sampled() else [],
            description="Whether what is served is still what was judged.",
        ),
        verify.to_deployment("verify", tags=["tidemill"]),
    ]


def watch() -> None:
    """While the runner lives, a run whose process is gone is Crashed within 90 s.

    A night that did not come is logged.
    """
    while True:
        time.sleep(REAP_EVERY_S)
        try:
            reap()
            overdue()
        except Exception as error:
            # The server may be away for a moment; the next round asks again.
            log.warning("reaper: %s: %s", type(error).__name__, error)


def main() -> None:
    from prefect.runner import Runner  # noqa: F401  (its import is part of what "ready" means)

    dead = reap(everything=True)
    if dead:
        log.warning("%d runs had died and are Crashed now", len(dead))
    threading.Thread(target=watch, daemon=True).start()
    made = deployments()
    ready = paths.state("up", "runner.ready")
    threading.Thread(target=_ready, args=(ready, [item.name for item in made]), daemon=True).start()
    serve(*made, pause_on_shutdown=False, limit=4, print_starting_message=False)


def _ready(path: Any, names: list[str]) -> None:
    """Say so once the server knows every deployment; of the nights that were missed keep one."""
    from prefect.client.orchestration import get_client

    path.unlink(missing_ok=True)
    while True:
        try:
            with get_client(sync_client=True) as client:
                known = {item.name for item in client.read_deployments()}
            if set(names) <= known:
                # So that the page Blocks offers it.
                Mail.register_type_and_schema(_sync=True)  # type: ignore[call-arg]
                collapse()
                write(path, "ready\n")
                return
        except Exception as error:
            log.warning("waiting for the server: %s", error)
        time.sleep(0.5)


if __name__ == "__main__":
    paths.settle()
    main()
