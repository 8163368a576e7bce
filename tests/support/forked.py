"""python -m tests.support.forked: trainings and sweeps that are killed, each in a forked process.

It is forked after the imports. A job is a line of JSON on stdin; the answer is its exit status and
what it wrote. `kill` is the optimiser step after whose batch the process sends SIGKILL to itself: a
real kill, at a moment that can be repeated.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
from lightning.pytorch.callbacks import Callback

from tests.support.hardware import HARDWARE
from tidemill import contract
from tidemill.contract import Run, Splits
from tidemill.engines.config.schema import Trainer
from tidemill.learners.lightning.checkpoints import Checkpoints
from tidemill.learners.lightning.loop import Kept
from tidemill.learners.lightning.resume import Stop
from tidemill.run import plan
from tidemill.runtime import paths


class Killed(Callback):
    def __init__(self, step: int, validating: bool = False) -> None:
        self.step, self.validating = step, validating

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if not self.validating and trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_validation_batch_start(self, trainer: Any, *args: Any) -> None:
        if self.validating and trainer.global_step >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train(job: dict[str, Any]) -> dict[str, Any]:
    from tidemill.runtime.files import sha256

    recipe = contract.load(job["recipe"])(**job.get("fields", {}))
    settings = Trainer(**{**HARDWARE, **job.get("settings", {})})
    kept = Kept(
        Checkpoints(Path(job["folder"]) / "checkpoints", {"training": job["folder"]}),
        Stop(),
        job.get("parts", 1),
    )
    more = [Killed(job["kill"], job.get("validating", False))] if job.get("kill") else []
    splits = Splits(paths.data("splits", job["recipe"]), 1, job.get("rows", 0))
    learner = recipe.learner(splits)
    watch = contract.watch(job["recipe"], job["watch"]) if job.get("watch") else None
    fitted = learner.fit(
        Run(settings, 1, settings.max_epochs, "test", watch=watch, kept=kept, callbacks=more)
    )
    path = Path(job["folder"]) / "weights.safetensors"
    learner.save(path)
    return {
        "sha256": sha256(path),
        "metrics": fitted.metrics,
        "steps": fitted.steps,
        "resumed_at": kept.resumed_at,
    }


def sweep(job: dict[str, Any]) -> dict[str, Any]:
    from tasks.sweep import __main__ as main
    from tasks.sweep import trial

    kill, raises = job.get("kill"), job.get("raises", [])
    rates: dict[int, float] = {}
    steps: dict[int, int] = {}

    class Watched(trial.Rungs):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            super().on_train_batch_end(trainer, *args)
            rates[self.slot] = trainer.optimizers[0].param_groups[0]["initial_lr"]
            steps[self.slot] = trainer.global_step
            if [self.slot, trainer.global_step] == kill:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.slot in raises:
                raise KeyError("a column that is not there")

    trial.Rungs = Watched  # type: ignore[misc]
    found: dict[str, Any] = main.sweep(plan.by_hand(job["recipe"], job["overrides"])).model_dump()
    return {**found, "rates": rates, "steps": steps} if job.get("watched") else found


def main() -> None:
    paths.settle()
    for line in sys.stdin:
        job = json.loads(line)
        if job["do"] == "sweep":  # imported once, before the fork
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

            import tasks.sweep.trial  # noqa: F401
        answer = Path(job["folder"]) / "answer.json"
        answer.parent.mkdir(parents=True, exist_ok=True)
        answer.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            os.dup2(2, 1)
            try:
                answer.write_text(json.dumps({"train": train, "sweep": sweep}[job["do"]](job)))
                os._exit(0)
            except BaseException as error:
                answer.write_text(json.dumps({"error": f"{type(error).__name__}: {error}"}))
                os._exit(1)
        _, status = os.waitpid(child, 0)
        told = json.loads(answer.read_text()) if answer.is_file() else {}
        sys.stdout.write(json.dumps({"code": os.waitstatus_to_exitcode(status), **told}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
