"""The question of a ranker: what will this user want next, of all there is?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tidemill.contract import (
    Application,
    Baselined,
    Explainable,
    Figured,
    Figures,
    Metric,
    Monitored,
    Ratios,
    Robust,
)
from tidemill.families.ranker import scores
from tidemill.families.ranker.predictor import RankerPredictor
from tidemill.families.ranker.schema import RankedItems, UserHistory

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

CHANGED = 0.5  # of the neighbours in a history change places, in a perturbed question
STEADY = 0.8  # of a golden answer's items, which another processor's sums must leave
UNKNOWN = "an item that nobody rated"
EXPLAINED = 5


class Ranking(
    Application[UserHistory, RankedItems, RankerPredictor],
    Robust[UserHistory],
    Baselined,
    Explainable,
    Figured,
    Monitored[UserHistory, RankedItems],
):
    """A ranker of a catalogue for a history; what a subclass has are its facts."""

    Input = UserHistory
    Output = RankedItems
    prose = ()  # two users who saw much the same are two users
    metrics: ClassVar[dict[str, Metric]] = scores.METRICS

    def label(self, documents: pd.DataFrame, options: dict[str, object]) -> pd.DataFrame:
        from tidemill.families.ranker.examples import label

        return label(documents, options)

    def open(self, package: Path) -> RankerPredictor:
        return RankerPredictor(package)

    def evaluate(self, predictor: RankerPredictor, examples: pd.DataFrame) -> pd.DataFrame:
        from tidemill.families.ranker.rows import user_rows

        rows = user_rows(examples)
        histories = predictor.known([row.question for row in rows])
        return scores.frame_of(rows, histories, predictor.scores(histories), predictor.catalogue)

    def metric(self, frame: pd.DataFrame, weights: np.ndarray) -> Figures:
        return scores.metric(frame, weights)

    def ratios(self, frame: pd.DataFrame) -> Ratios:
        return scores.ratios(frame)

    def baselines(
        self, splits: Path, examples: pd.DataFrame, options: Mapping[str, Any]
    ) -> dict[str, pd.DataFrame]:
        from tidemill.families.ranker.ladder import frames

        return frames(splits, examples, int(options["least"]))

    def perturbations(
        self, inputs: Sequence[UserHistory], seed: int
    ) -> Mapping[str, Sequence[UserHistory]]:
        """Neighbours that change places, and an item that nobody knows at the end.

        A part of the history that is not known would be recommended again, rightly.
        """
        import numpy as np

        random = np.random.default_rng(seed)
        moved, strange = [], []
        for question in inputs:
            order = list(range(len(question.history)))
            for at in range(1, len(order)):
                if random.random() < CHANGED:
                    order[at - 1], order[at] = order[at], order[at - 1]
            moved.append(_in_order(question, order))
            ratings = [*question.ratings, question.ratings[-1]] if question.ratings else []
            more = {"history": [*question.history, UNKNOWN], "ratings": ratings, "titles": []}
            strange.append(question.model_copy(update=more))
        return {"neighbours change places": moved, "an unknown item": strange}

    def explain(
        self, package: Path, weights: Path, examples: pd.DataFrame
    ) -> list[list[tuple[str, float]]]:
        """Which seen items speak most for the first recommended one."""
        from tidemill.families.ranker.catalogue import ranked
        from tidemill.families.ranker.rows import user_rows

        predictor = self.open(package)
        histories = predictor.known([row.question for row in user_rows(examples)])
        titles = predictor.catalogue.titles
        explained = []
        for history, row in zip(histories, predictor.scores(histories), strict=True):
            parts = predictor.contributions(history, ranked(row, history, 1))
            first = parts[0][:EXPLAINED] if parts else []
            explained.append([(titles[place], effect) for place, effect in first])
        return explained

    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        from tidemill.families.ranker.pictures import drawn

        return drawn(frame, folder)

    def same(self, one: RankedItems, two: RankedItems) -> bool:
        """Nearly the same items: those of nearly the same score may change places."""
        if len(one.items) != len(two.items):
            return False
        return len(set(one.items) & set(two.items)) >= STEADY * len(one.items)

    def noted(self, question: UserHistory, answer: RankedItems) -> dict[str, float | str]:
        """How much was seen and how much of it is known; nothing of what it was."""
        return {
            "asked_history_length": float(len(question.history)),
            "ignored_length": float(len(answer.ignored)),
            "basis": answer.basis,
        }


def _in_order(question: UserHistory, order: Sequence[int]) -> UserHistory:
    """A history with its items in another order."""
    parts: dict[str, object] = {
        name: [values[at] for at in order]
        for name, values in (
            ("history", question.history),
            ("ratings", question.ratings),
            ("titles", question.titles),
        )
        if values
    }
    return question.model_copy(update=parts)
