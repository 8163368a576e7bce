"""Simpler models on the same rows, and what a person looks at: confusion and misread pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recipes.images.session import grey, stack
from tidemill.families.classifier import scored
from tidemill.kit import pictures
from tidemill.records import blobs

MOST_SHOWN = 40


def frames(
    splits: Path, examples: pd.DataFrame, side: int, most_rows: int
) -> dict[str, pd.DataFrame]:
    """A kernel machine, logistic regression and the most frequent label.

    They use the validation rows too, having no use for them otherwise.
    """
    from sklearn.svm import SVC

    rows = pd.concat(
        [
            blobs.examples(splits / f"{part}.parquet", columns=["example_id", "payload", "target"])
            for part in ("train", "valid")
        ]
    )
    names = [json.loads(item)["label"] for item in rows["target"]]
    seen = stack(rows["payload"], side).reshape(len(rows), -1) / 255
    bodies = [pictures.decoded(json.loads(item)["image"]) for item in examples["inputs"]]
    asked = stack(bodies, side).reshape(len(examples), -1) / 255
    wanted = [json.loads(item)["label"] for item in examples["target"]]
    labels, counts = np.unique(names, return_counts=True)
    majority = np.tile(counts / counts.sum(), (len(examples), 1))
    # scikit-learn's defaults are gamma="scale" and C=1; the textbook's figure for MNIST is reached
    # with C=5 (Joachims' grid).
    kernel = SVC(C=5, gamma="scale", random_state=1)
    # ids are hashes, so the first rows are random ones
    kernel.fit(seen[:most_rows], names[:most_rows])
    logistic = _logistic(min(100, len(rows), seen.shape[1]))
    logistic.fit(seen, names)
    made = {"trivial": scored(wanted, labels.tolist(), majority)}
    for name, model in (("baseline", kernel), ("logistic", logistic)):
        made[name] = scored(wanted, [str(item) for item in model.classes_], _scores(model, asked))
    return made


def _logistic(components: int) -> Any:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(PCA(components, random_state=1), LogisticRegression(max_iter=500))


def _scores(model: Any, asked: np.ndarray) -> np.ndarray:
    """(n, labels), each row of sum 1, as far as the model has any."""
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(asked))
    if len(model.classes_) > 2:
        # A kernel machine has no probabilities; a softmax over its one-against-rest scores orders
        # them as it answers.
        scores = model.decision_function(asked)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(scores / scores.sum(axis=1, keepdims=True))
    return np.eye(len(model.classes_))[np.searchsorted(model.classes_, model.predict(asked))]


def confusion(frame: pd.DataFrame, path: Path) -> Path:
    """Which label was read as which, in shares of the target's rows."""
    from matplotlib.figure import Figure

    table = pd.crosstab(frame["target"].astype(str), frame["answer"].astype(str))
    labels = sorted({*table.index, *table.columns})[:40]
    table = table.reindex(index=labels, columns=labels, fill_value=0)
    shares = table.to_numpy(float) / np.maximum(table.to_numpy().sum(axis=1, keepdims=True), 1)
    figure = Figure(
        figsize=(1.5 + 0.45 * len(labels), 1.2 + 0.45 * len(labels)), layout="constrained"
    )
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(labels)):
        for column in range(len(labels)):
            if table.iloc[row, column]:
                axes.text(
                    column,
                    row,
                    str(table.iloc[row, column]),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if shares[row, column] > 0.5 else "black",
                )
    axes.set_xticks(range(len(labels)), labels, rotation=90 if max(map(len, labels)) > 3 else 0)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("read as")
    axes.set_ylabel("is")
    figure.savefig(path, dpi=110)
    return path


def misread(frame: pd.DataFrame, path: Path) -> list[Path]:
    """The pictures that were misread, the surest mistakes first; none where all were read right."""
    from matplotlib.figure import Figure

    wrong = (
        frame[frame["target"].astype(str) != frame["answer"].astype(str)]
        .sort_values("confidence", ascending=False, kind="stable")
        .head(MOST_SHOWN)
    )
    if wrong.empty:
        return []
    across = min(10, len(wrong))
    down = -(-len(wrong) // across)
    figure = Figure(figsize=(1.1 * across + 0.4, 1.4 * down + 0.3), layout="constrained")
    grid = np.atleast_1d(figure.subplots(down, across, squeeze=False)).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, row in zip(grid, wrong.to_dict("records"), strict=False):
        axes.imshow(grey(row["payload"], 28), cmap="gray_r", vmin=0, vmax=255)
        axes.set_title(
            f"{row['target']} read as\n{row['answer']}, {row['confidence']:.2f}", fontsize=7
        )
    figure.savefig(path, dpi=110)
    return [path]
