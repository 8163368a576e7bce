"""python -m tests.support.processes JOB: one training by several processes of this machine's CPU.

JOB is JSON: recipe, watch, folder, strategy, settings, fields and what happens to it: `kill` is the
step after which every process kills itself, `poison` the step at which the loss of rank 1 becomes
NaN. The folder gets each process's weights and `done.json`.
"""

import json
import os
import signal
import warnings
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
import torch
from lightning.pytorch.callbacks import Callback

from tests.support.hardware import HARDWARE
from tests.support.making import tiny
from tidemill import contract
from tidemill.contract import Run, Splits
from tidemill.engines.config.schema import Trainer
from tidemill.learners.lightning.checkpoints import Checkpoints
from tidemill.learners.lightning.loop import Kept
from tidemill.learners.lightning.resume import Stop
from tidemill.runtime import paths, process
from tidemill.runtime.rank import rank


class Killed(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class Poisoned(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.global_step == self.step and trainer.global_rank == 1:
            name = "batch_loss" if hasattr(module, "batch_loss") else "loss"
            loss = getattr(module, name)
            setattr(module, name, lambda *of: loss(*of) * torch.nan)


def main(arguments: list[str]) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    job = json.loads(arguments[0])
    name, folder = job["recipe"], Path(job["folder"])
    more: list[Callback] = []
    if job.get("kill"):
        more.append(Killed(job["kill"]))
    if job.get("poison"):
        more.append(Poisoned(job["poison"]))
    settings = {"strategy": job["strategy"], "devices": 2, "max_epochs": 2, **job["settings"]}
    trainer = Trainer(**{**HARDWARE, **settings})
    recipe = contract.load(name)(**{**tiny(name).FIELDS, "batch": 2, **job.get("fields", {})})
    learner = recipe.learner(Splits(paths.data("splits", name), 1))
    kept = Kept(Checkpoints(folder / "checkpoints", {"of": str(folder)}), Stop())
    watch = contract.watch(name, job["watch"])
    fitted = learner.fit(Run(trainer, 1, 2, name, watch=watch, kept=kept, callbacks=more))
    learner.save(folder / f"weights-{rank()}.safetensors")
    torch.distributed.barrier()  # the others end with the first
    if not rank():
        done = {"metrics": fitted.metrics, "resumed_at": kept.resumed_at}
        (folder / "done.json").write_text(json.dumps(done))


if __name__ == "__main__":
    process.main(main, __doc__ or "", all_ranks=True)
