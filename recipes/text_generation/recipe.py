"""What would this text go on like? A GPT, pretrained from scratch on pages in several languages.

A document is one example: its likelihood, the end included, is what models are compared by, in
bits per character, so that models with other tokens, or with none, are on one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from recipes.text_generation.schema import LONGEST, SHAPE, Answer, Fields, Question
from recipes.text_generation.session import TextPredictor
from recipes.text_generation.size import Size, budget
from tidemill.contract import (
    Application,
    Baselined,
    Budgeted,
    Figured,
    LabelledInParts,
    Learner,
    Metric,
    Prunable,
    Ratios,
    Recipe,
    Robust,
    Sampled,
    Splits,
    Teachable,
    Template,
    WarmStartableByFields,
)

if TYPE_CHECKING:
    import pandas as pd

LN2 = float(np.log(2))


class TextContinuation(
    Application[Question, Answer, TextPredictor],
    LabelledInParts,
    Robust[Question],
    Baselined,
    Figured,
    Sampled,
    Template,
):
    Input = Question
    Output = Answer
    reads = "texts"
    steady = 0.5
    metrics: ClassVar[dict[str, Metric]] = {
        "bits_per_char": Metric(
            better="lower",
            unit="bits",
            source="negative log2-likelihood of held-out texts and their ends, per character",
            low=0,
        ),
        "bits_per_byte": Metric(
            better="lower", unit="bits", source="the same per byte of UTF-8", low=0
        ),
        "distinct_2": Metric(
            better="higher",
            source="Li et al. 2016: different word pairs of an answer, of all its pairs",
            low=0,
            high=1,
        ),
        "repeated": Metric(
            better="lower",
            source="Welleck et al. 2020: share of word 4-grams that occurred before in the answer",
            low=0,
            high=1,
        ),
        "copied": Metric(
            better="lower",
            unit="characters",
            source="the longest span of an answer that stands in a train text, on average",
            low=0,
        ),
    }
    facts: ClassVar[dict[str, str]] = {
        "intended use": (
            "Showing how a language model is trained, judged and let out; continuing short "
            "texts in the manner of its sources."
        ),
        "out of scope": (
            "Facts, advice, or text that anybody takes for a person's: it was trained on one "
            "to two million characters, a millionth of what fluent models read."
        ),
        "limits": (
            "It knows what declarations, software and tales sound like in the languages of "
            "its configuration, and nothing of the world; many of its words are none. Bits "
            "per character compare models on the same test rows, not languages: a Chinese "
            "character says more than a Latin one."
        ),
        "data": (
            "A few hundred articles, some ten thousand interface strings and some forty tales "
            "in twenty languages: tiny. A text's language is what its source says."
        ),
        "risks": (
            "It repeats its training texts, in long spans where they are formulaic; `copied` "
            "counts how long."
        ),
    }

    def label(self, documents: pd.DataFrame, options: dict[str, object]) -> pd.DataFrame:
        from recipes.text_generation.label import label

        return label(documents, options)

    def open(self, package: Path) -> TextPredictor:
        return TextPredictor(package)

    def evaluate(self, predictor: TextPredictor, examples: pd.DataFrame) -> pd.DataFrame:
        from recipes.text_generation.report import asked, continued, frame

        rows, languages = asked(examples)
        scored = frame([one.learned for one in rows], languages, predictor.nats(rows))
        return scored.assign(**continued(predictor, rows, predictor.samples))

    def ratios(self, frame: pd.DataFrame) -> Ratios:
        columns = {
            name: frame[name].to_numpy(float)
            for name in frame.columns
            if name not in ("language", "sample")
        }
        bits = columns["nats"] / LN2
        return {
            "bits_per_char": (bits, columns["chars"]),
            "bits_per_byte": (bits, columns["bytes"]),
            "distinct_2": (columns["pairs_new"], columns["pairs"]),
            "repeated": (columns["fours_again"], columns["fours"]),
            "copied": (columns["copied"], columns["asked"]),
        }

    def perturbations(
        self, inputs: Sequence[Question], seed: int
    ) -> Mapping[str, Sequence[Question]]:
        from tidemill.kit import perturbations

        changed = perturbations.texts([question.prompt for question in inputs], seed, LONGEST)
        return {
            name: [
                question.model_copy(update={"prompt": text})
                for question, text in zip(inputs, texts, strict=True)
            ]
            for name, texts in changed.items()
        }

    def baselines(
        self, splits: Path, examples: pd.DataFrame, options: Mapping[str, Any]
    ) -> dict[str, pd.DataFrame]:
        from recipes.text_generation.report import simpler

        return simpler(splits, examples)

    def golden(self) -> list[Question]:
        return [
            Question(prompt=prompt, max_tokens=16)
            for prompt in (
                "Everyone has the right to",
                "Jeder hat das Recht auf",
                "Каждый человек имеет право",
                "",
                "すべて人は",
                "Toute personne a droit " * 200,
            )
        ]

    def figures(self, frame: pd.DataFrame, folder: Path) -> list[Path]:
        from recipes.text_generation.report import picture

        return picture(frame, folder)


class TextGeneration(Fields, Recipe, WarmStartableByFields, Teachable, Prunable, Budgeted):
    """Hyperparameters of the transformer."""

    application = TextContinuation
    validation = {
        "valid_bits_per_char": Metric(better="lower", unit="bits"),
        "valid_loss": Metric(better="lower", unit="nats"),
    }
    data_fields = frozenset(
        {
            "size",
            "context",
            "vocabulary",
            "batch",
            "steps",
            "start",
            "mixture",
            "max_repetition",
            "replay",
        }
    )

    def learner(self, splits: Splits) -> Learner:
        from recipes.text_generation.network import GeneratorLearner

        return GeneratorLearner(self, splits)

    def plan(
        self, epochs: int, devices: int, strategy: str, precision: str
    ) -> dict[str, float | int | str]:
        size: Size
        if self.trains_in_place():
            from recipes.text_generation.hub import counted_size

            size = counted_size(str(self.start_folder()), self.bounds()[0])
        else:
            size = self.shape()
        steps = self.steps * epochs
        return budget(size, self.batch, steps, devices, strategy, precision, self.checkpointing)

    def warmed(self, package: Path) -> TextGeneration:
        """With the package's own size and tokens, which its weights belong to."""
        return TextGeneration(
            **{
                **{
                    name: value
                    for name, value in self.model_dump().items()
                    if name not in (*SHAPE, "inner")
                },
                "start": str(package),
            }
        )

    def batches(self) -> dict[str, int]:
        context, vocabulary = self.bounds()
        return {"vocabulary": vocabulary, "context": context}

    def pruned(self, fraction: float) -> TextGeneration:
        if self.start:
            raise ValueError(
                "a network that begins from a folder or a champion has the size it had there; "
                "begin from scratch"
            )
        return self.model_copy(update={"inner": self.inner * (1 - fraction)})
