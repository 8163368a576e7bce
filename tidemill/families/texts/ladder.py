"""Simpler models of texts with classes, each tuned on validation rows.

From naming the most frequent class to a linear head over a pretrained encoder that stays as it is.
The gates' `baseline` is the one of the best macro-F1 on validation rows.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import StandardScaler

from tidemill.families.classifier import scored
from tidemill.runtime import process

CS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # inverse strengths of L2, with and without class weights
FROZEN_CS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.1)  # the same over standardised features
SMOOTHINGS = (0.03, 0.1, 0.3, 1.0)
MOST_GRAMS = 150_000  # columns of words, and as many of characters
ITERATIONS = 200


@dataclass(frozen=True)
class LabelledTexts:
    texts: list[str]
    targets: list[str]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> LabelledTexts:
        return cls(
            [json.loads(item)["text"] for item in frame["inputs"]],
            [json.loads(item)["label"] for item in frame["target"]],
        )


@dataclass(frozen=True)
class LadderRows:
    """The rows that rungs are fitted on, chosen by and asked."""

    train: LabelledTexts
    valid: LabelledTexts
    test: LabelledTexts

    @property
    def labels(self) -> list[str]:
        return sorted(set(self.train.targets))


@dataclass(frozen=True)
class Rung:
    """A model of the ladder, in the best of its settings by validation."""

    valid_macro_f1: float
    scores: np.ndarray  # of the test rows (n, labels)
    setting: str


Model = Any  # an estimator of scikit-learn with predict_proba
Features = tuple[Any, Any, Any]  # of train, valid and test


def ladder(
    splits: Path, examples: pd.DataFrame, options: Mapping[str, Any]
) -> dict[str, pd.DataFrame]:
    """The score frame of each rung, and of the best one by validation under `baseline`."""
    names = ("train", "valid")
    train, valid = (
        LabelledTexts.of(pd.read_parquet(splits / f"{name}.parquet", columns=["inputs", "target"]))
        for name in names
    )
    split = LadderRows(train, valid, LabelledTexts.of(examples))
    makers: dict[str, Callable[[LadderRows], Rung]] = {"naive bayes": naive_bayes, "tf-idf": tf_idf}
    if options.get("start"):
        makers["frozen encoder"] = lambda split: frozen(split, options)
    rungs: dict[str, Rung] = {}
    for number, (name, make) in enumerate(makers.items()):
        process.progress(number, len(makers), "simpler models")
        rungs[name] = make(split)
    frames = {
        name: scored(split.test.targets, split.labels, rung.scores).assign(setting=rung.setting)
        for name, rung in rungs.items()
    }
    best = max(rungs, key=lambda name: rungs[name].valid_macro_f1)
    process.progress(len(makers), len(makers), "simpler models")
    return {"baseline": frames[best], **frames, "trivial": majority(split)}


def majority(split: LadderRows) -> pd.DataFrame:
    """Always the shares that the classes have among the train rows."""
    counts = pd.Series(split.train.targets).value_counts()
    shares = np.array([counts[name] for name in split.labels]) / len(split.train.targets)
    return scored(split.test.targets, split.labels, np.tile(shares, (len(split.test.targets), 1)))


def naive_bayes(split: LadderRows) -> Rung:
    """Multinomial naive Bayes over words and their pairs."""
    counts = CountVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\S+", binary=True)
    features = _features(counts, split)
    models = ((f"smoothing {alpha:g}", MultinomialNB(alpha=alpha)) for alpha in SMOOTHINGS)
    return _best(split, features, models)


def tf_idf(split: LadderRows) -> Rung:
    """Logistic regression over TF-IDF of words 1-2 and characters 2-5."""
    grams = FeatureUnion(
        [
            ("words", _tf_idf("word", (1, 2), token_pattern=r"(?u)\S+")),
            ("characters", _tf_idf("char_wb", (2, 5))),
        ]
    )
    return _best(split, _features(grams, split), _regressions(CS, one_against_others=True))


def _tf_idf(analyzer: str, sizes: tuple[int, int], **more: Any) -> TfidfVectorizer:
    return TfidfVectorizer(
        analyzer=analyzer,
        ngram_range=sizes,
        min_df=2,
        max_features=MOST_GRAMS,
        sublinear_tf=True,
        dtype=np.float32,
        **more,
    )


def frozen(split: LadderRows, options: Mapping[str, Any]) -> Rung:
    """Logistic regression over what a pretrained encoder makes of a text, its tokens' mean."""
    from tidemill.families.texts.states import Encoding, states

    encoding = Encoding.of(options)
    pooled = [
        states(encoding, rows.texts).pooled for rows in (split.train, split.valid, split.test)
    ]
    scaler = StandardScaler().fit(pooled[0])
    train, valid, test = (scaler.transform(part) for part in pooled)
    return _best(split, (train, valid, test), _regressions(FROZEN_CS))


def _features(vectorizer: Any, split: LadderRows) -> Features:
    train = vectorizer.fit_transform(split.train.texts)
    return train, vectorizer.transform(split.valid.texts), vectorizer.transform(split.test.texts)


def _regressions(
    strengths: Iterable[float], one_against_others: bool = False
) -> Iterable[tuple[str, Model]]:
    """One for each strength, without and with class weights.

    Over a hundred thousand sparse columns, each class against the others by liblinear takes a
    tenth of the time of all classes at once.
    """
    for weight, strength in product((None, "balanced"), strengths):
        model = LogisticRegression(
            C=strength,
            class_weight=weight,
            max_iter=ITERATIONS,
            tol=1e-3,
            random_state=1,
            solver="liblinear" if one_against_others else "lbfgs",
        )
        setting = f"C {strength:g}, class weights {weight or 'none'}"
        yield setting, OneVsRestClassifier(model) if one_against_others else model


def _best(split: LadderRows, features: Features, models: Iterable[tuple[str, Model]]) -> Rung:
    """The setting of the best macro-F1 on validation rows, the first of equals."""
    train, valid, test = features
    best: Rung | None = None
    for setting, model in models:
        with warnings.catch_warnings():  # a setting that has not converged is judged as it is
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train, split.train.targets)
        answers = model.predict(valid)
        figure = float(f1_score(split.valid.targets, answers, average="macro", zero_division=0))
        if best is None or figure > best.valid_macro_f1:
            best = Rung(figure, model.predict_proba(test), setting)
    assert best is not None
    return best
