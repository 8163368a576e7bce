"""python -m tasks.sweep RECIPE [key=value ...]: short trainings over the recipe's space."""

import gc
import os
import warnings
from typing import Any

import recipes
from tasks import plan, process, tracking
from tasks.errors import Fault
from tasks.files import locked
from tasks.places import state
from tasks.receipts import Swept
from tasks.schema import Dimension
from tasks.tracking.story import begin


def sweep(this: plan.Plan) -> Swept:
    settings = this.recipe.sweep
    epochs = min(settings.max_epochs, this.recipe.trainer.max_epochs)
    if not settings.trials or not settings.space or not epochs:
        return Swept(trials=0, complete=0, metric=settings.metric, value=None, params={})
    with locked(state("locks", f"sweep-{this.application}")):
        return _search(this, epochs)


def _search(this: plan.Plan, epochs: int) -> Swept:
    import optuna

    warnings.filterwarnings("ignore", module="optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = this.recipe.sweep
    defaults = recipes.load(this.application)(**this.recipe.model)
    fields = type(defaults).model_fields
    study = optuna.create_study(
        storage=optuna.storages.RDBStorage(os.environ["OPTUNA_STORAGE"], heartbeat_interval=30),
        study_name=f"{this.application}-{this.key[:16]}", direction="maximize", load_if_exists=True,
    )
    # We hold the lock, so what still runs here died; its parameters are asked again.
    for dead in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(dead.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(dead.params, skip_if_exists=False)
    if not study.trials:
        study.enqueue_trial({name: getattr(defaults, name) for name in settings.space})
    parent = begin(this)

    def complete() -> int:
        return len(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)))

    failures = 0
    data: Any = None
    while (done := complete()) < settings.trials:
        number = len(study.trials)
        study.sampler = optuna.samplers.TPESampler(seed=this.recipe.seed * 10_007 + number, n_startup_trials=5)
        trial = study.ask()
        params = {name: _suggest(trial, name, dimension, fields[name].annotation is int) for name, dimension in settings.space.items()}
        recipe = recipes.load(this.application)(**{**this.recipe.model, **params})
        process.progress(done, settings.trials, "trials", **params)
        try:
            if data is None or recipe.data_fields & set(settings.space):
                data = recipe.datamodule(this.splits, this.recipe.seed, settings.rows)
            value = _train(this, recipe, data, parent, trial.number, epochs)
        except Fault as fault:
            failures += 1
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            print(f"trial {trial.number}: {fault}")
            if failures > settings.trials:
                raise Fault(f"{failures} trials failed, the last one: {fault}") from fault
            continue
        study.tell(trial, value)
        process.progress(complete(), settings.trials, "trials", value=round(value, 4))
    best = study.best_trial
    return Swept(trials=len(study.trials), complete=complete(), metric=settings.metric, value=best.value, params=best.params)


def _train(this: plan.Plan, recipe: Any, data: Any, parent: str, number: int, epochs: int) -> float:
    from tasks.train.loop import fit

    settings = this.recipe.sweep
    gc.collect()  # a trainer and its module refer to each other; the last trial's would stay beside this one's
    run_id = tracking.run(this.application, f"{this.key}/{number}", f"trial {number}", {"tidemill.kind": "trial"}, parent)
    tracking.log(run_id, params={name: getattr(recipe, name) for name in settings.space})
    metrics = fit(recipe, data, this.recipe.trainer, this.recipe.seed + number, epochs, None, f"trial {number}", settings.share)[1]
    if settings.metric not in metrics:
        raise Fault(f"no metric '{settings.metric}' for the sweep; the training gives {', '.join(sorted(metrics))}")
    tracking.log(run_id, metrics=metrics)
    tracking.finish(run_id)
    return metrics[settings.metric]


def _suggest(trial: Any, name: str, dimension: Dimension, whole: bool) -> Any:
    if dimension.choices:
        return trial.suggest_categorical(name, list(dimension.choices))
    low, high = dimension.low, dimension.high
    assert low is not None and high is not None
    if whole:
        return trial.suggest_int(name, int(low), int(high), log=dimension.log)
    return trial.suggest_float(name, low, high, log=dimension.log)


if __name__ == "__main__":
    plan.main("sweep", sweep)
