"""Texts with classes: the question, its answer and how they are judged. No torch.

A real example: {"text": "Yay. Another good phone interview."} is {"label": "positive"}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tidemill.contract import (
    Baselined,
    Explainable,
    Figured,
    LabelledInParts,
    Metric,
    Robust,
    Template,
)
from tidemill.families.classifier import (
    ACCURACY,
    LOG_LOSS,
    MACRO_F1,
    Classifier,
    ClassifierPredictor,
    Label,
)
from tidemill.families.texts.windows import Windows, calls, padded
from tidemill.kit.examples import ExampleRow

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 100_000  # characters of one question
MOST_WORDS = 64  # of a text, whose share in its answer is told
LENGTHS = ((8, "1 to 8"), (16, "9 to 16"), (32, "17 to 32"), (128, "33 to 128"), (10**9, "over"))


class TextQuestion(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = Field(
        min_length=1,
        max_length=LONGEST,
        description="a sentence or a page",
        examples=["The service here is extremely good."],
    )


class TextClassifierPredictor(ClassifierPredictor[TextQuestion, Label]):
    """The exported encoder; a long text's answer is the mean over its windows."""

    def __init__(self, package: Path) -> None:
        super().__init__(package)
        path = package / "tokenizer.json"
        self.windows = Windows.of(path, self.tables["context"], self.tables["windows"])

    def asked(self, question: TextQuestion) -> str:
        return question.text

    def answer(self, label: str, confidence: float, others: dict[str, float]) -> Label:
        return Label(label=label, confidence=confidence, others=others)

    def raw(self, asked: Sequence[str]) -> np.ndarray:
        windows, owners = self.windows.cut(asked)
        logs = np.zeros((len(windows), len(self.labels)))
        for places in calls([len(window) for window in windows]):
            ids, mask = padded([windows[place] for place in places])
            scores = self.graphs["model"].run(None, {"ids": ids, "mask": mask})[0]
            logs[places] = np.log(np.maximum(scores, 1e-30))
        # The softmax of the windows' mean logits, as training has it.
        means = np.zeros((len(asked), len(self.labels)))
        np.add.at(means, owners, logs)
        means /= np.bincount(owners, minlength=len(asked))[:, None]
        means = np.exp(means - means.max(axis=1, keepdims=True))
        return (means / means.sum(axis=1, keepdims=True)).astype(np.float32)


class TextClassification(
    Classifier[TextQuestion, Label, TextClassifierPredictor],
    LabelledInParts,
    Robust[TextQuestion],
    Baselined,
    Explainable,
    Figured,
    Template,
):
    """Which class a text is of, as its source says."""

    Input = TextQuestion
    Output = Label
    asks = "text"
    prose = ("text",)
    reads = "texts with classes"
    metrics: ClassVar[dict[str, Metric]] = {
        "macro_f1": MACRO_F1,
        "accuracy": ACCURACY,
        "log_loss": LOG_LOSS,
    }

    def label(self, documents: pd.DataFrame, options: dict[str, object]) -> pd.DataFrame:
        """The class that each document's source gives it."""
        import pandas as pd

        rows: Any = documents.to_dict("records")
        return pd.DataFrame([self.example(row, options) for row in rows])

    def example(self, document: Mapping[str, Any], options: Mapping[str, Any]) -> ExampleRow:
        """A text with its class, or why it is dropped."""
        attributes = json.loads(document["attributes"])
        name, why = self.named(attributes, options)
        words = len(document["text"].split())
        slices = {
            "domain": self.domain(document, options),
            "label": name or "",
            "length": next(title for most, title in LENGTHS if words <= most),
        }
        return {
            "doc_id": document["doc_id"],
            "inputs": json.dumps({"text": document["text"]}, ensure_ascii=False),
            "target": json.dumps({"label": name or ""}, ensure_ascii=False),
            "confidence": 1.0,
            "votes": json.dumps({"source": name}, ensure_ascii=False),
            "unit": self.unit(document, attributes, options),
            "slices": json.dumps(slices, ensure_ascii=False, sort_keys=True),
            "dropped": why,
        }

    def named(
        self, attributes: Mapping[str, str], options: Mapping[str, Any]
    ) -> tuple[str | None, str | None]:
        """The class that stands in the column `label.column`; else why there is none."""
        name = attributes.get(str(options.get("column", "label")), "").strip()
        return (name, None) if name else (None, "its source gives it no class")

    def domain(self, document: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        return str(document["source"])

    def unit(
        self,
        document: Mapping[str, Any],
        attributes: Mapping[str, str],
        options: Mapping[str, Any],
    ) -> str:
        """What is resampled: a text alone, where nobody says which belong together."""
        return str(document["doc_id"])

    def open(self, package: Path) -> TextClassifierPredictor:
        return TextClassifierPredictor(package)

    def baselines(
        self, splits: Path, examples: pd.DataFrame, options: Mapping[str, Any]
    ) -> dict[str, pd.DataFrame]:
        from tidemill.families.texts.ladder import ladder

        return ladder(splits, examples, options)

    def perturbations(
        self, inputs: Sequence[TextQuestion], seed: int
    ) -> Mapping[str, Sequence[TextQuestion]]:
        from tidemill.kit.perturbations import texts

        changed = texts([item.text for item in inputs], seed, LONGEST)
        return {name: [TextQuestion(text=text) for text in some] for name, some in changed.items()}

    def explain(
        self, package: Path, weights: Path, examples: pd.DataFrame
    ) -> list[list[tuple[str, float]]]:
        """By leaving out one word at a time: how far the answer's probability falls without it."""
        predictor = self.open(package)
        return [_moved(predictor, text) for text in self.questions(examples)]

    def golden(self) -> list[TextQuestion]:
        return [
            TextQuestion(text=text)
            for text in (
                "The service here is extremely good.",
                "A really bad, horrible book.",
                "It opens at nine and closes at five.",
                "a",
                "12345 :)",
                "It was fine at first, and then it was not. " * 40,
            )
        ]

    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        from tidemill.families.texts.figures import confusion

        return [confusion(frame, folder / "confusion.png")]


def _moved(predictor: TextClassifierPredictor, text: str) -> list[tuple[str, float]]:
    words = text.split()[:MOST_WORDS]
    if len(words) < 2:
        return [(word, 0.0) for word in words]
    without = [" ".join(words[:at] + words[at + 1 :]) for at in range(len(words))]
    scores = predictor.probabilities([" ".join(words), *without])
    answer = int(scores[0].argmax())
    falls = scores[0, answer] - scores[1:, answer]
    return [(word, float(fall)) for word, fall in zip(words, falls, strict=True)]
