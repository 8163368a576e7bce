"""The simpler models on the same rows: a support vector machine, a linear model, the most frequent label."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from recipes import pictures
from recipes.images import frame, squared

SVM_ROWS = 10_000   # its training grows with their square; 57,000 would take an hour


def pixels(examples: pd.DataFrame, side: int) -> np.ndarray:
    """(N, side * side) float32, 0 to 1."""
    return np.stack([squared(pictures.opened(body), side).ravel() for body in examples["payload"]]).astype(np.float32) / 255


def labels(examples: pd.DataFrame) -> np.ndarray:
    return np.array([json.loads(item)["label"] for item in examples["target"]])


def baselines(splits: Path, examples: pd.DataFrame, side: int) -> dict[str, pd.DataFrame]:
    """`baseline` is scikit-learn's SVC with its RBF kernel and defaults, on at most 10,000 rows; its scores are read as logits."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    train = pd.read_parquet(splits / "train.parquet", columns=["payload", "target"])
    x, y = pixels(train, side), labels(train)
    asked, wanted = pixels(examples, side), labels(examples)
    names, counts = np.unique(y, return_counts=True)
    svm = SVC().fit(x[:SVM_ROWS], y[:SVM_ROWS])      # rows are in the order of their ids, which is a random one
    scores = svm.decision_function(asked)
    linear = LogisticRegression(max_iter=100, C=0.1).fit(x, y)
    return {
        "baseline": answered(wanted, svm.classes_, scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)),
        "linear": answered(wanted, linear.classes_, np.log(np.maximum(linear.predict_proba(asked), 1e-12))),
        "trivial": answered(wanted, names, np.tile(np.log(counts / counts.sum()), (len(wanted), 1))),
    }


def answered(wanted: np.ndarray, names: np.ndarray, logits: np.ndarray) -> pd.DataFrame:
    logits = logits - logits.max(axis=1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    at = np.searchsorted(names, wanted).clip(0, len(names) - 1)
    losses = np.where(names[at] == wanted, -logs[np.arange(len(at)), at], 27.6)
    return frame(wanted, names[logits.argmax(axis=1)], losses)
