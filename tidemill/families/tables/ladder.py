"""What a good engineer tries first: the shares of the labels, a tuned linear model, boosting.

All learn from the training rows, and are tuned and compared on the validation rows; the gates'
`baseline` is the one of least log loss there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tidemill.families.tables.features import TablePreparation, learned
from tidemill.families.tables.rows import LabelledRows, columns_of, of, ordered, part
from tidemill.families.tables.scores import frame_of

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # scikit-learn's C
CLASS_WEIGHTS = (None, "balanced")
TREES = ({"max_leaf_nodes": 7}, {"max_leaf_nodes": 31})
LEAST_PROBABILITY = 1e-12

Chances = Callable[[LabelledRows], np.ndarray]  # rows to (B, labels)


@dataclass(frozen=True)
class FittedModel:
    """A model of the ladder, and its log loss on the validation rows."""

    chances: Chances
    loss: float


def frames(
    splits: Path, examples: pd.DataFrame, options: Mapping[str, Any]
) -> dict[str, pd.DataFrame]:
    """The ladder's frames of test rows: `trivial`, `logistic`, `boosting`, and the best of them.

    That is the `baseline`.
    """
    train, valid, test = part(splits, "train"), part(splits, "valid"), of(examples)
    labels = ordered(train.labels, str(options.get("positive") or ""))
    preparation = learned(columns_of(train.cells), train.cells)
    rungs = {
        "logistic": best(linear(preparation, train), valid, labels),
        "boosting": best(boosted(preparation, train), valid, labels),
    }
    costs = options.get("costs") or {}
    asked = {name: rung.chances(test) for name, rung in rungs.items()}
    counts = np.array([train.labels.count(name) for name in labels])
    asked["trivial"] = np.tile(counts / counts.sum(), (len(test.cells), 1))
    asked["baseline"] = asked[min(rungs, key=lambda name: rungs[name].loss)]
    return {name: frame_of(test.labels, chances, labels, costs) for name, chances in asked.items()}


def best(
    models: Iterator[tuple[Chances, list[str]]], valid: LabelledRows, labels: list[str]
) -> FittedModel:
    """The model of least log loss on the validation rows whose label training has."""
    rungs = []
    at = np.array([labels.index(name) if name in labels else -1 for name in valid.labels])
    for chances, classes in models:
        order = [classes.index(name) for name in labels]

        def own(
            rows: LabelledRows, chances: Chances = chances, order: list[int] = order
        ) -> np.ndarray:
            return chances(rows)[:, order]

        known = own(valid)[np.arange(len(at)), at][at >= 0]
        rungs.append(FittedModel(own, float(-np.log(np.maximum(known, LEAST_PROBABILITY)).mean())))
    return min(rungs, key=lambda rung: rung.loss)


def linear(
    preparation: TablePreparation, train: LabelledRows
) -> Iterator[tuple[Chances, list[str]]]:
    """Logistic regressions, for each strength and weighting of classes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x = preparation.scaled(preparation.filled(train.cells))
    for weighting in CLASS_WEIGHTS:
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, class_weight=weighting, max_iter=2_000)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x, train.labels)
            yield (
                _asked(model, lambda rows: preparation.scaled(preparation.filled(rows))),
                [str(name) for name in model.classes_],
            )


def boosted(
    preparation: TablePreparation, train: LabelledRows
) -> Iterator[tuple[Chances, list[str]]]:
    """scikit-learn's boosting as it comes, and with smaller trees."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    x = preparation.placed(preparation.filled(train.cells))
    for trees in TREES:
        model = HistGradientBoostingClassifier(
            random_state=1, early_stopping=False, max_iter=60, **trees
        )
        model.fit(x, train.labels)
        yield (
            _asked(model, lambda rows: preparation.placed(preparation.filled(rows))),
            [str(name) for name in model.classes_],
        )


def _asked(model: Any, features: Callable[[Any], np.ndarray]) -> Chances:
    return lambda rows: np.asarray(model.predict_proba(features(rows.cells)))
