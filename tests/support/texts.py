"""Eight texts in several languages, and small trainings of `text_generation` on them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recipes.text_generation.conversations import whole
from recipes.text_generation.corpus import Corpus
from recipes.text_generation.data import RowPacking
from recipes.text_generation.recipe import TextGeneration
from tests.support.hardware import HARDWARE

TEXTS = [
    "Everyone has the right to life, liberty and security of person.",
    "No one shall be held in slavery or servitude.",
    "Jeder hat das Recht auf Leben, Freiheit und Sicherheit der Person.",
    "Niemand darf in Sklaverei gehalten werden.",
    "Каждый человек имеет право на жизнь, на свободу и на личную неприкосновенность.",
    "Tout individu a droit à la vie, à la liberté et à la sûreté de sa personne.",
    "すべて人は、生命、自由及び身体の安全に対する権利を有する。",
    "Todo individuo tiene derecho a la vida, a la libertad y a la seguridad de su persona.",
]


def examples(texts: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"inputs": [json.dumps({"prompt": text}) for text in texts]})


def packed(corpus: Corpus, context: int) -> np.ndarray:
    """All blocks of a corpus in the order of its rows (4, N, T)."""
    packing = RowPacking(corpus, np.arange(len(corpus)), context)
    return packing.blocks(np.arange(len(packing)))


def corpus_of(documents: list[np.ndarray]) -> Corpus:
    return Corpus.of([whole(ids) for ids in documents])


def splits(folder: Path, train: list[str], valid: list[str]) -> Path:
    for name, texts in (("train", train), ("valid", valid)):
        examples(texts).to_parquet(folder / f"{name}.parquet")
    return folder


def fitted(recipe: TextGeneration, folder: Path) -> tuple[Any, dict[str, float]]:
    """A learner trained on eight rows, and its metrics."""
    from tidemill.contract import Run, Splits
    from tidemill.engines.config.schema import Trainer

    learner = recipe.learner(Splits(folder, 1))
    settings = Trainer(**HARDWARE, gradient_clip=1.0)
    metrics = learner.fit(Run(settings, 1, 1, "test")).metrics
    return learner, metrics
