"""The exported identifier in ONNX Runtime. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recipes.languages.features import ngrams, padded
from recipes.languages.schema import Answer, Question
from tidemill.families.classifier import ClassifierPredictor

# n-grams in one call of the graph: bounds its memory to 60,000 rows of the table
BATCH_IDS = 60_000


class LanguagePredictor(ClassifierPredictor[Question, Answer]):
    names = "languages"

    def __init__(self, package: Path) -> None:
        super().__init__(package)
        self.bits: int = self.tables["bits"]

    def asked(self, question: Question) -> str:
        return question.text

    def answer(self, label: str, confidence: float, others: dict[str, float]) -> Answer:
        return Answer(language=label, confidence=confidence, others=others)

    def raw(self, asked: Sequence[str]) -> np.ndarray:
        """Long and short texts in calls of their own, so that padding stays small."""
        ids = [ngrams(text, self.bits) for text in asked]
        out = np.zeros((len(asked), len(self.labels)), dtype=np.float32)
        order = sorted(range(len(asked)), key=lambda row: len(ids[row]))
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and len(ids[order[stop]]) * (stop + 1 - start) <= BATCH_IDS:
                stop += 1
            rows = order[start:stop]
            block, lengths = padded([ids[row] for row in rows], 2**self.bits)
            out[rows] = self.graphs["model"].run(None, {"ids": block, "lengths": lengths})[0]
            start = stop
        return out
