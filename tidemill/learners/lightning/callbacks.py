"""What happens beside the steps.

Telling how far it is, averaging weights, keeping the best, penalties, a budget.
"""

import math
import time
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from tidemill.contract import Watch
from tidemill.learners.lightning.resume import Keeping, loss_of, steps_done
from tidemill.learners.lightning.sharding import (
    forget_gathered,
    in_shards,
    spread,
    weights_of,
)
from tidemill.runtime import process
from tidemill.runtime.errors import Fault

TOLD_EVERY_S = 0.5
HALVES = (
    "trainer.precision=16-true has no room for the small numbers of most optimisers; "
    "say bf16-true or 16-mixed"
)
READ_EVERY = 10  # batches; to read a loss waits for the accelerator, or for the other processes


class FiniteLoss(Callback):
    """Stops a training at a loss that is NaN or infinite, all of its processes together.

    One process on a CPU looks at each loss at once. Otherwise the last few are read together, and
    before each validation; the step that is named is the one whose loss it was.
    """

    def __init__(self, what: str) -> None:
        self.what, self.losses = what, list[tuple[int, Any]]()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        self.losses.append((steps_done(trainer), loss_of(trainer, outputs)))
        waits = trainer.world_size > 1 or trainer.strategy.root_device.type != "cpu"
        if len(self.losses) >= (READ_EVERY if waits else 1):
            self.read(trainer)

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self.read(trainer)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.read(trainer)

    def read(self, trainer: Any) -> None:
        """Raises Fault where a loss since the last reading is not finite, in any process."""
        losses = [(step, float(loss)) for step, loss in self.losses if loss is not None]
        self.losses = []
        bad = next(((step, loss) for step, loss in losses if not math.isfinite(loss)), None)
        if trainer.strategy.reduce_boolean_decision(bad is None, all=True):
            return
        where = (
            f"the loss is {bad[1]} at step {bad[0]}"
            if bad
            else f"the loss of another process is NaN or infinite by step {steps_done(trainer)}"
        )
        remedy = HALVES if trainer.precision == "16-true" else "lower the learning rate"
        raise Fault(f"{self.what}: {where}; {remedy}")


class Progress(Callback):
    """Tells which training it is, epoch, step, loss, rate and the time left.

    Once also from which step it resumes.
    """

    def __init__(self, what: str) -> None:
        self.what, self.told, self.began, self.first, self.total = what, 0.0, time.monotonic(), 0, 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.began, self.first, self.total = (
            time.monotonic(),
            steps_done(trainer),
            int(trainer.estimated_stepping_batches),
        )
        if self.first and trainer.is_global_zero:
            process.progress(
                self.first, self.total, "steps", training=self.what, resumed=self.first
            )

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        done, now, total = steps_done(trainer), time.monotonic(), self.total
        if trainer.is_global_zero and (now - self.told > TOLD_EVERY_S or done == total):
            self.told, loss = now, loss_of(trainer, outputs)
            left = (now - self.began) / max(1, done - self.first) * (total - done)
            process.progress(
                done,
                total,
                "steps",
                training=self.what,
                epoch=trainer.current_epoch + 1,
                loss=None if loss is None else round(float(loss), 4),
                rate=float(f"{rate(trainer):.3g}"),
                left_s=round(left),
            )


def rate(trainer: Any) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"]) if trainer.optimizers else 0.0


class Rates(Callback):
    """The learning rate among the run's metrics, as often as the loss."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_index: int) -> None:
        if (
            trainer.logger
            and steps_done(trainer) % trainer.log_every_n_steps == 0
            and batch_index % trainer.accumulate_grad_batches == 0
        ):
            trainer.logger.log_metrics({"rate": rate(trainer)}, step=steps_done(trainer))


class Average(Callback):
    """An exponential moving average of the weights (Polyak and Juditsky 1992).

    It is what is validated, and what the training gives.

    `decay` is of one step. Buffers, as batch norm's, are the latest ones.
    """

    def __init__(self, decay: float) -> None:
        self.decay, self.step = decay, 0
        self.mean: dict[str, Tensor] = {}
        self.own: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Any, module: Any) -> None:
        weights = dict(module.named_parameters())
        if self.mean and in_shards(trainer):
            self.mean = spread(trainer, module, self.mean)
        if not self.mean:
            self.mean = {name: weight.detach().clone() for name, weight in weights.items()}
        # A checkpoint is read into the CPU's memory.
        self.mean = {name: mean.to(weights[name].device) for name, mean in self.mean.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        if steps_done(trainer) == self.step:
            return
        self.step = steps_done(trainer)
        decay = min(
            self.decay, (1 + self.step) / (10 + self.step)
        )  # the first steps are forgotten sooner, as TensorFlow's does
        for name, weight in module.named_parameters():
            self.mean[name].lerp_(weight.detach(), 1 - decay)

    @torch.no_grad()
    def swap(self, trainer: Any, module: Any, to: dict[str, Tensor]) -> None:
        for name, weight in module.named_parameters():
            weight.copy_(to[name])
        forget_gathered(trainer)

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        if self.mean:
            self.own = {name: weight.detach().clone() for name, weight in module.named_parameters()}
            self.swap(trainer, module, self.mean)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if self.own:
            self.swap(trainer, module, self.own)
            self.own = {}

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.swap(trainer, module, self.mean)

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        if not in_shards(trainer):
            return
        own = {name: weight.detach().clone() for name, weight in module.named_parameters()}
        self.swap(trainer, module, self.mean)
        mean = weights_of(trainer, module)
        self.swap(trainer, module, own)
        checkpoint["callbacks"][self.state_key]["mean"] = mean

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean, self.step = state["mean"], state["step"]


class Best(Callback):
    """Keeps the weights of the best validation by one metric."""

    def __init__(self, watch: Watch) -> None:
        self.metric, self.sign = watch.name, watch.sign
        self.value, self.step = -math.inf, 0  # the value times the sign, so that higher is better
        self.weights: dict[str, Tensor] = {}
        self.metrics: dict[str, float] = {}

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if self.metric not in trainer.callback_metrics:
            raise Fault(
                f"no metric '{self.metric}' to keep the best by; the training gives "
                f"{', '.join(sorted(trainer.callback_metrics))}"
            )
        value = self.sign * float(trainer.callback_metrics[self.metric])
        if value > self.value:
            self.value, self.step = value, steps_done(trainer)
            self.weights = weights_of(trainer, module)
            self.metrics = {name: float(told) for name, told in trainer.callback_metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "weights": self.weights,
            "metrics": self.metrics,
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value, self.weights, self.metrics, self.step = (
            state["value"],
            state["weights"],
            state["metrics"],
            state["step"],
        )


class Penalty(Callback):
    """The gradient of `l1` times the weights' absolute sum.

    And sparse gradients made dense, which most optimisers ask for.
    """

    def __init__(self, l1: float) -> None:
        self.l1 = l1

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        for weight in module.parameters():
            if weight.grad is not None:
                if weight.grad.is_sparse:
                    weight.grad = weight.grad.to_dense()
                if self.l1:
                    weight.grad.add_(weight.sign(), alpha=self.l1)


class LastValidation(Callback):
    """Has the weights of the end validated, wherever the last validation before them was.

    Lightning validates every so many batches of an epoch, and where those do not divide the epoch
    its last steps stay unseen. It does validate before it stops a training, so the last batch asks
    it to stop.
    """

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        if trainer.is_last_batch and trainer.current_epoch + 1 >= trainer.max_epochs:
            trainer.should_stop = True


class TimeBudget(Callback):
    """Ends a training properly once its minutes are spent, those before a kill included."""

    def __init__(self, minutes: float, keeping: Keeping | None) -> None:
        self.seconds, self.keeping, self.began, self.spent = (
            minutes * 60,
            keeping,
            time.monotonic(),
            False,
        )

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        took = self.keeping.spent_s if self.keeping else time.monotonic() - self.began
        over = took >= self.seconds
        if trainer.world_size > 1:
            over = trainer.strategy.broadcast(over)
        if over and (batch_index + 1) % trainer.accumulate_grad_batches == 0:
            self.spent = trainer.should_stop = True
