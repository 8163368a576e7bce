"""Which of three plants has these measures? Gradient-boosted trees over a table's rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

from tidemill.contract import Learner, Recipe, Splits
from tidemill.families.classifier import VALIDATION, Classifier, ClassifierPredictor, Label
from tidemill.learners.sklearn.learner import BoostedLearner, FeatureRows


class Measures(BaseModel):
    values: list[float] = Field(min_length=4, max_length=4, description="centimetres")


class TablePredictor(ClassifierPredictor[Measures, Label]):
    def asked(self, question: Measures) -> list[float]:
        return question.values

    def raw(self, asked: Any) -> np.ndarray:
        x = np.array(asked, dtype=np.float32)
        return self.graphs["model"].run(["probabilities"], {"x": x})[0]

    def answer(self, label: str, confidence: float, others: dict[str, float]) -> Label:
        return Label(label=label, confidence=confidence, others=others)


class Plants(Classifier[Measures, Label, TablePredictor]):
    Input, Output, asks = Measures, Label, "values"

    def label(self, documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
        rows = documents[["doc_id"]].assign(unit=documents["doc_id"], confidence=1.0, dropped=None)
        told = [json.loads(item) for item in documents["attributes"]]
        return rows.assign(
            inputs=[json.dumps({"values": json.loads(one["values"])}) for one in told],
            target=[json.dumps({"label": one["label"]}) for one in told],
            votes=[json.dumps({"source": one["label"]}) for one in told],
            slices="{}",
        )

    def open(self, package: Path) -> TablePredictor:
        return TablePredictor(package)

    def golden(self) -> list[Measures]:
        return [Measures(values=values) for values in ([5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0])]


def table(path: Path) -> tuple[np.ndarray, list[str]]:
    rows = pd.read_parquet(path)
    x = np.array([json.loads(item)["values"] for item in rows["inputs"]], dtype=np.float32)
    return x, [json.loads(item)["label"] for item in rows["target"]]


class PlantLearner(BoostedLearner[Any]):
    def load_data(self) -> FeatureRows:
        x, names = table(self.splits.folder / "train.parquet")
        valid_x, valid_names = table(self.splits.folder / "valid.parquet")
        if self.splits.rows:
            x, names = x[: self.splits.rows], names[: self.splits.rows]
        labels = sorted(set(names))
        y, valid_y = (np.array([labels.index(n) for n in part]) for part in (names, valid_names))
        return FeatureRows(x, y, valid_x, valid_y, labels)

    def tables(self, package: Path) -> None:
        (package / "tables.json").write_text(json.dumps({"labels": self.data.labels}))


class Orchids(Recipe):
    rounds: int = Field(default=30, ge=1)
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    num_leaves: int = Field(default=7, ge=2)
    min_data_in_leaf: int = Field(default=5, ge=1)

    application, validation = Plants, VALIDATION

    def learner(self, splits: Splits) -> Learner:
        return PlantLearner(self, splits)
