"""Lightning as every training here uses it: seeded, quiet, and telling how far it is."""

import logging
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file, save_file

from recipes.base import Recipe
from tasks import process
from tasks.errors import Fault
from tasks.files import aside
from tasks.plan import Plan
from tasks.receipts import Trained
from tasks.schema import Trainer

for noisy in ("lightning.pytorch", "lightning.fabric", "lightning_utilities"):
    logging.getLogger(noisy).setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module=r"lightning|torch")

METRICS_EVERY = 10  # steps; a metric logged at every step costs 25 ms each in MLflow


class Progress(Callback):
    """Tells steps, loss and the time left; stops at a loss that is no number."""

    def __init__(self, what: str) -> None:
        self.what, self.told, self.began = what, 0.0, time.monotonic()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int) -> None:
        loss = float(outputs["loss"]) if isinstance(outputs, dict) else float(outputs)
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise Fault(f"{self.what}: the loss is {loss} at step {trainer.global_step}; lower the learning rate")
        now = time.monotonic()
        total = trainer.num_training_batches * (trainer.max_epochs or 1)
        done = trainer.global_step
        if now - self.told > 0.5 or done == total:
            self.told = now
            process.progress(done, total, "steps", loss=round(loss, 4), left_s=round((now - self.began) / max(1, done) * (total - done)))


def fit(recipe: Recipe, data: Any, settings: Trainer, seed: int, epochs: int, logger: Any, what: str,
        share: float = 1.0) -> tuple[Any, dict[str, float], int]:
    """Train a fresh module; gives it, the validation metrics and the steps taken.

    `share` of each epoch's steps are made: less than all for a trial.
    """
    lightning.seed_everything(seed, workers=True, verbose=False)
    module = recipe.module(data)
    trainer = lightning.Trainer(
        accelerator=settings.accelerator, devices=settings.devices, strategy=settings.strategy,
        precision=settings.precision, deterministic=settings.deterministic,  # type: ignore[arg-type]
        gradient_clip_val=settings.gradient_clip, max_epochs=epochs, logger=logger or False, callbacks=[Progress(what)],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=METRICS_EVERY,
        num_sanity_val_steps=0, limit_train_batches=share,
    )
    if epochs:
        trainer.fit(module, data)
    else:
        trainer.validate(module, data, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return module, metrics, trainer.global_step


def save(module: Any, path: Path) -> None:
    """The weights as safetensors: data only, nothing that runs."""
    with aside(path) as part:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}, str(part))


def rebuilt(recipe: Recipe, plan: Plan, trained: Trained) -> tuple[Any, Any]:
    """The datamodule and the module with the trained weights, as they left training."""
    lightning.seed_everything(plan.recipe.seed, verbose=False)
    data = recipe.datamodule(plan.splits, plan.recipe.seed)
    module = recipe.module(data)
    module.load_state_dict(load_file(str(trained.weights.open())))
    return data, module.eval()


