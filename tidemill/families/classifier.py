"""Classifiers: one label of several, each with a probability.

The package has one graph, `model.onnx`, whose only output is probabilities (B, labels), and
tables.json, which names the labels in the order of the columns.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tidemill.contract import (
    Application,
    Averageable,
    Calibratable,
    Classes,
    Figures,
    I,
    Metric,
    Monitored,
    O,
    Ratios,
    exchange,
)
from tidemill.kit.calibration import fitted, temperature, tempered, write
from tidemill.kit.graphs import opened

if TYPE_CHECKING:
    import pandas as pd

OTHERS = 3  # labels beside the answer that an answer names
LEAST_PROBABILITY = 1e-12  # of the target, in the log loss

ACCURACY = Metric(better="higher", low=0, high=1)
MACRO_F1 = Metric(
    better="higher",
    source="scikit-learn f1_score, average=macro, labels of the targets",
    low=0,
    high=1,
)
LOG_LOSS = Metric(better="lower", unit="nats", low=0)
VALIDATION = {
    "valid_accuracy": Metric(better="higher"),
    "valid_loss": Metric(better="lower", unit="nats"),
}


class Label(BaseModel):
    """A classifier's answer."""

    model_config = ConfigDict(extra="forbid")
    label: str
    confidence: float | None = Field(
        default=None, ge=0, le=1, description="the model's own probability"
    )
    others: dict[str, float] = Field(default={}, description="the next likely labels")


class ClassifierPredictor(ABC, Generic[I, O]):
    """A classifier's package, opened.

    `names` is the key of the labels in tables.json.
    """

    names: ClassVar[str] = "labels"

    def __init__(self, package: Path) -> None:
        self.tables: dict[str, Any] = json.loads((package / "tables.json").read_text())
        self.labels: list[str] = self.tables[self.names]
        self.temperature = temperature(package)
        self.graphs = opened(package)

    @abstractmethod
    def asked(self, question: I) -> Any:
        """The field of a question that is asked: words, numbers, or bytes as base64."""

    @abstractmethod
    def raw(self, asked: Sequence[Any]) -> np.ndarray:
        """The graph's probabilities (B, labels) float32."""

    @abstractmethod
    def answer(self, label: str, confidence: float, others: dict[str, float]) -> O:
        """One answer."""

    def probabilities(self, asked: Sequence[Any]) -> np.ndarray:
        """(B, labels) float32, calibrated."""
        if not asked:
            return np.zeros((0, len(self.labels)), np.float32)
        return tempered(self.raw(asked), self.temperature)

    def predict(self, inputs: Sequence[I]) -> list[O]:
        answers = []
        for row in self.probabilities([self.asked(question) for question in inputs]):
            best = np.argsort(-row, kind="stable")[: OTHERS + 1]
            others = {self.labels[i]: round(float(row[i]), 4) for i in best[1:]}
            confidence = float(np.clip(row[best[0]], 0, 1))
            answers.append(self.answer(self.labels[best[0]], confidence, others))
        return answers


C = TypeVar("C", bound=ClassifierPredictor[Any, Any])


class Classifier(
    Application[I, O, C], Calibratable, Monitored[I, O], Averageable, Classes, Generic[I, O, C]
):
    """A question whose answer is a label.

    `asks` is the input's field that is asked, `tells` the output's field that is the label.
    """

    asks: ClassVar[str]
    tells: ClassVar[str] = "label"
    metrics: ClassVar[dict[str, Metric]] = {
        "accuracy": ACCURACY,
        "macro_f1": MACRO_F1,
        "log_loss": LOG_LOSS,
    }
    averages: ClassVar[tuple[str, ...]] = ("probabilities",)

    def targets(self, examples: pd.DataFrame) -> list[str]:
        return [json.loads(item)[self.tells] for item in examples["target"]]

    def questions(self, examples: pd.DataFrame) -> list[Any]:
        """What is asked, as it is asked: perturbed questions too."""
        return [json.loads(item)[self.asks] for item in examples["inputs"]]

    def evaluate(self, predictor: C, examples: pd.DataFrame) -> pd.DataFrame:
        scores = predictor.probabilities(self.questions(examples))
        return scored(self.targets(examples), predictor.labels, scores)

    def metric(self, frame: pd.DataFrame, weights: np.ndarray) -> Figures:
        from tidemill.kit.metrics import accuracy, macro_f1, mean
        from tidemill.kit.metrics.classes import right

        hits = right(frame)
        assert hits is not None
        return {
            "accuracy": accuracy(hits.astype(weights.dtype), weights),
            "macro_f1": macro_f1(frame["target"], frame["answer"], weights),
            "log_loss": mean(frame["loss"].to_numpy(weights.dtype), weights),
        }

    def ratios(self, frame: pd.DataFrame) -> Ratios:
        from tidemill.kit.metrics.classes import right

        hits, one = right(frame), np.ones(len(frame))
        assert hits is not None
        return {"accuracy": (hits, one), "log_loss": (frame["loss"].to_numpy(float), one)}

    def calibrate(self, package: Path, valid: pd.DataFrame) -> None:
        predictor = self.open(package)
        columns = {name: number for number, name in enumerate(predictor.labels)}
        at = np.array([columns.get(name, -1) for name in self.targets(valid)])
        scores = predictor.probabilities(self.questions(valid))
        write(package, fitted(scores[at >= 0], at[at >= 0]))

    def noted(self, question: I, answer: O) -> dict[str, float | str]:
        return {**exchange(question, answer), self.tells: str(getattr(answer, self.tells))}


def frame(targets: Any, answers: Any, losses: Any) -> pd.DataFrame:
    """A score frame: target and answer as one categorical, so that counting them is quick.

    An answer may be None, where a model cannot give one.
    """
    import pandas as pd

    names = {*targets, *(name for name in answers if name is not None)}
    kind = pd.CategoricalDtype(sorted(names))
    return pd.DataFrame(
        {
            "target": pd.Series(list(targets), dtype=kind),
            "answer": pd.Series(list(answers), dtype=kind),
            "loss": losses,
        }
    )


def scored(targets: Sequence[str], labels: Sequence[str], scores: np.ndarray) -> pd.DataFrame:
    """A score frame from probabilities (n, labels)."""
    columns = {name: number for number, name in enumerate(labels)}
    at = np.array([columns.get(name, -1) for name in targets])
    chance = np.where(at >= 0, scores[np.arange(len(at)), at], 0.0)
    losses = -np.log(np.maximum(chance, LEAST_PROBABILITY))
    answers = np.array(labels)[scores.argmax(axis=1)]
    return frame(targets, answers, losses).assign(confidence=scores.max(axis=1).clip(0, 1))
