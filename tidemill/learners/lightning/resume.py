"""What keeps a training.

Checkpoints on the way, a proper end at SIGTERM, and the exact place to go on from.

A checkpoint is made where a step is about to begin: the step before it is complete, and no part of
the next one has happened. Lightning's own counters, saved later, are off by one batch on resume
(its issues 19367 and 19815).
"""

import os
import random
import signal
import time
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from tidemill.learners.lightning.checkpoints import CheckpointClock, Checkpoints
from tidemill.runtime.errors import Fault
from tidemill.runtime.process import EXIT_AGAIN

RNG = "rng"


def steps_done(trainer: Any) -> int:
    """Optimisation steps so far.

    Lightning counts those of every optimiser; where a module steps several by hand, what counts
    here is its batches.
    """
    module = trainer.lightning_module
    if module is None or module.automatic_optimization:
        return int(trainer.global_step)
    return int(trainer.fit_loop.epoch_loop.batch_progress.total.processed)


def loss_of(trainer: Any, outputs: Any) -> Any:
    """The loss of the batch that ended, a number or a tensor of one; None where there is none.

    To make a number of a tensor waits for the accelerator.

    A module that optimises by hand gives none back; then it is what it logged as `train_loss`.
    """
    if isinstance(outputs, dict):
        outputs = outputs.get("loss", trainer.callback_metrics.get("train_loss"))
    return outputs.detach() if isinstance(outputs, torch.Tensor) else outputs


class Stop:
    """SIGTERM, as a preempted machine sends it: heard once, obeyed where a step has ended."""

    def __init__(self) -> None:
        self.asked = self.training = False

    def listen(self) -> "Stop":
        signal.signal(signal.SIGTERM, self)
        return self

    def __call__(self, number: int, frame: object) -> None:
        self.asked = True
        if not self.training:  # nothing to save yet, or everything is saved
            os._exit(EXIT_AGAIN)


def drawn() -> dict[str, Any]:
    """The state of every random number generator, in plain values."""
    kind, keys, at, has, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": {
            "kind": kind,
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "at": int(at),
            "has": int(has),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        # Of this process's own card: of the others no number is drawn here, and a machine that the
        # training resumes on need not have them.
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def draw_from(state: dict[str, Any]) -> None:
    """Set every random number generator as it was."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    told = state["numpy"]
    np.random.set_state(
        (
            told["kind"],
            told["keys"].numpy().astype(np.uint32),
            told["at"],
            told["has"],
            told["cached"],
        )
    )
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def of_all(trainer: Any, state: dict[str, Any]) -> list[dict[str, Any]]:
    """The states of all processes, by rank."""
    if trainer.world_size == 1:
        return [state]
    states: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(states, state)
    return states


class DataPlace(Callback):
    """Says to a recipe's Steps where the training stands.

    A loader's workers hold copies that are made as each epoch begins: what a copy counts, the
    original does not hear, and no copy knows the other processes.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.began: int | None = None  # the epoch whose place `go_on` has set

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        self.dataset.place = trainer.global_rank, trainer.world_size

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if self.began is None:
            self.began = trainer.current_epoch
        elif trainer.current_epoch != self.began:
            self.dataset.epoch, self.dataset.step = trainer.current_epoch, 0


class Keeping(Callback):
    """Saves, stops and goes on. `dataset` is a recipe's Steps.

    None where a recipe has another loader, which is kept at epochs' beginnings only.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        clock: CheckpointClock,
        stop: Stop,
        parts: int,
        dataset: Any,
        resumed: dict[str, Any] | None,
    ) -> None:
        self.checkpoints, self.clock, self.stop, self.parts, self.dataset, self.resumed = (
            checkpoints,
            clock,
            stop,
            parts,
            dataset,
            resumed,
        )
        self.began, self.before_s = time.monotonic(), float(resumed["spent_s"]) if resumed else 0.0
        self.first = True

    @property
    def spent_s(self) -> float:
        """Seconds of training, those before a kill included as far as they were saved."""
        return self.before_s + time.monotonic() - self.began

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.stop.training = True
        signal.signal(signal.SIGTERM, self.stop)  # Lightning's own handler ends the process with 0

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.stop.training = (
            False  # asked in the last step: what is left takes seconds, and is done
        )

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_index: int) -> None:
        if self.first:
            self.first = False
            if self.resumed is not None:
                trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
                states = self.resumed[RNG]
                draw_from(states[trainer.global_rank % len(states)])
        if batch_index % trainer.accumulate_grad_batches or (self.dataset is None and batch_index):
            return  # in the midst of a step
        step = steps_done(trainer)
        asked, due = self.together(trainer, (self.stop.asked, self.clock.due(step)))
        if asked or due:
            self.save(trainer, module, step)
        if asked:
            raise Fault(
                f"stopped by SIGTERM before step {step + 1}; it is saved, run again and it goes on",
                heals=True,
            )

    def together(self, trainer: Any, told: tuple[bool, bool]) -> tuple[bool, bool]:
        """The first process decides for all."""
        return trainer.strategy.broadcast(told) if trainer.world_size > 1 else told

    def save(self, trainer: Any, module: Any, step: int) -> None:
        """Nothing is saved of weights that are NaN or infinite: what was good last stays."""
        finite = all(bool(torch.isfinite(weight).all()) for weight in module.parameters())
        # Together, since a process may have a part of the weights, and saving takes all of them.
        if not trainer.strategy.reduce_boolean_decision(finite, all=True):
            return
        began = time.monotonic()
        trainer.save_checkpoint(self.checkpoints.path(step), weights_only=False)
        if trainer.is_global_zero:
            self.checkpoints.tidy()
        self.clock.saved(step, time.monotonic() - began)

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        # Saved before its last batch, an epoch would be taken for one that is over.
        checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False
        checkpoint |= {
            "identity": self.checkpoints.identity,
            RNG: of_all(trainer, drawn()),
            "parts": self.parts,
            "steps": steps_done(trainer),
            "spent_s": self.spent_s,
            "place": {
                "epoch": trainer.current_epoch,
                "step": (trainer.fit_loop.epoch_loop.batch_progress.current.completed)
                // self.parts,
            },
        }


def go_on(dataset: Any, resumed: dict[str, Any], parts: int) -> dict[str, Any]:
    """The checkpoint for a training whose batches are cut into `parts`.

    Its loader stands at the next batch.
    """
    place = resumed["place"]
    if dataset is not None:
        dataset.epoch, dataset.step = place["epoch"], place["step"]
    if parts != resumed["parts"]:
        progress = resumed["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counted in (progress["total"], progress["current"]):
            for name in counted:
                counted[name] = counted[name] // resumed["parts"] * parts
    return resumed
