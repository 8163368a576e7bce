"""One trial: a short training, its metric, and where asked the latency of what it would become."""

import gc
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from tidemill import contract
from tidemill.contract import Application, Learner, Run, Splits
from tidemill.engines.config.schema import Sweep, Trainer
from tidemill.engines.mlflow import runs, tags
from tidemill.engines.optuna.samplers import Params
from tidemill.engines.optuna.storage import StorageUnavailable
from tidemill.engines.optuna.study import Study, TrialState
from tidemill.learners.lightning import memory
from tidemill.learners.lightning.loop import METRICS_EVERY
from tidemill.learners.lightning.rate import by_range_test, resolved
from tidemill.learners.lightning.resume import loss_of, steps_done
from tidemill.runtime import process
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import canonical
from tidemill.runtime.process import PROGRESS

ROUNDS = 5  # of the golden questions, for the latency


class Rungs(Callback):
    """Reports each validation to the study, and ends the training where ASHA stops it."""

    def __init__(self, study: Study, trial: Any, slot: int) -> None:
        self.study, self.trial, self.slot = study, trial, slot
        self.curve: list[tuple[int, float]] = []
        self.losses: list[tuple[int, float]] = []
        self.stopped = False

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.curve, self.losses = [], []  # of a training before it that found no memory

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        step, loss = steps_done(trainer), loss_of(trainer, outputs)
        if step % METRICS_EVERY == 0 and loss is not None:
            self.losses.append((step, float(loss)))

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        settings = self.study.settings
        if settings.metric not in trainer.callback_metrics:
            raise Fault(
                f"no metric '{settings.metric}' for the sweep; the training gives "
                f"{', '.join(sorted(trainer.callback_metrics))}"
            )
        value = float(trainer.callback_metrics[settings.metric])
        step = steps_done(trainer)
        self.curve.append((step, value))
        rung = len(self.curve)
        if settings.rungs > 1 and step < trainer.estimated_stepping_batches:
            self.trial.report(value, rung)
            if self.study.stops(self.slot, rung, value):  # else it may stop for another reason
                self.stopped = trainer.should_stop = True


def work(study: Study, parent: str) -> None:
    """Take slots until none is left; wait for those that other workers have, since they may die."""
    splits = Splits(study.this.splits, study.this.recipe.seed, study.settings.rows)
    gc.freeze()  # the libraries stay: to look through them took most of a small trial's time
    while not study.over():
        taken = study.take()
        if taken is None:
            time.sleep(0.5)
            continue
        trial, slot, params = taken
        try:
            _row(slot, params, "running")
            with study.beating(trial):
                values, state = attempt(study, splits, params, trial, slot, parent)
        except StorageUnavailable:
            raise  # no fault of the trial, which is tried again
        except Exception as error:
            fault = why(error)
            trial.set_user_attr("fault", fault)
            study.study.tell(trial, state=TrialState.FAIL)
            print(f"trial {slot}: {fault}")
            _row(slot, params, f"failed: {fault[:80]}")
            continue
        study.study.tell(trial, None if state == TrialState.PRUNED else values, state=state)
        _row(slot, params, "stopped early" if state == TrialState.PRUNED else "complete", values)
        process.progress(
            len(study.ended()), study.settings.trials, "trials", value=round(values[0], 4)
        )


def why(error: Exception) -> str:
    """An error of a training on one line."""
    words = " ".join(str(error).split())[:500]
    known = isinstance(error, Fault | Refused)
    return words if known and words else f"{type(error).__name__}: {words}".removesuffix(": ")


def attempt(
    study: Study, splits: Splits, params: Params, trial: Any, slot: int, parent: str
) -> tuple[list[float], TrialState]:
    """Train once, with the slot's seed.

    Its run in MLflow is the slot's, however often it is tried.
    """
    # A trainer and its module refer to each other: the last trial's would stay beside this one's.
    gc.collect()
    run_id = runs.start(
        study.this.application,
        f"{study.name}/{slot}",
        f"trial {slot}",
        {tags.KIND: "trial"},
        parent,
    )
    try:
        return finished(study, splits, params, Rungs(study, trial, slot), run_id)
    except Exception as error:
        noted = {tags.STATE: "failed", tags.SLOT: str(slot), tags.BECAUSE: why(error)}
        runs.log_all(run_id, params, {}, {}, noted)
        runs.finish(run_id, failed=True)
        raise


def finished(
    study: Study, splits: Splits, params: Params, rungs: Rungs, run_id: str
) -> tuple[list[float], TrialState]:
    """A trial's values and state, once they are logged."""
    slot = rungs.slot
    what, own = f"trial {slot}", seed(study, slot, 0)
    learner, metrics = trained(study, splits, params, own, what, rungs)
    values = [metrics[study.settings.metric]]
    if study.settings.latency_ms:
        values.append(latency(study.kind.application(), learner))
        metrics["latency_ms"] = values[1]
    state = TrialState.PRUNED if rungs.stopped else TrialState.COMPLETE
    curves = {"train_loss": rungs.losses, study.settings.metric: rungs.curve}
    runs.log_all(
        run_id,
        params,
        curves,
        {name: value for name, value in metrics.items() if name not in curves},
        {tags.STATE: "pruned" if rungs.stopped else "complete", tags.SLOT: str(slot)},
    )
    runs.finish(run_id)
    return values, state


def shortened(settings: Trainer, sweep: Sweep) -> Trainer:
    """The trainer of a trial: on one device, in one process, with its part of the minutes.

    That is the part of the whole training's steps that it makes.
    """
    epochs = min(sweep.max_epochs, settings.max_epochs)
    minutes = settings.budget_minutes
    return settings.model_copy(
        update={
            "max_epochs": epochs,
            "keep": "last",
            "patience": 0,
            "validate_share": min(1.0, epochs / sweep.rungs),
            "start": "scratch",
            "devices": 1,
            "nodes": 1,
            "strategy": "auto",
            "budget_minutes": minutes and minutes * epochs * sweep.share / settings.max_epochs,
        }
    )


def trained(
    study: Study, splits: Splits, params: Params, seed: int, what: str, *callbacks: Callback
) -> tuple[Learner, dict[str, float]]:
    """A short training of these parameters, and its metrics."""
    sweep, whole = study.settings, study.this.recipe
    short = shortened(whole.trainer, sweep)
    recipe = study.kind(**{**whole.model, **params})
    plain = recipe.learner(splits)
    recipe, short = resolved(recipe, short, lambda: by_range_test(plain, short, whole.seed))
    learner = recipe.learner(splits)
    run = Run(short, seed, short.max_epochs, what, share=sweep.share, callbacks=callbacks)
    metrics = memory.fitted(learner, run).metrics
    if sweep.metric not in metrics:
        raise Fault(
            f"no metric '{sweep.metric}' for the sweep; the training gives "
            f"{', '.join(sorted(metrics))}"
        )
    if not math.isfinite(metrics[sweep.metric]):
        raise Fault(f"{what}: {sweep.metric} is {metrics[sweep.metric]}")
    return learner, metrics


def seed(study: Study, slot: int, again: int) -> int:
    """Of a trial's training, from the base seed and the slot.

    Another one for each time a finalist is trained again.
    """
    return (study.this.recipe.seed + slot + 100_003 * again) % 2**32


def latency(application: Application[Any, Any, Any], learner: Learner) -> float:
    """Milliseconds of one golden question, exported as it would be served: the median of rounds."""
    with tempfile.TemporaryDirectory() as folder:
        learner.export(Path(folder))
        predictor = application.open(Path(folder))
        golden = contract.golden(application, predictor)
        predictor.predict(golden)
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for question in golden:
                predictor.predict([question])
            times.append(1000 * (time.perf_counter() - began) / len(golden))
    return statistics.median(times)


def _row(slot: int, params: Params, state: str, values: list[float] | None = None) -> None:
    """A row of the table on the sweep's page."""
    told = {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in params.items()
    }
    print(
        PROGRESS
        + canonical(
            {
                "row": {
                    "trial": slot,
                    "state": state,
                    "value": None if values is None else round(values[0], 5),
                    **told,
                }
            }
        ),
        flush=True,
    )
