"""python -m tasks.train RECIPE [key=value ...]: one model on all training rows."""

import recipes
from tasks import plan, tracking
from tasks.files import locked
from tasks.places import state
from tasks.receipts import File, Swept, Trained
from tasks.tracking.story import begin


def train(this: plan.Plan) -> Trained:
    from tasks.train.loop import fit, save

    swept = plan.read("sweep", Swept, this)
    config = this.recipe
    recipe = recipes.load(this.application)(**{**config.model, **swept.params})
    with locked(state("locks", f"train-{this.application}")):
        run_id = begin(this)
        fields = recipe.model_dump()
        tracking.log(run_id, params={f"model.{name}": value for name, value in fields.items()})
        data = recipe.datamodule(this.splits, config.seed)
        module, metrics, steps = fit(recipe, data, config.trainer, config.seed, config.trainer.max_epochs, tracking.lightning_logger(run_id), f"train {this.application}")
        path = this.folder / "weights.safetensors"
        save(module, path)
        tracking.log(run_id, metrics={f"final.{name}": value for name, value in metrics.items()}, step=steps)
        return Trained(weights=File.of(path), model=fields, epochs=config.trainer.max_epochs, steps=steps, metrics=metrics)


if __name__ == "__main__":
    plan.main("train", train)
