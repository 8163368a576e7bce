"""python -m tasks.train --run PATH, or RECIPE [key=value ...]: one model on all training rows.

Killed at any moment, the same command resumes from its last checkpoint and ends with the same
weights.
"""

import itertools
from typing import TYPE_CHECKING

from tasks.train.start import champion, check, identity, prepared, resumes
from tidemill import contract
from tidemill.contract import Batched, Recipe
from tidemill.engines.mlflow import runs
from tidemill.engines.mlflow import tags as names
from tidemill.learners.lightning import memory
from tidemill.records.receipts import Swept, Trained
from tidemill.run import main, plan
from tidemill.run.tracked import begin
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import locked
from tidemill.runtime.rank import rank
from tidemill.runtime.receipt import File

if TYPE_CHECKING:
    from tasks.train.stages import Ended, Work
    from tasks.train.start import Start
    from tidemill.learners.lightning.cost import Meter
    from tidemill.learners.lightning.resume import Stop


def train(this: plan.Plan) -> Trained | None:
    from tasks.train.stages import trained
    from tidemill.learners.lightning.resume import Stop

    stop = Stop().listen()
    swept = plan.read("sweep", Swept, this)
    recipe = contract.load(this.application)(**{**this.recipe.model, **swept.params})
    check(this, recipe)
    if rank():  # beside the process that writes
        trained(work(this, recipe, swept, stop))
        return None
    with locked(paths.state("locks", f"train-{this.application}")):
        run_id = begin(this)
        try:
            return logged(this, work(this, recipe, swept, stop), run_id)
        except Exception as error:
            if not memory.exhausted(error):
                raise
            raise Fault(
                memory.halve(this.folder, f"train {this.application}"), heals=True
            ) from error


def work(this: plan.Plan, recipe: Recipe, swept: Swept, stop: "Stop") -> "Work":
    """What is trained: the model, the other members of its ensemble, and who teaches it."""
    from tasks.train.stages import Work
    from tidemill.learners.lightning.checkpoints import Checkpoints
    from tidemill.learners.lightning.loop import Kept

    def keep(name: str) -> Kept:
        """Each training of this model has checkpoints of its own."""
        own = {"training": name} if name else {}
        folder = this.folder / f"checkpoints{'-' if name else ''}{name}"
        checkpoints = Checkpoints(folder, {**identity(this, recipe), **own})
        return Kept(checkpoints, stop, memory.parts(this.folder))

    start = prepared(this, recipe)
    fields = start.recipe.model_dump()
    params = itertools.cycle([*swept.next, swept.params])
    others = [
        {**fields, **own} for own in itertools.islice(params, this.recipe.ensemble.members - 1)
    ]
    teacher = champion(this)[1] if this.recipe.teach.by == "champion" else ""
    return Work(
        this.application, this.recipe, this.splits, this.folder, start, keep, others, teacher
    )


def logged(this: plan.Plan, work: "Work", run_id: str) -> Trained:
    """Train, and log it in MLflow. The checkpoints go once the weights are there."""
    from tasks.train.stages import signature, trained
    from tidemill.learners.lightning.cost import Meter

    start = work.start
    before = start.recipe.model_dump()
    attempts = resumes(this.folder)
    runs.log(
        run_id,
        params={f"model.{name}": value for name, value in before.items()},
        tags={names.RESUMES: str(attempts)} if attempts else {},
    )
    meter = Meter()
    ended = trained(work, runs.lightning_logger(run_id))
    path = this.folder / "weights.safetensors"
    ended.learner.save(path)
    metrics, tags = figures(ended, start, meter)
    tags[names.WEIGHTS] = signature(path, ended.members)
    runs.log(run_id, metrics=metrics, step=ended.steps, tags=tags)
    for kept in ended.kept:
        kept.checkpoints.clear()
    fields = ended.recipe.model_dump()
    return Trained(
        weights=File.of(path),
        model=fields,
        epochs=start.settings.max_epochs,
        steps=ended.steps,
        metrics=ended.metrics,
        resumes=attempts,
        start=start.told,
        before={} if fields == before else before,
        members={name: File.of(one) for name, one in ended.members.items()},
        fields=ended.fields,
    )


def figures(
    ended: "Ended", start: "Start", meter: "Meter"
) -> tuple[dict[str, float], dict[str, str]]:
    """The metrics and the tags of a training that ended."""
    settings = start.settings
    batches = sum(kept.steps for kept in ended.kept) * settings.accumulate
    batch = start.recipe.batch if isinstance(start.recipe, Batched) else 0
    cost, method = meter.told(batches * batch, batches * start.tokens)
    metrics = {
        **{f"final.{name}": value for name, value in ended.metrics.items()},
        **ended.more,
        **cost,
        "cost.training_s": sum(kept.spent_s for kept in ended.kept),
    }
    tags = {names.START: start.told, "cost.energy_method": method, **ended.tags}
    if start.version:
        tags[names.START_VERSION] = start.version
    parts = max((kept.parts for kept in ended.kept), default=1)
    if parts > 1:
        tags[names.PARTS] = str(parts)
    if isinstance(settings.lr, float):
        tags[names.RATE] = str(settings.lr)
    if ended.members:
        tags[names.MEMBERS] = str(1 + len(ended.members))
    if any(kept.over_budget for kept in ended.kept):
        minutes = f"{settings.budget_minutes:g} minutes"
        tags[names.BUDGET] = f"ended after {minutes}, at step {ended.steps}"
    return metrics, tags


if __name__ == "__main__":
    main.of_run(train, "train", all_ranks=True)
