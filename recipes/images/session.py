"""The exported classifier, and how a picture becomes its pixels. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from recipes.images.schema import Picture
from tidemill.families.classifier import ClassifierPredictor, Label
from tidemill.kit import pictures

BATCH = 512  # pictures in one call of the graph


def grey(body: bytes, side: int) -> np.ndarray:
    """(side, side) uint8: the picture in grey, brought to size; one that is not square on black."""
    return np.asarray(pictures.square(pictures.grey(pictures.opened(body)), side))


def stack(payloads: Iterable[bytes], side: int) -> np.ndarray:
    """(n, side, side) uint8 of payloads."""
    pictures = [grey(body, side) for body in payloads]
    return np.stack(pictures) if pictures else np.zeros((0, side, side), np.uint8)


class PicturePredictor(ClassifierPredictor[Picture, Label]):
    def __init__(self, package: Path) -> None:
        super().__init__(package)
        self.side: int = self.tables["side"]

    def asked(self, question: Picture) -> str:
        return question.image

    def answer(self, label: str, confidence: float, others: dict[str, float]) -> Label:
        return Label(label=label, confidence=confidence, others=others)

    def pixels(self, payloads: Sequence[bytes]) -> np.ndarray:
        """(B, 1, side, side) float32, 0 to 1."""
        return (stack(payloads, self.side)[:, None] / np.float32(255)).astype(np.float32)

    def raw(self, asked: Sequence[str]) -> np.ndarray:
        payloads = [pictures.decoded(image) for image in asked]
        parts = [
            self.graphs["model"].run(None, {"pixels": self.pixels(payloads[at : at + BATCH])})[0]
            for at in range(0, len(payloads), BATCH)
        ]
        return np.concatenate(parts)
