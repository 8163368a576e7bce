"""python -m tasks.sweep --run PATH, or RECIPE [key=value ...]: the best of short trainings.

They cover the recipe's space. Killed at any moment, the same command resumes: the trial that died
is tried again with its parameters and seed.
"""

import json
import statistics
from typing import TYPE_CHECKING, Any

from tidemill.contract import Splits
from tidemill.engines.mlflow import runs
from tidemill.records.receipts import Swept
from tidemill.run import main, plan
from tidemill.run.tracked import begin
from tidemill.runtime import process
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import locked
from tidemill.runtime.paths import state

if TYPE_CHECKING:
    from tidemill.engines.optuna.study import Study


def sweep(this: plan.Plan) -> Swept:
    settings = this.recipe.sweep
    if not settings.trials or not min(settings.max_epochs, this.recipe.trainer.max_epochs):
        return Swept(trials=0, complete=0, metric=settings.metric, value=None, params={})
    from tasks.sweep.trial import work
    from tidemill.engines.optuna.study import Study

    with locked(state("locks", f"sweep-{this.application}")):
        parent = begin(this)
        study = Study(this)
        work(study, parent)
        best, value = chosen(study, parent)
        pictures(study, parent)
        after = [
            trial.params
            for trial in study.best(this.recipe.ensemble.members + 1)
            if trial.params != best
        ][: this.recipe.ensemble.members - 1]
        names = [trial.state.name for trial in study.ended().values()]
        return Swept(
            trials=settings.trials,
            complete=names.count("COMPLETE"),
            pruned=names.count("PRUNED"),
            failed=names.count("FAIL"),
            metric=settings.metric,
            value=value,
            params=best,
            next=after,
        )


def chosen(study: object, parent: str) -> tuple[dict, float]:
    """The best parameters and their metric, by the mean over seeds where more are asked for."""
    from tidemill.engines.optuna.study import Study

    assert isinstance(study, Study)
    settings = study.settings
    finalists = study.best(settings.finalists if settings.seeds > 1 else 1)
    means = over_all_seeds(study, finalists)
    finalists = [trial for trial in finalists if trial.user_attrs["slot"] in means]
    if settings.seeds > 1:
        rows = [
            {
                "trial": trial.user_attrs["slot"],
                "mean": means[trial.user_attrs["slot"]],
                "seeds": settings.seeds,
                **trial.params,
            }
            for trial in finalists
        ]
        runs.log_text(parent, json.dumps(rows, indent=1), "finalists.json")
    best = max(finalists, key=lambda trial: study.sign * means[trial.user_attrs["slot"]])
    return best.params, means[best.user_attrs["slot"]]


def over_all_seeds(study: "Study", finalists: list[Any]) -> dict[int, float]:
    """The mean metric of each finalist by its slot; one that fails with another seed is left out.

    Raises Fault where all of them do.
    """
    from tasks.sweep.trial import why
    from tidemill.engines.optuna.storage import StorageUnavailable

    means: dict[int, float] = {}
    fault = ""
    for number, trial in enumerate(finalists, 1):
        slot = trial.user_attrs["slot"]
        try:
            means[slot] = statistics.fmean(over_seeds(study, trial))
        except StorageUnavailable:
            raise
        except Exception as error:
            fault = f"finalist {slot} with another seed: {why(error)}"
            print(fault)
            continue
        process.progress(number, len(finalists), "finalists", value=round(means[slot], 4))
    if not means:
        raise Fault(f"no finalist of the sweep could be trained again; {fault}")
    return means


def over_seeds(study: "Study", trial: Any) -> list[float]:
    """A trial's metric for each seed; the study keeps those of the trainings after the first."""
    from tasks.sweep.trial import seed, trained

    settings, slot = study.settings, trial.user_attrs["slot"]
    splits = Splits(study.this.splits, study.this.recipe.seed, settings.rows)
    values = [trial.values[0]]
    for again in range(1, settings.seeds):
        name = f"again:{slot}:{again}"
        if name not in study.study.user_attrs:
            what, own = f"trial {slot} again", seed(study, slot, again)
            metrics = trained(study, splits, trial.params, own, what)[1]
            study.study.set_user_attr(name, metrics[settings.metric])
        values.append(study.study.user_attrs[name])
    return values


def pictures(study: object, parent: str) -> None:
    """Parallel coordinates and importances, among the run's figures."""
    import tempfile
    from pathlib import Path

    from tidemill.engines.optuna.plots import draw

    with tempfile.TemporaryDirectory() as folder:
        draw(study, Path(folder))
        runs.log_files(parent, Path(folder), "figures")


if __name__ == "__main__":
    main.of_run(sweep, "sweep")
