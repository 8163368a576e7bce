"""python -m tasks.train RECIPE [key=value ...]: one model on all training rows.

Killed at any moment, the same command goes on from its last checkpoint and ends with the same weights.
"""

from typing import Any

import recipes
from tasks import places, plan, tracking
from tasks.errors import Fault
from tasks.files import locked
from tasks.receipts import File, Swept, Trained
from tasks.tracking.story import begin
from tasks.train import memory
from tasks.train.before import Start, check, identity, prepared, resumes


def train(this: plan.Plan) -> Trained | None:
    from tasks.train.checkpoints import Checkpoints
    from tasks.train.keeping import Stop
    from tasks.train.loop import Kept, rank

    stop = Stop().listen()
    swept = plan.read("sweep", Swept, this)
    recipe = recipes.load(this.application)(**{**this.recipe.model, **swept.params})
    check(this, recipe)
    if rank():      # beside the process that writes
        fitted(this, prepared(this, recipe), Kept(Checkpoints(this.folder / "checkpoints", identity(this, recipe)), stop, memory.parts(this.folder)), None)
        return None
    with locked(places.state("locks", f"train-{this.application}")):
        kept = Kept(Checkpoints(this.folder / "checkpoints", identity(this, recipe)), stop, memory.parts(this.folder))
        run_id = begin(this)
        try:
            return told(this, prepared(this, recipe), kept, run_id)
        except Exception as error:
            if not memory.exhausted(error):
                raise
            raise Fault(memory.halve(this.folder, f"train {this.application}"), heals=True) from error


def told(this: plan.Plan, start: Start, kept: Any, run_id: str) -> Trained:
    """The training, and what MLflow is told of it while it runs and afterwards. Its checkpoints go once its weights are there."""
    from tasks.train.cost import Meter
    from tasks.train.loop import save

    fields = start.recipe.model_dump()
    tracking.log(run_id, params={f"model.{name}": value for name, value in fields.items()})
    attempts = resumes(this.folder, kept.checkpoints)
    if attempts:
        tracking.log(run_id, tags={"tidemill.resumes": str(attempts)})
    meter = Meter()
    module, metrics, steps = fitted(this, start, kept, tracking.lightning_logger(run_id))
    path = this.folder / "weights.safetensors"
    save(module, path)
    weights = File.of(path)
    settings = start.settings
    batches = kept.steps * settings.accumulate
    cost, method = meter.told(batches * int(fields.get("batch", 0)), batches * start.tokens)
    parts = {"tidemill.parts": str(kept.parts)} if kept.parts > 1 else {}
    found = {"tidemill.rate": str(settings.lr)} if isinstance(settings.lr, float) else {}
    over = {"tidemill.budget": f"ended after {settings.budget_minutes:g} minutes, at step {steps}"} if kept.over_budget else {}
    tracking.log(run_id, metrics={**{f"final.{name}": value for name, value in metrics.items()}, **cost, "cost.training_s": kept.spent_s}, step=steps,
                 tags={"tidemill.weights": weights.sha256, "tidemill.start": start.told, "cost.energy_method": method, **over, **parts, **found})
    kept.checkpoints.clear()
    return Trained(weights=weights, model=fields, epochs=settings.max_epochs, steps=steps, metrics=metrics, resumes=attempts, start=start.told)


def fitted(this: plan.Plan, start: Start, kept: Any, logger: Any) -> tuple[Any, dict[str, float], int]:
    from tasks.train.loop import fit

    return fit(start.recipe, start.data, start.settings, this.recipe.seed, start.settings.max_epochs, logger, f"train {this.application}",
               watch=this.recipe.sweep.metric, kept=kept, begin=start.weights)


if __name__ == "__main__":
    plan.main("train", train)
