"""The contract of an application.

Its fields are its hyperparameters; its methods are what is special about it. Everything else,
from collecting to serving, knows an application by this class alone. Importing a recipe loads no
torch: a network stands beside it and is imported inside `module`, `datamodule` and `export`.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from lightning import LightningDataModule, LightningModule


GROUP = "tidemill.recipes"


class Metric(BaseModel):
    """What a metric's number means."""

    model_config = ConfigDict(frozen=True)
    better: str  # "higher" or "lower"
    unit: str = ""
    source: str = ""  # where its definition stands
    low: float | None = None  # no row and no metric lies below; None: nobody can say
    high: float | None = None  # nor above


class Recipe(BaseModel, ABC):
    model_config = ConfigDict(frozen=True, extra="forbid")

    Input: ClassVar[type[BaseModel]]
    """One question, as the server takes it."""
    Output: ClassVar[type[BaseModel]]
    """One answer."""
    metrics: ClassVar[dict[str, Metric]]
    """The metrics `metric` gives, by name. The first one names the application's quality."""

    data_fields: ClassVar[frozenset[str]]
    """The fields `datamodule` depends on; a sweep over others loads the data once."""

    reads: ClassVar[str] = ""
    """What `tidemill new --like` may bring it: pictures, labelled texts, texts or series; empty: nothing."""

    warm: ClassVar[bool] = False
    """Whether a training may begin from the champion's weights (trainer.start=champion)."""

    teaches: ClassVar[bool] = False
    """Whether it can learn from a teacher (`teach`): its module has `logits(batch)`, (N, L), and `loss(logits, batch)`, and
    trains on the latter alone; where some rows of the logits have no target, `rows(batch)` says which have, (N,)."""

    weighs: ClassVar[bool] = False
    """Whether a training row counts by `tidemill.kit.batches.weights` (label.issues=weight); rows of valid and test always count alike."""

    prunes: ClassVar[bool] = False
    """Whether inner channels can be taken out of it (`prune`): then `pruned` is there."""

    averages: ClassVar[tuple[str, ...]] = ()
    """The outputs of its graph, all of them, where those of several networks may be averaged (`ensemble`); none: they may not."""

    facts: ClassVar[dict[str, str]] = {}
    """What a person must know before using it, for the model card: intended use, limits, out of scope, data."""

    def plan(
        self, epochs: int, devices: int, strategy: str, precision: str
    ) -> dict[str, float | int | str]:
        """What a training with these fields takes: parameters, memory of a device, FLOPs; empty where nobody counted it."""
        return {}

    @abstractmethod
    def label(self, documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
        """Documents to examples.

        Columns: doc_id, inputs and target (JSON of Input and Output), confidence (0 to 1), votes
        (JSON: voter to vote), unit, slices (JSON: column to value), dropped (a reason, or None);
        payload (bytes, or None) where the question is about a picture or the like. `documents` has
        `payload` for what is no text.
        """

    @abstractmethod
    def datamodule(self, splits: Path, seed: int, rows: int = 0) -> LightningDataModule:
        """The splits as a loader sees them; `rows` limits the training rows, 0 is all."""

    @abstractmethod
    def module(self, datamodule: LightningDataModule) -> LightningModule:
        """The network before training."""

    def warmed(self, package: Path) -> Recipe:
        """These fields for a training that begins from an earlier model's package.

        Itself, where the module is as it would be and only takes the earlier weights.
        """
        return self

    def strange(self, package: Path, datamodule: LightningDataModule) -> str:
        """Why an earlier model's weights mean something else than today's data do; empty where they fit."""
        return ""

    def batches(self) -> dict[str, Any]:
        """What decides how a batch looks and what its answers are: a teacher's must be the student's."""
        return {}

    def unprunable(self) -> str:
        """Why these fields cannot be pruned although others of the recipe can; empty where they can. Asked before anything is trained."""
        return ""

    def pruned(self, module: LightningModule, fraction: float) -> tuple[Recipe, LightningModule]:
        """The fields and the module without `fraction` of the inner channels, those of the least weight."""
        raise NotImplementedError(f"{type(self).__name__} says prunes and has no pruned")

    @abstractmethod
    def export(
        self, module: LightningModule, datamodule: LightningDataModule, package: Path
    ) -> float:
        """Write the ONNX graphs and what `predict` needs beside them.

        Returns the largest absolute difference between torch and ONNX Runtime over three shapes.
        """

    @abstractmethod
    def open(self, package: Path) -> Any:
        """A session in ONNX Runtime; imports no torch."""

    @abstractmethod
    def predict(self, session: Any, inputs: list[BaseModel]) -> list[BaseModel]:
        """What the server answers."""

    @abstractmethod
    def score(self, session: Any, examples: pd.DataFrame) -> pd.DataFrame:
        """One row per example, in the same order: the sufficient statistics of `metric`."""

    @abstractmethod
    def metric(self, frame: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The named metrics of weighted rows: weights (R, n) for n rows give arrays (R,).

        A metric is a function of rows and weights, so one paired resampling compares two models
        for any application and any metric, ratios and ranks included.
        """

    def ratios(self, frame: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Those metrics that are a ratio of sums over rows: name to numerator (n,) and denominator (n,).

        Named here, a metric is resampled by sums over units, some hundred times as fast as by weighing rows.
        """
        return {}

    def right(self, frame: pd.DataFrame) -> np.ndarray | None:
        """Which rows were answered right (n,), 0 or 1; None where answers are not right or wrong."""
        if {"target", "answer"} <= set(frame.columns):
            return (frame["target"].astype(object) == frame["answer"].astype(object)).to_numpy(
                float
            )
        return None

    def perturbations(self, inputs: list[BaseModel], seed: int) -> dict[str, list[BaseModel]]:
        """The same questions with typos, noise and the like, by the perturbation's name; what `robust` gates ask."""
        return {}

    def calibrate(self, package: Path, valid: pd.DataFrame) -> None:
        """Write into the package what makes its confidences honest, fitted on validation rows.

        `score` then gives them in a column `confidence` (0 to 1), which `calibrated` gates judge.
        """

    def explain(
        self, package: Path, weights: Path, examples: pd.DataFrame
    ) -> list[list[tuple[str, float]]]:
        """For each example, which parts of its input moved the answer, and how far; empty where nothing is known.

        `weights` are the trained module's, as safetensors; this may import torch.
        """
        return []

    def baselines(self, splits: Path, examples: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Frames as `score` gives them, of simpler models on the same rows; `baseline` is the gates' one.

        A frame may leave rows out (NaN in its columns) where its model cannot answer.
        """
        return {}

    @abstractmethod
    def example(self, session: Any) -> dict[str, dict[str, np.ndarray]]:
        """The graph's own inputs and outputs for two questions or more: {"inputs": ..., "outputs": ...}."""

    def golden(self) -> list[BaseModel]:
        """Inputs any version must answer, asked before it is served."""
        return []

    steady: ClassVar[float] = 1.0
    """The share of golden rows that must be answered as when the package was made, before it is served."""

    def agree(self, one: BaseModel, two: BaseModel) -> bool:
        """Whether two answers to one question say the same in what counts: by default their first field, numbers to a hundredth."""
        first = next(iter(type(one).model_fields))
        return alike(getattr(one, first), getattr(two, first))

    def noted(self, question: BaseModel, answer: BaseModel) -> dict[str, float | str]:
        """What may be kept of a served question and its answer without keeping either, for drift: lengths and numbers, by default."""
        return {
            **{f"asked_{name}": value for name, value in measures(question).items()},
            **measures(answer),
        }

    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        """Pictures of a score frame, for the run's page."""
        return []


def alike(one: Any, two: Any, within: float = 0.01) -> bool:
    """Whether two values are the same, numbers within a hundredth of 1 or of themselves."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(alike(one[key], two[key], within) for key in one)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(
            alike(a, b, within) for a, b in zip(one, two, strict=True)
        )
    if isinstance(one, int | float) and isinstance(two, int | float) and not isinstance(one, bool):
        return abs(one - two) <= within * max(1.0, abs(one))
    return bool(one == two)


def measures(model: BaseModel) -> dict[str, float | str]:
    """The numbers among a model's fields, and the lengths of its texts and lists."""
    found: dict[str, float | str] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, bool | int | float):
            found[name] = float(value)
        elif isinstance(value, str | list | tuple):
            found[f"{name}_length"] = float(len(value))
    return found


# The applications there are ------------------------------------------------------------


def _own() -> list[str]:
    recipes = import_module("recipes")

    folder = Path(recipes.__path__[0])
    return sorted(
        path.stem if path.suffix == ".py" else path.name
        for path in folder.iterdir()
        if path.stem != "__init__" and (path.suffix == ".py" or (path / "__init__.py").is_file())
    )


def _others() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUP)}


def names() -> list[str]:
    """The applications there are: the modules beside this file, and those of installed packages."""
    return sorted({*_own(), *_others()})


def packaged(name: str) -> bool:
    """Whether an application's module comes with an installed package and not from beside this file."""
    return name in _others() and name not in _own()


def load(name: str) -> type[Recipe]:
    """An application's class by its name: a name, never an import path. KeyError where there is none."""
    if name in _own():
        module = import_module(f"recipes.{name}")
    elif name in _others():
        module = import_module(_others()[name].partition(":")[0])
    else:
        raise KeyError(name)
    found = [
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Recipe)
        and item.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"recipes.{name} must define exactly one Recipe, it has {len(found)}")
    return found[0]


def code(name: str) -> list[Path]:
    """Where an application's code lies, its own first: folders of packages and single modules, those it builds on included."""
    found = []
    for kind in load(name).__mro__:
        module = sys.modules.get(kind.__module__)
        if issubclass(kind, Recipe) and kind is not Recipe and module and module.__file__:
            # recipes/NAME.py, or a module of no package
            alone = module.__package__ in ("", "recipes")
            found.append(Path(module.__file__) if alone else Path(module.__file__).parent)
    return list(dict.fromkeys(found))
