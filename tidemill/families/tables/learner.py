"""Boosted trees over a table (LightGBM, Ke et al. 2017), and their package.

The trees begin from a logistic regression's scores and learn what it leaves. Both are one graph.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tidemill.contract import Fitted, Run
from tidemill.families.tables.columns import Cell
from tidemill.families.tables.features import TablePreparation, learned
from tidemill.families.tables.fields import TableRecipe
from tidemill.families.tables.graphs import added
from tidemill.families.tables.linear import Linear, chances, log_loss, nothing, tuned
from tidemill.families.tables.rows import LabelledRows, columns_of, ordered, part
from tidemill.learners.sklearn.learner import BoostedLearner, FeatureRows
from tidemill.runtime.errors import Refused

GOLDEN_ROWS = 5
SHUFFLES = 5  # of a column, for its importance
FIXED = {
    "boost_from_average": False,  # the scores that the trees begin from are given
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "max_bin": 256,
    "min_data_in_bin": 1,
    "enable_bundle": False,
    "verbosity": -1,
}


@dataclass(frozen=True)
class TableData(FeatureRows):
    """The splits as places and values (n, 2 F), with how they were made."""

    preparation: TablePreparation
    golden: list[dict[str, Cell]]
    typical: list[float]  # (F,) the value of each feature in a row of which nothing is known


class TableLearner(BoostedLearner[TableRecipe]):
    """A table's boosting: two labels by one tree a round, more by one tree a label and round."""

    settings = ("learning_rate", "num_leaves", "min_data_in_leaf", "lambda_l2")

    def load_data(self) -> TableData:
        train, valid = part(self.splits.folder, "train"), part(self.splits.folder, "valid")
        labels = ordered(train.labels, self.recipe.positive)
        preparation = learned(columns_of(train.cells), train.cells)
        golden = train.cells[:GOLDEN_ROWS]
        if self.splits.rows:
            train = train.head(self.splits.rows)
        known = [at for at, name in enumerate(valid.labels) if name in labels]
        valid = LabelledRows([valid.cells[at] for at in known], [valid.labels[at] for at in known])
        x, valid_x = (preparation.inputs(some.cells) for some in (train, valid))
        y, valid_y = (_classes(some, labels) for some in (train, valid))
        typical = [float(value) for value in np.median(preparation.filled(train.cells), axis=0)]
        nothing: dict[str, Cell] = dict.fromkeys(golden[0])
        return TableData(x, y, valid_x, valid_y, labels, preparation, [*golden, nothing], typical)

    @property
    def table(self) -> TableData:
        data = self.data
        assert isinstance(data, TableData)
        return data

    def train(self, data: FeatureRows, run: Run) -> int:
        import lightgbm

        fields = self.recipe
        assert isinstance(data, TableData)
        _check_labels(fields, data.labels)
        two, features = len(data.labels) == 2, len(data.preparation.features)
        directions = _directions(fields, data.preparation, two)
        weights = _class_weights(data.y) if fields.class_weight == "balanced" else None
        self.linear = nothing(features, len(data.labels))
        if fields.base == "linear":
            x, valid_x = data.x[:, features:], data.valid_x[:, features:]
            self.linear = tuned(x, data.y, valid_x, data.valid_y, weights, directions)
        rounds = max(1, round(fields.rounds * run.share))
        parameters = {
            **{name: getattr(fields, name) for name in self.settings},
            **FIXED,
            "objective": "binary" if two else "multiclass",
            **({} if two else {"num_class": len(data.labels)}),
            "monotone_constraints": directions,
            "seed": run.seed,
        }
        scores = self.linear.scores(data.x[:, features:])
        rows = lightgbm.Dataset(
            data.x[:, :features],
            data.y,
            weight=weights,
            init_score=scores.squeeze(1) if two else scores,
            params={"verbosity": -1},
        )
        self.booster = lightgbm.train(parameters, rows, num_boost_round=rounds)
        return rounds

    def fit(self, run: Run) -> Fitted:
        from sklearn.metrics import roc_auc_score

        fitted = super().fit(run)
        data = self.data
        if len(set(data.valid_y)) < len(data.labels):
            return Fitted({**fitted.metrics, "valid_auc": float("nan")}, fitted.steps)
        chances = self.probabilities(data.valid_x)
        score = chances[:, 1] if len(data.labels) == 2 else chances
        auc = roc_auc_score(data.valid_y, score, multi_class="ovr")
        return Fitted({**fitted.metrics, "valid_auc": float(auc)}, fitted.steps)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        features = x.shape[1] // 2
        trees = self.booster.predict(x[:, :features], raw_score=True, num_threads=1)
        scores = np.asarray(trees).reshape(len(x), -1) + self.linear.scores(x[:, features:])
        return chances(scores)

    def state(self) -> dict[str, np.ndarray]:
        linear = {"weights": self.linear.weights, "offsets": self.linear.offsets}
        return {**super().state(), **linear}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        super().restore(state)
        self.linear = Linear(state["weights"], state["offsets"])

    def graph(self) -> Any:
        """The trees and the linear scores as one ONNX graph, from `x` to `probabilities`."""
        return added(self.booster, self.linear)

    def tables(self, package: Path) -> None:
        data = self.table
        content = {
            "labels": data.labels,
            "costs": self.recipe.costs,
            "reasons": self.recipe.reasons,
            "preparation": data.preparation.model_dump(mode="json"),
            "typical": data.typical,
            "golden": data.golden,
            "importance": self.importance(),
        }
        (package / "tables.json").write_text(json.dumps(content, ensure_ascii=False) + "\n")

    def importance(self) -> dict[str, float]:
        """By how much the validation log loss rises where a column is shuffled (Breiman 2001)."""
        data, random = self.table, np.random.default_rng(1)
        whole = self._loss(data.valid_x)
        rises = {}
        for column in data.preparation.columns:
            own = data.preparation.inputs_from(column.name)
            losses = []
            for _ in range(SHUFFLES if own else 0):
                shuffled = data.valid_x.copy()
                shuffled[:, own] = data.valid_x[random.permutation(len(shuffled))][:, own]
                losses.append(self._loss(shuffled))
            rises[column.name] = round(float(np.mean(losses) - whole), 6) if losses else 0.0
        return rises

    def _loss(self, x: np.ndarray) -> float:
        return log_loss(self.probabilities(x), self.data.valid_y)


def _classes(rows: LabelledRows, labels: Sequence[str]) -> np.ndarray:
    place = {name: at for at, name in enumerate(labels)}
    return np.array([place[name] for name in rows.labels])


def _class_weights(classes: np.ndarray) -> np.ndarray:
    """A row's weight where each class weighs the same as a whole; 1 on average."""
    counts = np.bincount(classes)
    weights: np.ndarray = (len(classes) / (np.count_nonzero(counts) * np.maximum(counts, 1)))[
        classes
    ]
    return weights


def _check_labels(fields: TableRecipe, labels: Sequence[str]) -> None:
    unknown = sorted(set(fields.costs) - set(labels))
    if unknown:
        raise Refused(
            f"model.costs.{unknown[0]}: no training row has this label; there are "
            f"{', '.join(labels)[:200]}"
        )


def _directions(fields: TableRecipe, preparation: TablePreparation, two: bool) -> list[int]:
    """The direction of each feature. Raises Refused where a column cannot have one."""
    kinds = {column.name: column.kind for column in preparation.columns}
    for name in fields.monotone:
        if not two:
            raise Refused(f"model.monotone.{name}: with more than two labels nothing rises")
        if kinds.get(name) != "number":
            numbers = ", ".join(one for one, kind in kinds.items() if kind == "number")
            raise Refused(f"model.monotone.{name}: no column of numbers; there are {numbers[:200]}")
    return [
        fields.monotone.get(feature.column, 0) if feature.name == feature.column else 0
        for feature in preparation.features
    ]
