"""A ranker, opened: histories weighed in numpy, the catalogue scored in ONNX Runtime. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tidemill.families.ranker.catalogue import (
    Catalogue,
    KnownHistory,
    Weighting,
    known_history,
    matrix,
    ranked,
)
from tidemill.families.ranker.schema import RankedItems, UserHistory
from tidemill.kit.graphs import opened

REASONS = 2  # seen items that an answer names for each item
WEIGHED = 12  # seen items among which reasons are sought, those of most weight


class RankerPredictor:
    """Scores the whole catalogue for a history, and shows nothing of it again."""

    def __init__(self, package: Path) -> None:
        tables = json.loads((package / "tables.json").read_text())
        self.catalogue = Catalogue.model_validate(tables["catalogue"])
        self.weighting = Weighting.model_validate(tables["weighting"])
        self._golden: list[list[str]] = tables["golden"]
        self.graphs = opened(package)

    def golden(self) -> list[UserHistory]:
        """Histories of training rows, nothing, and an item that is not known."""
        known = [UserHistory(history=history) for history in self._golden]
        return [*known, UserHistory(history=[]), UserHistory(history=["no such item"])]

    def unfit(self, question: UserHistory) -> str:
        """Why this package cannot be asked: ratings that are none."""
        if question.ratings and len(question.ratings) != len(question.history):
            return (
                f"ratings has {len(question.ratings)} values for a history of "
                f"{len(question.history)}; give one for each item, or none"
            )
        low, high = self.catalogue.least_rating, self.catalogue.most_rating
        for value in question.ratings:
            if not low <= value <= high:
                return f"rating {value:g} is outside {low:g} to {high:g}, which this version knows"
        return ""

    def known(self, questions: Sequence[UserHistory]) -> list[KnownHistory]:
        return [
            known_history(self.catalogue, self.weighting, one.history, one.ratings)
            for one in questions
        ]

    def run(self, weights: np.ndarray) -> np.ndarray:
        """Scores (n, items) of histories' weights (n, items)."""
        scores: np.ndarray = self.graphs["model"].run(["scores"], {"x": weights})[0]
        return scores

    def scores(self, histories: Sequence[KnownHistory]) -> np.ndarray:
        """(n, items); what is popular, where nothing of a history is known."""
        scores = self.run(matrix(self.catalogue, histories)).astype(float)
        for row, history in zip(scores, histories, strict=True):
            if not len(history.places):
                row[:] = self.catalogue.popularity
        return scores

    def predict(self, inputs: Sequence[UserHistory]) -> list[RankedItems]:
        if not inputs:
            return []
        histories = self.known(inputs)
        return [
            self._answer(history, row, ranked(row, history, question.shown))
            for question, history, row in zip(
                inputs, histories, self.scores(histories), strict=True
            )
        ]

    def _answer(self, history: KnownHistory, scores: np.ndarray, best: np.ndarray) -> RankedItems:
        titles = self.catalogue.titles
        reasons = self.contributions(history, best)
        return RankedItems(
            items=[self.catalogue.items[at] for at in best],
            titles=[titles[at] for at in best],
            scores=[round(float(scores[at]), 4) for at in best],
            because=[[titles[seen] for seen, part in one[:REASONS] if part > 0] for one in reasons],
            basis="history" if len(history.places) else "popularity",
            ignored=history.unknown,
        )

    def contributions(
        self, history: KnownHistory, best: np.ndarray
    ) -> list[list[tuple[int, float]]]:
        """For each item what each seen one adds to its score, the most first.

        The model is linear, so these are exact; of a long history the items of most weight.
        """
        heavy = np.argsort(-history.weights, kind="stable")[:WEIGHED]
        if not len(heavy):
            return [[] for _ in best]
        alone = np.zeros((len(heavy), len(self.catalogue.items)), dtype=np.float32)
        alone[np.arange(len(heavy)), history.places[heavy]] = history.weights[heavy]
        parts = self.run(alone)[:, best]
        orders = np.argsort(-parts, axis=0, kind="stable").T
        return [
            [(int(history.places[heavy[at]]), float(parts[at, column])) for at in order]
            for column, order in enumerate(orders)
        ]
