"""python -m tasks.train --run PATH, or RECIPE [key=value ...]: one model on all training rows.

Killed at any moment, the same command goes on from its last checkpoint and ends with the same weights.
"""

import itertools
from typing import TYPE_CHECKING

from tasks.train.start import champion, check, identity, prepared, resumes
from tidemill import contract
from tidemill.contract import Batched
from tidemill.engines.mlflow import runs
from tidemill.engines.mlflow import tags as names
from tidemill.learners.lightning import memory
from tidemill.records.receipts import Swept, Trained
from tidemill.run import main, plan
from tidemill.run.tracked import begin
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import locked
from tidemill.runtime.receipt import File

if TYPE_CHECKING:
    from tasks.train.stages import Work


def train(this: plan.Plan) -> Trained | None:
    from tasks.train.stages import Work, trained
    from tidemill.learners.lightning.checkpoints import Checkpoints
    from tidemill.learners.lightning.loop import Kept, rank
    from tidemill.learners.lightning.resume import Stop

    stop = Stop().listen()
    swept = plan.read("sweep", Swept, this)
    recipe = contract.load(this.application)(**{**this.recipe.model, **swept.params})
    check(this, recipe)

    def keep(name: str) -> Kept:
        """Each training of this model has checkpoints of its own."""
        own = {"training": name} if name else {}
        return Kept(
            Checkpoints(
                this.folder / f"checkpoints{'-' if name else ''}{name}",
                {**identity(this, recipe), **own},
            ),
            stop,
            memory.parts(this.folder),
        )

    def work() -> Work:
        start = prepared(this, recipe)
        fields = start.recipe.model_dump()
        others = [
            {**fields, **params}
            for params in itertools.islice(
                itertools.cycle([*swept.next, swept.params]), this.recipe.ensemble.members - 1
            )
        ]
        teacher = champion(this)[1] if this.recipe.teach.by == "champion" else ""
        return Work(
            this.application, this.recipe, this.splits, this.folder, start, keep, others, teacher
        )

    if rank():  # beside the process that writes
        trained(work())
        return None
    with locked(paths.state("locks", f"train-{this.application}")):
        run_id = begin(this)
        try:
            return told(this, work(), run_id)
        except Exception as error:
            if not memory.exhausted(error):
                raise
            raise Fault(
                memory.halve(this.folder, f"train {this.application}"), heals=True
            ) from error


def told(this: plan.Plan, work: "Work", run_id: str) -> Trained:
    """The training, and what MLflow is told of it while it runs and afterwards. Its checkpoints go once its weights are there."""
    from tasks.train.stages import signature, trained
    from tidemill.learners.lightning.cost import Meter

    start, settings = work.start, work.start.settings
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
    batches = sum(kept.steps for kept in ended.kept) * settings.accumulate
    batch = start.recipe.batch if isinstance(start.recipe, Batched) else 0
    cost, method = meter.told(batches * batch, batches * start.tokens)
    parts = max((kept.parts for kept in ended.kept), default=1)
    tags = {
        names.WEIGHTS: signature(path, ended.members),
        names.START: start.told,
        **({names.START_VERSION: start.version} if start.version else {}),
        "cost.energy_method": method,
        **ended.tags,
        **({names.PARTS: str(parts)} if parts > 1 else {}),
        **({names.RATE: str(settings.lr)} if isinstance(settings.lr, float) else {}),
        **({names.MEMBERS: str(1 + len(ended.members))} if ended.members else {}),
        **(
            {
                names.BUDGET: f"ended after {settings.budget_minutes:g} minutes, at step {ended.steps}"
            }
            if any(kept.over_budget for kept in ended.kept)
            else {}
        ),
    }
    runs.log(
        run_id,
        metrics={
            **{f"final.{name}": value for name, value in ended.metrics.items()},
            **ended.more,
            **cost,
            "cost.training_s": sum(kept.spent_s for kept in ended.kept),
        },
        step=ended.steps,
        tags=tags,
    )
    for kept in ended.kept:
        kept.checkpoints.clear()
    fields = ended.recipe.model_dump()
    return Trained(
        weights=File.of(path),
        model=fields,
        epochs=settings.max_epochs,
        steps=ended.steps,
        metrics=ended.metrics,
        resumes=attempts,
        start=start.told,
        before={} if fields == before else before,
        members={name: File.of(one) for name, one in ended.members.items()},
        fields=ended.fields,
    )


if __name__ == "__main__":
    main.of_run(train, "train")
