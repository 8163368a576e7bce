"""Lightning as every training here uses it: seeded, quiet, with progress, resumed when killed."""

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tidemill.contract import Fitted, Rated, Recipe, Run, Splits
from tidemill.engines.config.schema import Trainer
from tidemill.kit.batches import Steps
from tidemill.learners.lightning import sharding
from tidemill.learners.lightning.callbacks import (
    Average,
    Best,
    FiniteLoss,
    LastValidation,
    Penalty,
    Progress,
    Rates,
    TimeBudget,
)
from tidemill.learners.lightning.checkpoints import CheckpointClock, Checkpoints, Files
from tidemill.learners.lightning.distillation import Teacher, taught
from tidemill.learners.lightning.lr_range_test import find
from tidemill.learners.lightning.optimisers import configure
from tidemill.learners.lightning.resume import DataPlace, Keeping, Stop, go_on, steps_done
from tidemill.learners.lightning.whole_batch import SameDraws, WeightedLoss, WholeBatch
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import aside

for noisy in ("lightning.pytorch", "lightning.fabric", "lightning_utilities"):
    logging.getLogger(noisy).setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module=r"lightning|torch")

log = logging.getLogger(__name__)
METRICS_EVERY = 10  # steps; a metric logged at every step costs 25 ms each in MLflow


@dataclass
class Kept:
    """How a training is kept on its way.

    Where, how SIGTERM reaches it, and into how many parts a batch is cut.
    """

    checkpoints: Checkpoints
    stop: Stop
    parts: int = 1
    resumed_at: int | None = field(default=None, init=False)  # the step it went on from
    spent_s: float = field(default=0.0, init=False)  # of training, all attempts
    steps: int = field(default=0, init=False)  # made by this attempt
    over_budget: bool = field(default=False, init=False)


R = TypeVar("R", bound=Recipe)
D = TypeVar("D")
M = TypeVar("M", bound=lightning.LightningModule)


class LightningLearner(ABC, Generic[R, D, M]):
    """One training by Lightning: of a LightningModule, with the loaders of a LightningDataModule.

    A module that optimises by hand (`automatic_optimization = False`) may have several optimisers.
    """

    def __init__(self, recipe: R, splits: Splits) -> None:
        self.recipe, self.splits = recipe, splits
        self._module: M | None = None

    @abstractmethod
    def load_data(self) -> D:
        """The splits as the loaders see them: a LightningDataModule."""

    @abstractmethod
    def network(self) -> M:
        """The module before training, made for `self.data`."""

    @abstractmethod
    def export(self, package: Path) -> float:
        """Write the package of `self.module`; its largest difference from torch."""

    def incompatible(self, package: Path) -> str:
        return ""

    @property
    def data(self) -> D:
        return self.splits.of(type(self), self.recipe, self.load_data)

    @property
    def module(self) -> M:
        """The module, trained or loaded; before, as it begins."""
        if self._module is None:
            self._module = self.network()
        return self._module

    def save(self, path: Path) -> None:
        save(self.module, path)

    def load(self, path: Path) -> None:
        # What a network draws at first is overwritten; drawn from a seed, nothing depends on it.
        lightning.seed_everything(self.splits.seed, verbose=False)
        self._module = self.network()
        self._module.load_state_dict(load_file(str(path)))
        self._module.eval()

    def fit(self, run: Run) -> Fitted:
        data = self.data
        self._module = None
        lightning.seed_everything(run.seed, workers=True, verbose=False)
        self._module = module = self.network()
        if run.begin is not None:
            warm(module, run.begin)
        if run.lessons is not None:
            teachers = [Teacher(_module(one)) for one in run.lessons.teachers]
            step_of = taught(teachers, run.lessons.weight, run.lessons.temperature)
            module.training_step = step_of(module)  # type: ignore[method-assign]
        if run.trainer.optimiser != "recipe":
            refuse_by_hand(module, run.trainer)
            optimisers = configure(module, run.trainer, learning_rate(run.trainer, self.recipe))
            module.configure_optimizers = optimisers  # type: ignore[method-assign]
        if not run.epochs:
            return validated(module, data, run)
        fitted, weights = fit(module, data, run)
        if weights is not None:
            self._module = module = self.network()
            module.load_state_dict(weights)
        module.float()  # a training at half precision leaves weights that no graph is made of
        return fitted

    def find_rate(self, run: Run) -> float:
        """The learning rate of a range test, on a module that is thrown away."""
        data = self.data
        lightning.seed_everything(run.seed, workers=True, verbose=False)
        module = self.network()
        if not module.automatic_optimization:
            raise Refused(
                "trainer.lr=auto: this network steps its optimisers itself; say trainer.lr=recipe"
            )
        if run.trainer.optimiser != "recipe":
            optimisers = configure(module, run.trainer, 1.0)
            module.configure_optimizers = optimisers  # type: ignore[method-assign]
        return find(module, data, one_device(run.trainer))


def _module(learner: Any) -> lightning.LightningModule:
    if not isinstance(learner, LightningLearner):
        raise Refused(
            f"teach: a {type(learner).__name__} has no network to ask; say teach.by=nobody"
        )
    module: lightning.LightningModule = learner.module
    return module


def learning_rate(settings: Trainer, recipe: Recipe) -> float:
    """Of a named optimiser: the trainer's, else the recipe's own, else 0.001."""
    if isinstance(settings.lr, float):
        return settings.lr
    return recipe.lr if isinstance(recipe, Rated) else 0.001


def validated(module: Any, data: Any, run: Run) -> Fitted:
    """The metrics of a module that is not trained."""
    alone = run.trainer.strategy.startswith(sharding.NAME)
    trainer = lightning.Trainer(
        **(one_device(run.trainer) if alone else hardware(run.trainer, module)),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.validate(module, data, verbose=False)
    return Fitted(measured(trainer), 0)


class Training:
    """The callbacks of one training, and the checkpoint that it resumes from."""

    def __init__(self, module: Any, data: Any, run: Run) -> None:
        settings, self.kept = run.trainer, run.kept
        self.parts: int = self.kept.parts if self.kept else run.parts
        refuse_by_hand(module, settings, self.parts)
        dataset = positioned(data, self.parts)
        self.whole_batch = WholeBatch()
        # Batches of another kind of loader count alike.
        self.count = dataset.count if dataset else (lambda batch: 1)
        accumulated = settings.accumulate * self.parts
        self.limit = limited(data.train_dataloader, run.share, accumulated)
        refuse_unvalidated(data)
        newest = self.kept.checkpoints.newest() if self.kept else None
        self.path = str(newest[0]) if newest else None
        self.content = go_on(dataset, newest[1], self.parts) if newest else None
        self.place = DataPlace(dataset) if dataset is not None else None
        self.keeping = self._keeping(settings, dataset)
        self.best = Best(run.watch) if settings.keep == "best" and run.watch else None
        self.budget = (
            TimeBudget(settings.budget_minutes, self.keeping) if settings.budget_minutes else None
        )
        sharded = settings.strategy.startswith(sharding.NAME)
        self.whole = sharding.Whole() if sharded else None
        # By hand where the weights are in shards: Lightning refuses to.
        self.clip = None if sharded else settings.gradient_clip
        self.callbacks = self._callbacks(run)
        if self.whole:
            self.callbacks.append(self.whole)  # after Average, which leaves the weights averaged
        if sharded and settings.gradient_clip:
            self.callbacks.append(sharding.Clip(settings.gradient_clip))

    def _keeping(self, settings: Trainer, dataset: Steps | None) -> Keeping | None:
        if not self.kept:
            return None
        at = int(self.content["steps"]) if self.content else 0
        self.kept.resumed_at = at if self.content else None
        clock = CheckpointClock(settings.checkpoint_steps, settings.checkpoint_minutes, at)
        return Keeping(
            self.kept.checkpoints, clock, self.kept.stop, self.parts, dataset, self.content
        )

    def _callbacks(self, run: Run) -> list[Callback]:
        settings = run.trainer
        callbacks: list[Callback] = [
            SameDraws(),
            FiniteLoss(run.what),
            Progress(run.what),
            LastValidation(),
            WeightedLoss(self.count),
            *run.callbacks,
        ]
        if self.place:
            callbacks.append(self.place)
        if self.keeping:
            callbacks.append(self.keeping)
        if run.logger:
            callbacks.append(Rates())
        if settings.optimiser != "recipe" or settings.l1 or settings.gradient_clip:
            callbacks.append(Penalty(settings.l1))
        if self.best:
            callbacks.append(self.best)
        if settings.ema:
            # after Best, which copies the averaged weights before they are put back
            callbacks.append(Average(settings.ema))
        if settings.patience and run.watch:
            callbacks.append(
                EarlyStopping(
                    run.watch.name,
                    mode="max" if run.watch.sign > 0 else "min",
                    patience=settings.patience,
                    check_on_train_epoch_end=False,
                )
            )
        if self.budget:
            callbacks.append(self.budget)
        return callbacks

    def note(self, trainer: Any) -> None:
        """Say of the attempt that ended how long it was, whichever way it ended."""
        if self.kept and self.keeping:
            self.kept.spent_s = self.keeping.spent_s
            self.kept.steps = steps_done(trainer) - (self.kept.resumed_at or 0)
            self.kept.over_budget = bool(self.budget and self.budget.spent)


def fit(module: Any, data: Any, run: Run) -> tuple[Fitted, dict[str, Tensor] | None]:
    """Train a module; it has the weights of the end afterwards, or those of the best validation.

    Where it was trained in shards it has a part of them, and the whole weights are given beside.
    """
    settings = run.trainer
    training = Training(module, data, run)
    by_hand = not module.automatic_optimization
    trainer = lightning.Trainer(
        **hardware(settings, module),
        gradient_clip_val=training.clip,
        max_epochs=run.epochs,
        min_epochs=0,
        logger=run.logger or False,
        callbacks=training.callbacks,
        accumulate_grad_batches=1 if by_hand else settings.accumulate * training.parts,
        val_check_interval=settings.validate_share,
        plugins=[Files(training.content), training.whole_batch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=METRICS_EVERY,
        num_sanity_val_steps=0,
        limit_train_batches=training.limit,
        # Steps share a batch among processes themselves; every process validates on all rows.
        use_distributed_sampler=False,
    )
    try:
        compiled: Any = torch.compile(module) if settings.compile else module
        trainer.fit(compiled, data, ckpt_path=training.path, weights_only=True)
    finally:
        training.note(trainer)
    best, whole = training.best, training.whole
    if best and best.weights:
        if not whole:
            module.load_state_dict(best.weights)
        return Fitted(best.metrics, best.step), best.weights if whole else None
    return Fitted(measured(trainer), steps_done(trainer)), whole.weights if whole else None


def refuse_by_hand(module: Any, settings: Trainer, parts: int = 1) -> None:
    """Refuse what only Lightning's own optimisation does, of a module that optimises by hand."""
    if module.automatic_optimization:
        return
    asked = {
        "trainer.accumulate": settings.accumulate > 1,
        "trainer.gradient_clip": settings.gradient_clip is not None,
        "trainer.optimiser": settings.optimiser != "recipe",
    }
    if names := [name for name, wanted in asked.items() if wanted]:
        raise Refused(
            f"{' and '.join(names)}: this network steps its optimisers itself, so they change "
            "nothing; leave them out, or use the recipe's own fields"
        )
    if parts > 1:
        raise Fault(
            "out of memory, and a network that steps its optimisers itself cannot take half a "
            "batch at a time; lower model.batch"
        )


def refuse_unvalidated(data: Any) -> None:
    """Refuse a training that nothing would be judged by. Raises Refused."""
    loader = data.val_dataloader()
    if hasattr(loader, "__len__") and not len(loader):
        raise Refused(
            "no validation row is of use to this training: none is left, or all have labels that "
            "no training row has; give split.rules in conf/recipe a larger share for `valid`"
        )
    data.val_dataloader = lambda: loader  # to make it may take long


def hardware(settings: Trainer, module: nn.Module) -> dict[str, Any]:
    return {
        "accelerator": settings.accelerator,
        "devices": settings.devices,
        "num_nodes": settings.nodes,
        "strategy": sharding.strategy(settings.strategy, module),
        "precision": settings.precision,
        "deterministic": settings.deterministic,
    }


def one_device(settings: Trainer) -> dict[str, Any]:
    """The trainer's hardware, of which one process takes one device."""
    alone = settings.model_copy(update={"devices": 1, "nodes": 1, "strategy": "auto"})
    return hardware(alone, nn.Module())


def measured(trainer: Any) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def positioned(data: Any, parts: int) -> Steps | None:
    """The loader's Steps, the same one each time Lightning asks for the loader.

    None where a recipe has another kind.
    """
    loader = data.train_dataloader()
    dataset = getattr(loader, "dataset", None)
    if not isinstance(dataset, Steps):
        if parts > 1:
            raise Fault(
                "out of memory, and this recipe's batches cannot be cut: its loader is not made of "
                "tidemill.kit.batches.Steps; lower model.batch"
            )
        return None
    # The data may have served another training before.
    dataset.epoch, dataset.step, dataset.parts = 0, 0, parts
    data.train_dataloader = lambda: loader
    return dataset


def limited(loader: Callable[[], Any], share: float, accumulated: int) -> int | float:
    """How many of an epoch's batches are trained with: of whole steps, at least one.

    A step is made of `accumulated` batches. Lightning refuses a share below one batch.
    """
    if share == 1:
        return 1.0  # all; of a whole number, Lightning takes so many batches
    batches = len(loader())
    return min(batches, max(1, int(batches / accumulated * share)) * accumulated)


def warm(module: Any, path: Path) -> None:
    """Begin from these weights; Fault where they are of another shape."""
    try:
        module.load_state_dict(load_file(str(path)))
    except RuntimeError as error:
        raise Fault(
            "trainer.start=champion: the champion's weights do not fit this network "
            f"({' '.join(str(error).split())[:200]}); say trainer.start=scratch"
        ) from error


def save(module: Any, path: Path) -> None:
    """The weights as safetensors: data only, nothing that runs."""
    weights = apart(module.state_dict())
    odd = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if odd:
        raise Fault(
            f"the trained weights hold NaN or infinity ({', '.join(odd[:3])}); "
            "lower the learning rate"
        )
    with aside(path) as part:
        save_file(weights, str(part))


def apart(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each in memory of its own: safetensors refuses names that share it."""
    separate: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in weights.items():
        own = tensor.detach().cpu().contiguous()
        storage = own.untyped_storage().data_ptr()
        separate[name] = own.clone() if storage in storages else own
        storages.add(storage)
    return separate
