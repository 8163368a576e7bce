"""One retraining of one application: the steps, in order, and how it ended."""

import logging
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from prefect import flow
from prefect.states import Completed

from flows import artifacts
from flows.forms import Application
from tasks.clean import clean
from tasks.collect import collect
from tasks.datasheet import datasheet
from tasks.export import export
from tasks.judge import explain, judge
from tasks.label import label
from tasks.register import promote, register
from tasks.score import baselines, score
from tasks.select import select
from tasks.snapshot import snapshot
from tasks.split import split
from tasks.sweep import sweep
from tasks.train import train
from tidemill.engines import config
from tidemill.engines.config.schema import RecipeConfig
from tidemill.engines.dvc import stages
from tidemill.engines.mlflow.condition import condition
from tidemill.engines.prefect.names import hour, named
from tidemill.engines.prefect.notices import notify
from tidemill.engines.prefect.reap import register_alive
from tidemill.engines.prefect.tags import tag
from tidemill.records.receipts import (
    Collected,
    DataHalf,
    End,
    Judged,
    Promoted,
    Registered,
    Scored,
    Snapshot,
    Stage,
)
from tidemill.run import plan
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import locked
from tidemill.runtime.lifetimes import stopping

log = logging.getLogger(__name__)

# How a run ends by its verdict, where no person is asked.
STATES: dict[str, Literal["Promoted", "Held", "Rejected"]] = {
    "PROMOTE": "Promoted",
    "HOLD": "Held",
    "REJECT": "Rejected",
}


# What a person reads in the list of runs: "retrain languages, Mon 23 Nov 14:05".
run_name = named(lambda given: f"retrain {given.get('application', '')}, {hour()}")


@flow(name="retrain", flow_run_name=run_name, persist_result=False, log_prints=False)
def retrain(
    application: Application,
    overrides: list[str] = [],
    dry_run: bool = False,
    ask: bool = False,
    reason: str = "",
) -> Any:
    """Retrain one application from what is new at its sources; promote it if the gates let it.

    Args:
        application: Which application; a file of conf/recipe.
        overrides: Settings of the model half for this run, each as key=value.
        dry_run: Stop after the verdict: nothing is registered or promoted.
        ask: Where the evidence is not enough, wait for a person's form on this page
            (conf/config.yaml says how long).
        reason: Why this run was started; it stands among this run's parameters.
    """
    stopping.keep()
    register_alive()
    return retraining(str(application), list(overrides), RetrainOptions(dry_run=dry_run, ask=ask))


@dataclass(frozen=True)
class RetrainOptions:
    """How one retraining is done: what its night has collected already, and where it stops."""

    collected: dict[str, Collected] | None = None
    dry_run: bool = False
    ask: bool = False


def retraining(application: str, given: list[str], night: RetrainOptions) -> Any:
    """The retraining itself, as the command line, the form and the night do it."""
    try:
        recipe = config.recipe(application, given)
        config.check_machine(recipe)
        registry_in_order(application)
        with locked(paths.state("locks", f"run-{application}")):
            lost = stages.prepare()
            for line in lost:
                log.warning("%s", line)
            named = data_half(recipe, night.collected)
            this = plan.make(recipe)
            try:
                end = model_half(this, named, night.dry_run)
            except (Fault, Refused) as error:
                with suppress(Fault, Refused):
                    close(this, "Failed", str(error))
                raise
        if night.ask and end.state == "Held" and end.version:
            end = asked(end, this)
    except (Fault, Refused) as error:
        notify(f"{application}: Failed", str(error), "Failed")
        raise
    notify(f"{application}: {end.state}", end.because, end.state)
    process.tell("end", end)
    tag(end.state)
    return Completed(name=end.state, message=end.because, data=end.figures())


def registry_in_order(application: str) -> None:
    """Tell what a person did in MLflow that keeps a version from going live, before the training.

    Raises `Refused` where nothing could be registered.
    """
    there = condition(application)
    if there.stops:
        raise Refused(there.stops)
    for line in there.lines():
        log.warning("%s", line)
    if there.holds:
        notify(f"{application}: nothing is promoted", there.holds, "Held")


def data_half(recipe: RecipeConfig, known: dict[str, Collected] | None = None) -> Snapshot:
    """Collect, clean, select, label, split and name the data; each only where something changed.

    `known` is what the night has collected already: nothing is collected then.
    """
    sources = [use.name for use in recipe.sources]
    name = recipe.application
    collecting = [] if known else [collect.submit(source) for source in sources]
    collected: list[Collected] = (
        [known[source] for source in sources]
        if known
        else [future.result() for future in collecting]
    )
    done, before = _stages(name, sources, collecting)
    named: Snapshot = snapshot.submit(name, wait_for=before).result()
    process.tell("data", DataHalf(collected=collected, stages=done, snapshot=named))
    artifacts.what_came_in(collected, done, named)
    if not known:
        artifacts.sources(collected)
    return named


def _stages(name: str, sources: list[str], collecting: list[Any]) -> tuple[list[Stage], list[Any]]:
    """Clean each source, then select, label and split: their receipts, and the last future."""
    wanted = [
        *(f"clean@{source}" for source in sources),
        *(f"{step}@{name}" for step in ("select", "label", "split")),
    ]
    due = stages.due(wanted)
    cleaning = [
        clean.submit(source, due[f"clean@{source}"], wait_for=collecting[place : place + 1])
        for place, source in enumerate(sources)
    ]
    done: list[Stage] = [future.result() for future in cleaning]
    changed = any(stage.ran for stage in done)
    before: list[Any] = cleaning
    for step in (select, label, split):
        future = step.submit(
            name, changed or due[f"{step.name.split(' ')[0]}@{name}"], wait_for=before
        )
        done.append(future.result())
        changed = changed or done[-1].ran
        before = [future]
    return done, before


def model_half(this: plan.Plan, named: Snapshot, dry_run: bool) -> End:
    """Sweep, train, export, score, judge, register and promote.

    What has a receipt is not done again.
    """
    unchanged = judged_before(this)
    if unchanged is not None:
        if before := Judged.load(this.folder / "judge.json"):
            process.tell("judged", before)
        return unchanged
    judging = trained_and_judged(this, named)
    judged: Judged = judging.result()
    process.tell("judged", judged)
    artifacts.gates(judged)
    because = judged.because + drifted(this)
    if dry_run:
        return dry_run_ended(this, judged, because)
    registering = register.submit(this.application, this.path, wait_for=[judging])
    registered: Registered = registering.result()
    artifacts.link(registered)
    end = decided(this, judged, registered, because)
    if end.state == "Promoted":
        moved: Promoted = promote.submit(
            this.application,
            registered.version,
            "gates",
            judged.because,
            this.key,
            wait_for=[registering],
        ).result()
        process.tell("promoted", moved)
    end.save(this.folder / "end.json")
    artifacts.verdict(this.application, end.state, judged, registered)
    return end


def judged_before(this: plan.Plan) -> End | None:
    """The end of an earlier run of the same data and configuration, as Unchanged.

    None where there was none, and where its champion was unreachable: it may answer now.
    """
    ended, scored = plan.whole("end", End, this), plan.whole("score", Scored, this)
    if ended is None or (scored and "champion" in scored.skipped):
        return None
    because = (
        f"this data and configuration were judged before: {ended.state}, {ended.because}"
        f"{drifted(this)}"
    )
    return ended.model_copy(update={"state": "Unchanged", "because": because})


def trained_and_judged(this: plan.Plan, named: Snapshot) -> Any:
    """The steps from the sweep to the verdict; gives the future of a `Judged` that is there.

    Raises what the first step that failed raised.
    """
    name, run = this.application, this.path
    simpler = baselines.submit(name, run)
    swept = sweep.submit(name, run)
    trained = train.submit(name, run, wait_for=[swept])
    # beside the training, which takes its time
    sheet = datasheet.submit(name, run, named.names, wait_for=[swept])
    exported = export.submit(name, run, wait_for=[trained])
    scored = score.submit(name, run, wait_for=[exported, simpler])
    judging = judge.submit(name, run, wait_for=[scored])
    explaining = explain.submit(name, run, wait_for=[scored])
    # The first that failed says why; those after it only that it did.
    for future in (simpler, swept, trained, exported, scored):
        future.result()
    artifacts.forms(exported.result())
    judging.result()
    # A report that could not be made holds no model up; the step's log says why.
    with suppress(Fault):
        explaining.result()
    with suppress(Fault):
        artifacts.datasheet(sheet.result())
    return judging


def dry_run_ended(this: plan.Plan, judged: Judged, because: str) -> End:
    """Note the verdict of a run that registers nothing."""
    words = f"{judged.verdict}: {because}"
    artifacts.verdict(this.application, "DryRun", judged)
    close(this, "DryRun", words)
    return End(
        application=this.application,
        state="DryRun",
        because=words,
        key=this.key,
        snapshot=this.snapshot,
        at=_now(),
    )


def decided(this: plan.Plan, judged: Judged, registered: Registered, because: str) -> End:
    """What follows from the verdict; a recipe with `approval` leaves a PROMOTE to a person."""
    name = this.application
    waits = judged.verdict == "PROMOTE" and this.recipe.approval
    if waits:
        because = f"a person lets this one out (tidemill approve {name}); {because}"
    return End(
        application=name,
        state="Held" if waits else STATES[judged.verdict],
        because=because,
        key=this.key,
        snapshot=this.snapshot,
        version=registered.version or None,
        run_id=registered.run_id,
        at=_now(),
        read=this.reads("end"),
    )


def drifted(this: plan.Plan) -> str:
    """What beside the recipe changed since the weights were made, as the end of a sentence."""
    names = this.changed()
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"; code beside the recipe changed since the training: {', '.join(names[:3])}{more}"


def asked(end: End, this: plan.Plan) -> End:
    """Pause for a person's form: approved, the held version goes live, else the run stays Held.

    No lock is held meanwhile.
    """
    from prefect.exceptions import FlowPauseTimeout
    from prefect.flow_runs import pause_flow_run

    from flows.approve import Approval

    words = (
        f"**{end.application} version {end.version} is held**: {end.because}\n\n"
        "The gates table is among this run's artifacts."
    )
    try:
        given = pause_flow_run(
            wait_for_input=Approval.with_initial_data(description=words),
            timeout=round(config.general().approval.timeout_minutes * 60),
        )
    except FlowPauseTimeout:
        return end.model_copy(
            update={"because": f"nobody answered the form in time; {end.because}"}
        )
    person, why = given.person or "a person in Prefect", given.reason
    if not given.approve:
        return end.model_copy(update={"because": f"{person} said no: {why}; {end.because}"})
    assert end.version is not None
    moved: Promoted = promote.submit(end.application, end.version, person, why, this.key).result()
    process.tell("promoted", moved)
    promoted = end.model_copy(update={"state": "Promoted", "because": f"{person} approved: {why}"})
    promoted.save(this.folder / "end.json")
    if judged := Judged.load(this.folder / "judge.json"):
        artifacts.verdict(
            end.application,
            "Promoted",
            judged,
            Registered.load(this.folder / "register.json"),
            promoted.because,
        )
    return promoted


def close(this: plan.Plan, state: str, because: str) -> None:
    """Note in MLflow how a run ended that registered nothing."""
    process.run(
        f"close {this.application}",
        [
            sys.executable,
            "-m",
            "tidemill.engines.mlflow.close",
            this.application,
            this.key,
            state,
            because,
        ],
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
