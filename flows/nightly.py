"""A night: every source once, then each application; one that fails does not stop the rest."""

import logging
import time
from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import Completed, Failed

from flows import artifacts
from flows.answer import answered
from flows.forms import Application
from flows.limits import spent
from flows.retrain import RetrainOptions, retraining, run_name
from tasks.collect import collect
from tidemill.engines import config
from tidemill.engines.config.schema import RecipeConfig
from tidemill.engines.dvc import stages
from tidemill.engines.prefect.names import hour, named
from tidemill.engines.prefect.notices import notify
from tidemill.engines.prefect.reap import register_alive
from tidemill.records.receipts import Collected
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import holding, write_json

log = logging.getLogger(__name__)


def _night_name(given: dict[str, Any]) -> str:
    names = [str(name) for name in given.get("applications") or ["all"]]
    return f"night of {hour()}: {', '.join(names)}"


night_name = named(_night_name)


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def follow(application: str, collected: dict[str, Collected]) -> Any:
    """One application's part of the night; its sources are in already."""
    register_alive()
    return retraining(application, [], RetrainOptions(collected=collected))


@flow(name="nightly", flow_run_name=night_name, persist_result=False)
def nightly(applications: list[Application] = []) -> Any:
    """Collect every source once, then retrain each application.

    Args:
        applications: Which ones; empty for all whose conf/recipe says nightly.
    """
    register_alive()
    with holding(paths.state("locks", "nightly")) as mine:
        if not mine:
            return Completed(
                name="Skipped",
                message="the night before is still at work; it wins, this one is skipped",
            )
        return _night([str(name) for name in applications])


def _read(applications: list[str], ends: dict[str, str]) -> dict[str, RecipeConfig]:
    """The configurations of a night's applications.

    One that does not hold leaves the others alone.
    """
    recipes = {}
    for name in applications or config.files("recipe"):
        try:
            recipe = config.recipe(name)
        except Refused as error:
            ends[name] = f"Failed: {error}"
            notify(f"{name}: Failed", ends[name], "Failed")
            continue
        if applications or recipe.nightly:
            recipes[name] = recipe
    return recipes


def _night(applications: list[str]) -> Any:
    began = time.monotonic()
    ends: dict[str, str] = {}
    recipes = _read(applications, ends)
    sources = list(dict.fromkeys(use.name for recipe in recipes.values() for use in recipe.sources))
    for line in stages.prepare():
        log.warning("%s", line)
    collected: dict[str, Collected] = {}
    lost: dict[str, str] = {}
    collecting = {source: collect.submit(source) for source in sources}
    for source, future in collecting.items():
        try:
            collected[source] = future.result()
        except (Fault, Refused) as error:
            lost[source] = str(error)
    artifacts.sources(list(collected.values()))
    for name, recipe in recipes.items():
        why = spent(config.general().night, began)
        missing = [use.name for use in recipe.sources if use.name in lost]
        if why:
            ends[name] = f"left out: {why}"
        elif missing:
            ends[name] = f"Failed: {'; '.join(lost[source] for source in missing)}"
            notify(f"{name}: Failed", ends[name], "Failed")
        else:
            ends[name] = _one(name, {use.name: collected[use.name] for use in recipe.sources})
        if recipe.answers:
            ends[name] = _with_answers(ends[name], answered(name))
    write_json(
        paths.state("night.json"),
        {"at": datetime.now().astimezone().isoformat(timespec="seconds"), "ends": ends},
    )
    words = "; ".join(f"{name} {end}" for name, end in ends.items())
    failed = [name for name, end in ends.items() if end.startswith("Failed")]
    return Failed(message=words) if failed else Completed(name="Night", message=words, data=ends)


def _with_answers(end: str, given: str) -> str:
    """How an application's part ended, its waiting files with it: one failure is the night's."""
    if not given.startswith("Failed") or end.startswith("Failed"):
        return f"{end}; {given}"
    return f"{given}; before that: {end}"


def _one(name: str, collected: dict[str, Collected]) -> str:
    """How one application's part ended, in words; whatever it is, the night goes on."""
    try:
        state: Any = follow(name, collected, return_state=True)
    except Exception as error:
        return f"Failed: {type(error).__name__}: {error}"
    if state.is_completed():
        return str(state.name)
    return f"Failed: {' '.join((state.message or 'it said nothing').split())}"
