"""Lightning as every training here uses it: seeded, quiet, telling how far it is, and going on where it was killed."""

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from safetensors.torch import load_file, save_file

from tidemill.contract import Recipe
from tidemill.engines.config.schema import Trainer
from tidemill.kit.batches import Steps
from tidemill.learners.lightning.callbacks import Average, Best, Budget, Penalty, Progress, Rates
from tidemill.learners.lightning.checkpoints import Checkpoints, Clock, Files
from tidemill.learners.lightning.optimisers import configure
from tidemill.learners.lightning.resume import Keeping, Stop, go_on
from tidemill.run.plan import Plan
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import aside
from tidemill.runtime.receipt import File

for noisy in ("lightning.pytorch", "lightning.fabric", "lightning_utilities"):
    logging.getLogger(noisy).setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module=r"lightning|torch")

log = logging.getLogger(__name__)
METRICS_EVERY = 10  # steps; a metric logged at every step costs 25 ms each in MLflow


@dataclass
class Kept:
    """How a training is kept on its way: where, how SIGTERM reaches it, and into how many parts a batch is cut."""

    checkpoints: Checkpoints
    stop: Stop
    parts: int = 1
    resumed_at: int | None = field(default=None, init=False)  # the step it went on from
    spent_s: float = field(default=0.0, init=False)  # of training, all attempts
    steps: int = field(default=0, init=False)  # made by this attempt
    over_budget: bool = field(default=False, init=False)


def fit(
    recipe: Recipe,
    data: Any,
    settings: Trainer,
    seed: int,
    epochs: int,
    logger: Any,
    what: str,
    share: float = 1.0,
    watch: str = "",
    kept: Kept | None = None,
    begin: Path | None = None,
    more: Sequence[Callback] = (),
    taught: Callable[[Any], Callable[[Any, int], Any]] | None = None,
) -> tuple[Any, dict[str, float], int]:
    """Train a fresh module; gives it, the validation metrics and the steps taken.

    `share` of each epoch's steps are made: less than all for a trial. `watch` names the validation metric, higher being
    better, that stops early and keeps the best. `begin` are weights to begin from. `taught` gives a module another
    training step, where somebody teaches it.
    """
    lightning.seed_everything(seed, workers=True, verbose=False)
    module: Any = recipe.module(data)
    if begin is not None:
        warm(module, begin)
    if taught is not None:
        module.training_step = taught(module)
    if settings.optimiser != "recipe":
        module.configure_optimizers = configure(
            module,
            settings,
            settings.lr if isinstance(settings.lr, float) else float(getattr(recipe, "lr", 0.001)),
        )
    if not epochs:
        trainer = lightning.Trainer(
            **hardware(settings),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.validate(module, data, verbose=False)
        return module, measured(trainer), 0
    parts = kept.parts if kept else 1
    dataset = positioned(data, parts)
    found = kept.checkpoints.newest() if kept else None
    content = go_on(dataset, found[1], parts) if found else None
    keeping, best = None, Best(watch) if settings.keep == "best" else None
    callbacks: list[Callback] = [Progress(what), *more]
    if kept:
        at = int(content["global_step"]) if content else 0
        kept.resumed_at = at if content else None
        clock = Clock(settings.checkpoint_steps, settings.checkpoint_minutes, at)
        keeping = Keeping(kept.checkpoints, clock, kept.stop, parts, dataset, content)
        callbacks.append(keeping)
    if logger:
        callbacks.append(Rates())
    if settings.optimiser != "recipe" or settings.l1 or settings.gradient_clip:
        callbacks.append(Penalty(settings.l1))
    if best:
        callbacks.append(best)
    if settings.ema:
        callbacks.append(
            Average(settings.ema)
        )  # after Best, which copies the averaged weights before they are put back
    if settings.patience:
        callbacks.append(
            EarlyStopping(
                watch, mode="max", patience=settings.patience, check_on_train_epoch_end=False
            )
        )
    budget = Budget(settings.budget_minutes, keeping) if settings.budget_minutes else None
    if budget:
        callbacks.append(budget)
    trainer = lightning.Trainer(
        **hardware(settings),
        gradient_clip_val=settings.gradient_clip,
        max_epochs=epochs,
        min_epochs=0,
        logger=logger or False,
        callbacks=callbacks,
        accumulate_grad_batches=settings.accumulate * parts,
        val_check_interval=settings.validate_share,
        plugins=[Files(content)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=METRICS_EVERY,
        num_sanity_val_steps=0,
        limit_train_batches=share,
        use_distributed_sampler=False,  # recipes' Steps share a batch among processes themselves, and every process validates on all rows
    )
    try:
        compiled: Any = torch.compile(module) if settings.compile else module
        trainer.fit(compiled, data, ckpt_path=str(found[0]) if found else None, weights_only=True)
    finally:
        if kept and keeping:
            kept.spent_s, kept.steps, kept.over_budget = (
                keeping.spent_s,
                trainer.global_step - (kept.resumed_at or 0),
                bool(budget and budget.spent),
            )
    metrics = measured(trainer)
    if best and best.weights:
        module.load_state_dict(best.weights)
        return module, best.metrics, best.step
    return module, metrics, trainer.global_step


def hardware(settings: Trainer) -> dict[str, Any]:
    return {
        "accelerator": settings.accelerator,
        "devices": settings.devices,
        "num_nodes": settings.nodes,
        "strategy": settings.strategy,
        "precision": settings.precision,
        "deterministic": settings.deterministic,
    }


def measured(trainer: Any) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def positioned(data: Any, parts: int) -> Steps | None:
    """The loader's Steps, the same one each time Lightning asks for the loader; None where a recipe has another kind."""
    loader = data.train_dataloader()
    dataset = getattr(loader, "dataset", None)
    if not isinstance(dataset, Steps):
        if parts > 1:
            raise Fault(
                "out of memory, and this recipe's batches cannot be cut: its loader is not made of tidemill.kit.batches.Steps; lower model.batch"
            )
        return None
    dataset.epoch, dataset.step, dataset.parts = (
        0,
        0,
        parts,
    )  # the data may have served another training before
    data.train_dataloader = lambda: loader
    return dataset


def warm(module: Any, path: Path) -> None:
    """Begin from these weights; Fault where they are of another shape."""
    try:
        module.load_state_dict(load_file(str(path)))
    except RuntimeError as error:
        raise Fault(
            f"trainer.start=champion: the champion's weights do not fit this network ({' '.join(str(error).split())[:200]}); say trainer.start=scratch"
        ) from error


def save(module: Any, path: Path) -> None:
    """The weights as safetensors: data only, nothing that runs."""
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()
    }
    odd = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if odd:
        raise Fault(
            f"the trained weights hold values that are no numbers ({', '.join(odd[:3])}); lower the learning rate"
        )
    with aside(path) as part:
        save_file(weights, str(part))


def rank() -> int:
    """Which process of a training this is; 0 is the one that writes."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def rebuilt(recipe: Recipe, plan: Plan, weights: File) -> tuple[Any, Any]:
    """The datamodule and the module with its trained weights, as they left training."""
    lightning.seed_everything(plan.recipe.seed, verbose=False)
    data = recipe.datamodule(plan.splits, plan.recipe.seed)
    module = recipe.module(data)
    module.load_state_dict(load_file(str(weights.open())))
    return data, module.eval()
