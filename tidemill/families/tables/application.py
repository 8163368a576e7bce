"""The question that a table's rows are asked: which label has this row?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tidemill.contract import (
    Baselined,
    Explainable,
    Figured,
    Figures,
    Metric,
    Ratios,
    Robust,
    Template,
    exchange,
)
from tidemill.families.classifier import Classifier
from tidemill.families.tables import scores
from tidemill.families.tables.predictor import TableAnswer, TablePredictor, TableRow

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

NOISE = 0.01  # of a number, in a perturbed question


class TableClassifier(
    Classifier[TableRow, TableAnswer, TablePredictor],
    Robust[TableRow],
    Baselined,
    Explainable,
    Figured,
    Template,
):
    """A classifier of a table's rows; what a subclass has are its facts."""

    Input = TableRow
    Output = TableAnswer
    asks = "row"
    reads = "tables"
    prose = ()  # cells are no prose: rows whose numbers differ are no copies of each other
    metrics: ClassVar[dict[str, Metric]] = scores.METRICS

    def label(self, documents: pd.DataFrame, options: dict[str, object]) -> pd.DataFrame:
        from tidemill.families.tables.examples import label

        return label(documents, options, self.tells)

    def open(self, package: Path) -> TablePredictor:
        return TablePredictor(package)

    def evaluate(self, predictor: TablePredictor, examples: pd.DataFrame) -> pd.DataFrame:
        chances = predictor.probabilities(self.questions(examples))
        costs = dict(zip(predictor.labels, predictor.costs.tolist(), strict=True))
        frame = scores.frame_of(self.targets(examples), chances, predictor.labels, costs)
        frame.attrs.update(predictor.settings())
        return frame

    def metric(self, frame: pd.DataFrame, weights: np.ndarray) -> Figures:
        return scores.metric(frame, weights)

    def ratios(self, frame: pd.DataFrame) -> Ratios:
        return scores.ratios(frame)

    def baselines(
        self, splits: Path, examples: pd.DataFrame, options: Mapping[str, Any]
    ) -> dict[str, pd.DataFrame]:
        from tidemill.families.tables.ladder import frames

        return frames(splits, examples, options)

    def perturbations(
        self, inputs: Sequence[TableRow], seed: int
    ) -> Mapping[str, Sequence[TableRow]]:
        """A value that is not known, and numbers that are measured a hundredth off."""
        import numpy as np

        random = np.random.default_rng(seed)
        unknown, noisy = [], []
        for question in inputs:
            names = sorted(question.row)
            known = [name for name in names if question.row[name] is not None] or names
            lost = known[int(random.integers(len(known)))]
            unknown.append(TableRow(row={**question.row, lost: None}))
            changed = {
                name: value * (1 + NOISE * float(random.standard_normal()))
                for name, value in question.row.items()
                if isinstance(value, float)
            }
            noisy.append(TableRow(row={**question.row, **changed}))
        return {"a value is unknown": unknown, "numbers 1 % off": noisy}

    def explain(
        self, package: Path, weights: Path, examples: pd.DataFrame
    ) -> list[list[tuple[str, float]]]:
        predictor, rows = self.open(package), self.questions(examples)
        return predictor.moved(rows, predictor.chosen(predictor.probabilities(rows)))

    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        from tidemill.families.tables.pictures import drawn

        return drawn(frame, folder)

    def noted(self, question: TableRow, answer: TableAnswer) -> dict[str, float | str]:
        """The numbers of a row and how many of its values are unknown; no text of it."""
        numbers = {
            f"asked_{name}": float(value)
            for name, value in question.row.items()
            if isinstance(value, float | int)
        }
        unknown = float(sum(value is None for value in question.row.values()))
        return {
            **exchange(question, answer),
            **numbers,
            "asked_unknown": unknown,
            self.tells: answer.label,
        }
