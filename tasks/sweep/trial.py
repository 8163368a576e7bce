"""One trial: a short training, its metric, and where asked the latency of what it would become."""

import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from tidemill.contract import Application, Learner, Run, Splits
from tidemill.engines.mlflow import runs, tags
from tidemill.engines.optuna.samplers import Params
from tidemill.engines.optuna.study import Study, TrialState
from tidemill.learners.lightning import memory
from tidemill.learners.lightning.loop import METRICS_EVERY
from tidemill.learners.lightning.resume import loss_of, steps_done
from tidemill.runtime import process
from tidemill.runtime.errors import Fault
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
            self.stopped = trainer.should_stop = self.study.stops(self.slot, rung, value)


def work(study: Study, parent: str) -> None:
    """Take slots until none is left; wait for those that other workers have, since they may die."""
    splits = Splits(study.this.splits, study.this.recipe.seed, study.settings.rows)
    while not study.over():
        taken = study.take()
        if taken is None:
            time.sleep(0.5)
            continue
        trial, slot, params = taken
        try:
            recipe = study.kind(**{**study.this.recipe.model, **params})
            _row(slot, params, "running")
            with study.beating(trial):
                values, state = attempt(study, recipe.learner(splits), params, trial, slot, parent)
        except Exception as error:
            if not isinstance(error, Fault | MemoryError | ValueError | RuntimeError):
                raise
            fault = " ".join(str(error).split())[:500] or type(error).__name__
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


def attempt(
    study: Study, learner: Learner, params: Params, trial: Any, slot: int, parent: str
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
    runs.log(run_id, params=params)
    rungs = Rungs(study, trial, slot)
    metrics = trained(study, learner, seed(study, slot, 0), f"trial {slot}", rungs)
    values = [metrics[study.settings.metric]]
    if study.settings.latency_ms:
        values.append(latency(study.kind.application(), learner))
        metrics["latency_ms"] = values[1]
    runs.log_curve(run_id, "train_loss", rungs.losses)
    runs.log_curve(run_id, study.settings.metric, rungs.curve)
    state = TrialState.PRUNED if rungs.stopped else TrialState.COMPLETE
    runs.log(
        run_id,
        metrics={
            name: value
            for name, value in metrics.items()
            if name not in ("train_loss", study.settings.metric)
        },
        tags={
            tags.STATE: "pruned" if rungs.stopped else "complete",
            tags.SLOT: str(slot),
        },
    )
    runs.finish(run_id)
    return values, state


def trained(
    study: Study, learner: Learner, seed: int, what: str, *callbacks: Callback
) -> dict[str, float]:
    settings, sweep = study.this.recipe.trainer, study.settings
    epochs = min(sweep.max_epochs, settings.max_epochs)
    short = settings.model_copy(
        update={
            "keep": "last",
            "patience": 0,
            "validate_share": min(1.0, epochs / sweep.rungs),
            "start": "scratch",
        }
    )
    run = Run(short, seed, epochs, what, share=sweep.share, callbacks=callbacks)
    metrics = memory.fitted(learner, run).metrics
    if sweep.metric not in metrics:
        raise Fault(
            f"no metric '{sweep.metric}' for the sweep; the training gives "
            f"{', '.join(sorted(metrics))}"
        )
    return metrics


def seed(study: Study, slot: int, again: int) -> int:
    """Of a trial's training, from the base seed and the slot.

    Another one for each time a finalist is trained again.
    """
    return (study.this.recipe.seed + slot + 100_003 * again) % 2**32


def latency(application: Application[Any, Any, Any], learner: Learner) -> float:
    """Milliseconds of one golden question, exported as it would be served: the median of rounds."""
    with tempfile.TemporaryDirectory() as folder:
        learner.export(Path(folder))
        predictor, golden = application.open(Path(folder)), application.golden()
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
