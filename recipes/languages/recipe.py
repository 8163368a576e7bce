"""Which language is this text written in?

Character n-grams, hashed, lead to one row each of a table; the rows add up to a score per
language. The table starts as naive Bayes (by truncated singular value decomposition, rank `dim`)
and is then trained to distinguish the languages, each counting alike (logit adjustment, Menon et
al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from recipes.languages.schema import LONGEST, Answer, Fields, Question
from recipes.languages.session import LanguagePredictor
from tidemill.contract import (
    Baselined,
    Explainable,
    Figured,
    Learner,
    Metric,
    Recipe,
    Robust,
    RowWeighted,
    Splits,
    Teachable,
    Template,
)
from tidemill.families.classifier import ACCURACY, LOG_LOSS, MACRO_F1, Classifier
from tidemill.kit.label_options import LabelOptions, options_as

if TYPE_CHECKING:
    import pandas as pd


class LanguageOptions(LabelOptions):
    """Of how many texts a language must be at least."""

    min_examples: int = Field(default=1, ge=1)


class LanguageIdentification(
    Classifier[Question, Answer, LanguagePredictor],
    Robust[Question],
    Baselined,
    Explainable,
    Figured,
    Template,
):
    Input = Question
    Output = Answer
    asks = "text"
    tells = "language"
    reads = "labelled texts"
    prose = ("text",)  # short strings of user interfaces too
    metrics: ClassVar[dict[str, Metric]] = {
        "macro_f1": MACRO_F1,
        "accuracy": ACCURACY,
        "log_loss": LOG_LOSS,
    }
    facts: ClassVar[dict[str, str]] = {
        "intended use": "Naming the language of a text of a word or more, for sorting and routing.",
        "limits": (
            "Single words shared by languages cannot be told; close relatives (Bosnian, "
            "Croatian, Serbian) are mistaken for each other; a text in two languages gets "
            "one; beyond the first 600 characters nothing is read."
        ),
        "out of scope": "Judging a person by the language of what they wrote; dialects.",
        "data": (
            "Declarations of human rights, and user interfaces; most languages have one "
            "declaration alone."
        ),
    }

    def label(self, documents: pd.DataFrame, options: dict[str, object]) -> pd.DataFrame:
        """By three votes: what the source says, an identifier from a package, and the script."""
        from recipes.languages.voters import label

        return label(documents, options_as(LanguageOptions, options).min_examples)

    def open(self, package: Path) -> LanguagePredictor:
        return LanguagePredictor(package)

    def explain(
        self, package: Path, weights: Path, examples: pd.DataFrame
    ) -> list[list[tuple[str, float]]]:
        from recipes.languages.explain import moved

        return moved(weights, self.questions(examples), self.open(package).bits)

    def baselines(
        self, splits: Path, examples: pd.DataFrame, options: Mapping[str, Any]
    ) -> dict[str, pd.DataFrame]:
        from recipes.languages.voters import identifier_frame, majority_frame, naive_bayes_frame

        return {
            "baseline": naive_bayes_frame(splits, examples),
            "lid.176": identifier_frame(examples),
            "trivial": majority_frame(splits, examples),
        }

    def perturbations(
        self, inputs: Sequence[Question], seed: int
    ) -> Mapping[str, Sequence[Question]]:
        from tidemill.kit.perturbations import texts

        changed = texts([item.text for item in inputs], seed, LONGEST)
        return {name: [Question(text=text) for text in some] for name, some in changed.items()}

    def golden(self) -> list[Question]:
        return [
            Question(text=text)
            for text in (
                "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
                "All human beings are born free and equal in dignity and rights.",
                "Все люди рождаются свободными и равными в своем достоинстве и правах.",
                "すべての人間は、生まれながらにして自由である。",
                "a",
                "12345",
            )
        ]

    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        from recipes.languages.voters import confusion

        return [confusion(frame, folder / "confusion.png")]


class Languages(Fields, Recipe, Teachable, RowWeighted):
    """Hyperparameters of the language identifier."""

    application = LanguageIdentification
    validation = {
        "valid_macro_f1": Metric(better="higher"),
        "valid_loss": Metric(better="lower", unit="nats"),
    }
    data_fields = frozenset({"bits", "batch", "steps", "crop", "long_share"})

    def learner(self, splits: Splits) -> Learner:
        from recipes.languages.network import LanguageLearner

        return LanguageLearner(self, splits)

    def batches(self) -> dict[str, int]:
        return {"bits": self.bits}
