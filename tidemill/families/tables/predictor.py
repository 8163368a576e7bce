"""A table's model, opened: preparation in numpy, trees in ONNX Runtime. No torch, no LightGBM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tidemill.families.classifier import OTHERS, ClassifierPredictor, Label
from tidemill.families.tables.columns import Cell, Row, read_row, unfit
from tidemill.families.tables.features import TablePreparation

LEAST_PROBABILITY = 1e-7  # in the odds of reasons


class TableRow(BaseModel):
    """One row of a table: a value for each column, null where it is not known."""

    model_config = ConfigDict(extra="forbid")
    row: dict[str, float | int | bool | str | None] = Field(
        min_length=1,
        max_length=2_000,
        description="the value of each column by its name; null where it is not known",
        json_schema_extra={"columns": True},
    )


class TableAnswer(Label):
    """A label, and which columns speak for it (above 0) or against it."""

    reasons: dict[str, float] = Field(
        default={},
        description="by how much each column raises the log odds of the label, compared with the "
        "column's typical value; the largest first",
    )


class TablePredictor(ClassifierPredictor[TableRow, TableAnswer]):
    """Answers by the least expected cost: the labels' probabilities times what missing them costs.

    With equal costs that is the most probable label (Elkan 2001).
    """

    def __init__(self, package: Path) -> None:
        super().__init__(package)
        self.preparation = TablePreparation.model_validate(self.tables["preparation"])
        costs: dict[str, float] = self.tables["costs"]
        self.costs = np.array([costs.get(name, 1.0) for name in self.labels])
        self.reasons: int = self.tables["reasons"]
        self.typical = self.preparation.inputs_of(np.array([self.tables["typical"]]))[0]

    def unfit(self, question: TableRow) -> str:
        """Why this package cannot be asked a row: a column that is missing, unknown, mistyped."""
        return unfit(self.preparation.columns, question.row)

    def golden(self) -> list[TableRow]:
        """Training rows that the package carries, and one in which nothing is known."""
        return [TableRow(row=row) for row in self.tables["golden"]]

    def asked(self, question: TableRow) -> dict[str, Cell]:
        return read_row(self.preparation.columns, question.row)

    def raw(self, asked: Sequence[Row]) -> np.ndarray:
        return self.run(self.preparation.inputs(asked))

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """The graph's probabilities (B, labels) of prepared rows (B, 2 F)."""
        chances: np.ndarray = self.graphs["model"].run(["probabilities"], {"x": inputs})[0]
        return chances

    def answer(self, label: str, confidence: float, others: dict[str, float]) -> TableAnswer:
        return TableAnswer(label=label, confidence=confidence, others=others)

    def chosen(self, chances: np.ndarray) -> np.ndarray:
        """(B,): the label of the least expected cost, of probabilities (B, labels)."""
        best: np.ndarray = (chances * self.costs).argmax(axis=1)
        return best

    def predict(self, inputs: Sequence[TableRow]) -> list[TableAnswer]:
        rows = [self.asked(question) for question in inputs]
        chances = self.probabilities(rows)
        chosen = self.chosen(chances) if rows else np.zeros(0, int)
        reasons = self.moved(rows, chosen) if self.reasons else [[]] * len(rows)
        answers = []
        for row, best, moved in zip(chances, chosen, reasons, strict=True):
            order = [at for at in np.argsort(-row, kind="stable") if at != best][:OTHERS]
            others = {self.labels[at]: round(float(row[at]), 4) for at in order}
            confidence = float(np.clip(row[best], 0, 1))
            answer = self.answer(self.labels[best], confidence, others)
            answer.reasons = {name: round(effect, 4) for name, effect in moved[: self.reasons]}
            answers.append(answer)
        return answers

    def moved(self, rows: Sequence[Row], chosen: np.ndarray) -> list[list[tuple[str, float]]]:
        """For each row its columns by how far they moved the chosen label, the furthest first.

        A column's effect is the log odds of the label, less what they are where the column has its
        typical value (Robnik-Sikonja and Kononenko 2008).
        """
        if not rows:
            return []
        inputs, count = self.preparation.inputs(rows), len(rows)
        names = [column.name for column in self.preparation.columns]
        changed = np.repeat(inputs[None], len(names), axis=0)
        for at, name in enumerate(names):
            places = self.preparation.inputs_from(name)
            changed[at][:, places] = self.typical[places]
        every = np.concatenate([inputs, changed.reshape(-1, inputs.shape[1])])
        chances = self.run(every).reshape(len(names) + 1, count, len(self.labels))
        own = chances[:, np.arange(count), chosen].astype(float)
        own = own.clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        odds = np.log(own / (1 - own))
        effects = odds[0] - odds[1:]
        return [
            sorted(
                ((name, float(effects[at, row])) for at, name in enumerate(names)),
                key=lambda pair: -abs(pair[1]),
            )
            for row in range(count)
        ]

    def settings(self) -> dict[str, object]:
        """What a score frame keeps beside its rows, for its pictures."""
        return {"costs": self.costs.tolist(), "importance": self.tables["importance"]}
