"""Labels that are probably wrong, found by cleanlab.

It looks at what a simple model says of rows that it was not trained on.

Confident learning (Northcutt, Jiang and Chuang 2021). Planted at 10 % it finds 8 of 10 and 4 of 10
that it finds were right (docs/clean.md has our own figures), so it reports; dropping is a recipe's
decision.
"""

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd

FOLDS = 3
SIDE = 16  # pixels a picture is seen at
LEAST = 5  # rows of an answer, below which nothing is said of them


def issues(examples: pd.DataFrame, field: str) -> pd.DataFrame:
    """example_id, given, suggested, quality and issue, in the order of quality.

    Quality is 0 to 1, low is doubtful; issue is cleanlab's own threshold.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    given = np.array([json.loads(item)[field] for item in examples["target"]], dtype=object)
    names, counts = np.unique(given.astype(str), return_counts=True)
    kept = sorted(set(names[counts >= LEAST]))
    place = {name: number for number, name in enumerate(kept)}
    rows = np.flatnonzero([name in place for name in given])
    if len(kept) < 2:
        return _none()
    labels = np.array([place[name] for name in given[rows]])
    chances = beside(examples.iloc[rows], labels, len(kept))
    # A model that never saw an answer says nothing of who gave it.
    heard = chances[np.arange(len(labels)), labels] > 0
    rows, labels, chances = rows[heard], labels[heard], chances[heard]
    if len(np.unique(labels)) < 2:
        return _none()
    chances = np.maximum(chances, 1e-6)
    chances /= chances.sum(axis=1, keepdims=True)
    table = pd.DataFrame(
        {
            "example_id": examples["example_id"].to_numpy()[rows],
            "given": given[rows],
            "suggested": np.array(kept, dtype=object)[chances.argmax(axis=1)],
            "quality": get_label_quality_scores(labels, chances).round(6),
            "issue": find_label_issues(labels, chances, n_jobs=1),
        }
    )
    return table.sort_values(["quality", "example_id"], kind="stable", ignore_index=True)


def _none() -> pd.DataFrame:
    """The table without rows, where answers are too few to compare."""
    names = ("example_id", "given", "suggested")
    return pd.DataFrame(
        {**{name: [] for name in names}, "quality": np.zeros(0), "issue": np.zeros(0, bool)}
    )


def beside(examples: pd.DataFrame, labels: np.ndarray, kinds: int) -> np.ndarray:
    """(N, K): each row's probabilities by a model that has not seen its unit.

    0 where the model had not seen the answer either.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB

    pictures = "payload" in examples and examples["payload"].notna().any()
    features = pixels(examples) if pictures else grams(examples)
    folds = np.array(
        [
            int(hashlib.sha256(str(unit).encode()).hexdigest()[:8], 16) % FOLDS
            for unit in examples["unit"]
        ]
    )
    chances = np.zeros((len(labels), kinds), dtype=np.float32)
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        if not test.any() or len(np.unique(labels[train])) < 2:
            continue
        model: Any = (
            LogisticRegression(max_iter=300)
            if pictures
            else MultinomialNB(alpha=0.01, fit_prior=False)
        )
        model.fit(features[train], labels[train])
        chances[np.ix_(test, model.classes_)] = np.maximum(
            model.predict_proba(features[test]), 1e-6
        )
    return chances


def grams(examples: pd.DataFrame) -> Any:
    """Hashed character 1- to 4-grams of a question's words."""
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = [
        "\n".join(str(value) for value in json.loads(item).values()) for item in examples["inputs"]
    ]
    return HashingVectorizer(
        analyzer="char_wb",
        ngram_range=(1, 4),
        n_features=2**16,
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    ).transform(texts)


def pixels(examples: pd.DataFrame) -> np.ndarray:
    from PIL import Image

    from tidemill.kit import pictures

    return np.stack(
        [
            np.asarray(
                pictures.grey(pictures.opened(body)).resize((SIDE, SIDE), Image.Resampling.BOX),
                dtype=np.float32,
            ).ravel()
            / 255
            for body in examples["payload"]
        ]
    )
