"""Trainings that are one call of scikit-learn or LightGBM: killed, they begin again.

What is saved are arrays in safetensors, never a pickle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from safetensors.numpy import load_file, save_file

from tidemill.contract import Fitted, Recipe, Run, Splits
from tidemill.runtime import process
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import aside

R = TypeVar("R", bound=Recipe)
D = TypeVar("D")
OPSET = 18
EXPORTED = 16  # validation rows on which the graph is compared with the model


@dataclass(frozen=True)
class FeatureRows:
    """Features (n, F) float32 and classes (n,), and the same to validate on."""

    x: np.ndarray
    y: np.ndarray
    valid_x: np.ndarray
    valid_y: np.ndarray
    labels: list[str]


class OneCallLearner(ABC, Generic[R, D]):
    """What is fitted in one call over loaded data; what is saved are arrays."""

    def __init__(self, recipe: R, splits: Splits) -> None:
        self.recipe, self.splits = recipe, splits

    @abstractmethod
    def load_data(self) -> D:
        """The splits as they are fitted."""

    @abstractmethod
    def fit(self, run: Run) -> Fitted:
        """Fit the model, seeded by `run.seed`."""

    @abstractmethod
    def export(self, package: Path) -> float:
        """Write the package; the largest difference from what was fitted."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """All that the trained model is."""

    @abstractmethod
    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Be as trained, from what `state` gave."""

    @property
    def data(self) -> D:
        return self.splits.of(type(self), self.recipe, self.load_data)

    def save(self, path: Path) -> None:
        with aside(path) as part:
            save_file(self.state(), str(part))

    def load(self, path: Path) -> None:
        self.restore(load_file(str(path)))

    def incompatible(self, package: Path) -> str:
        return ""


class SklearnLearner(OneCallLearner[R, FeatureRows]):
    """A classifier of feature rows.

    Its package has one graph, from `x` (B, F) to `probabilities` (B, labels).
    """

    @abstractmethod
    def train(self, data: FeatureRows, run: Run) -> int:
        """Fit the model, seeded by `run.seed`; the steps it took."""

    @abstractmethod
    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(B, labels) of features (B, F)."""

    @abstractmethod
    def graph(self) -> Any:
        """The model as ONNX."""

    @abstractmethod
    def tables(self, package: Path) -> None:
        """Write what the predictor needs beside the graph: tables.json with the labels."""

    def fit(self, run: Run) -> Fitted:
        data = self.data
        steps = self.train(data, run)
        process.progress(steps, steps, "steps", training=run.what)
        rows = np.arange(len(data.valid_y))
        chances = self.probabilities(data.valid_x)
        if not np.isfinite(chances).all():
            raise Fault(f"{run.what}: the model's probabilities hold NaN; look at its features")
        losses = -np.log(np.maximum(chances[rows, data.valid_y], 1e-12))
        right = chances.argmax(axis=1) == data.valid_y
        metrics = {"valid_accuracy": float(right.mean()), "valid_loss": float(losses.mean())}
        return Fitted(metrics, steps)

    def export(self, package: Path) -> float:
        import onnxruntime

        path = package / "model.onnx"
        path.write_bytes(self.graph().SerializeToString())
        self.tables(package)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        worst = 0.0
        for count in (1, 2, EXPORTED):
            x = self.data.valid_x[:count]
            answers = session.run(["probabilities"], {"x": x})[0]
            worst = max(worst, float(np.abs(answers - self.probabilities(x)).max()))
        return worst


class BoostedLearner(SklearnLearner[R]):
    """Gradient-boosted trees (LightGBM, Ke et al. 2017), all rows and features in each tree.

    The recipe's fields that `settings` names go to LightGBM as they are.
    """

    rounds = "rounds"  # the field that says how many trees
    settings: tuple[str, ...] = ("learning_rate", "num_leaves", "min_data_in_leaf")

    def train(self, data: FeatureRows, run: Run) -> int:
        import lightgbm

        fields = self.recipe.model_dump()
        parameters = {name: fields[name] for name in self.settings if name in fields} | {
            "objective": "multiclass",
            "num_class": len(data.labels),
            "seed": run.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        rounds = max(1, round(int(fields[self.rounds]) * run.share))
        self.booster = lightgbm.train(
            parameters, lightgbm.Dataset(data.x, data.y), num_boost_round=rounds
        )
        return rounds

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.booster.predict(x, num_threads=1))

    def state(self) -> dict[str, np.ndarray]:
        return {"model": np.frombuffer(self.booster.model_to_string().encode(), dtype=np.uint8)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        import lightgbm

        self.booster = lightgbm.Booster(model_str=state["model"].tobytes().decode())

    def graph(self) -> Any:
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        features = self.booster.num_feature()
        kinds = [("x", FloatTensorType([None, features]))]
        return convert_lightgbm(self.booster, initial_types=kinds, zipmap=False, target_opset=15)
