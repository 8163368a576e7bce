"""Which language is this text written in?

Character n-grams, hashed, lead to one row each of a table; the rows add up to a score per
language. The table starts as naive Bayes (by truncated singular value decomposition, rank `dim`)
and is then trained to distinguish the languages, each counting alike (logit adjustment, Menon et
al. 2021).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from recipes.languages.schema import LONGEST, Answer, Fields, Question
from recipes.languages.session import LanguagePredictor
from tidemill.contract import (
    Baselined,
    Explainable,
    Figured,
    LabelledInParts,
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
    LabelledInParts,
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
    surveyed = ("kind", "uri", "language", "script", "attributes")
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
        from recipes.languages.voters import answers

        examples = self.label_some(documents, options, self.survey(iter([documents]), options))
        languages, kept = answers(examples), examples["dropped"].isna()
        why = languages.map(self.few(Counter(languages[kept]), options))
        examples.loc[kept, "dropped"] = why[kept].astype(object).where(why[kept].notna(), None)
        return examples

    def survey(self, documents: Iterator[pd.DataFrame], options: dict[str, object]) -> Any:
        """The region and the scripts of each language."""
        from recipes.languages.voters import survey

        options_as(LanguageOptions, options)  # refused before any document is read
        return survey(documents)

    def label_some(
        self, documents: pd.DataFrame, options: dict[str, object], known: Any
    ) -> pd.DataFrame:
        from recipes.languages.voters import label_some

        return label_some(documents, known)

    def few(self, counts: Mapping[str, int], options: dict[str, object]) -> dict[str, str]:
        """A language of few texts is left out: it can be neither learned nor judged."""
        least = options_as(LanguageOptions, options).min_examples
        reason = f"fewer than {least} texts of its language"
        return {language: reason for language, count in counts.items() if count < least}

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
