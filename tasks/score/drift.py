"""How far today's training rows are from those the champion was trained on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tidemill.engines.dvc import snapshots
from tidemill.engines.mlflow import registry, tags
from tidemill.records import blobs
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused

ROWS = 4_000  # of each side for the classifier
BUCKETS = 2**14
BINS = 10
RARE_ROWS = 10  # values of fewer, on both sides together, are pooled


def drift(application: str, champion: str, snapshot: str, splits: Path) -> dict[str, float]:
    """PSI by column, and the AUC of a classifier that tells the two apart.

    Empty where the champion's rows are not to be had.
    """
    theirs = registry.tag(application, champion, tags.SNAPSHOT)
    if theirs == snapshot:
        return {"same snapshot": 0.0}
    folder = paths.state("snapshots", f"{application}-{(theirs or '')[:16]}")
    try:
        if not (folder / "train.parquet").is_file():
            snapshots.restore(folder.name, folder)
    except (Refused, Fault, OSError) as error:
        print(f"the champion's training rows could not be restored: {error}")
        return {}
    return compared(
        blobs.examples(folder / "train.parquet"), blobs.examples(splits / "train.parquet")
    )


def compared(before: pd.DataFrame, now: pd.DataFrame) -> dict[str, float]:
    """PSI of target, source, each slice column and length, and the classifier's AUC."""
    figures = {
        "target": fields_psi(before["target"], now["target"]),
        "source": psi(before["source"], now["source"]),
    }
    one, two = ([json.loads(item) for item in frame["slices"]] for frame in (before, now))
    for name in sorted({key for item in one[:1] + two[:1] for key in item}):
        figures[name] = psi(
            pd.Series([str(item.get(name)) for item in one]),
            pd.Series([str(item.get(name)) for item in two]),
        )
    figures["size"] = numbers_psi(
        *(frame["inputs"].str.len().to_numpy(float) for frame in (before, now))
    )
    figures["classifier"] = told_apart(before["inputs"], now["inputs"])
    return {name: round(value, 6) for name, value in figures.items()}


def fields_psi(before: pd.Series, now: pd.Series) -> float:
    """The largest PSI among the fields of answers in JSON.

    Numbers are binned by quantiles; texts of which most are different, by their length.
    """
    sides = [pd.DataFrame([json.loads(item) for item in part]) for part in (before, now)]
    figures = [0.0]
    for name in sides[0].columns.intersection(sides[1].columns):
        one, two = (side[name].dropna() for side in sides)
        if not len(one) or not len(two):
            continue
        if all(pd.api.types.is_numeric_dtype(part) for part in (one, two)):
            figures.append(numbers_psi(one.to_numpy(float), two.to_numpy(float)))
            continue
        one, two = one.astype(str), two.astype(str)
        if one.nunique() > len(one) / 2:
            lengths = (part.str.len().to_numpy(float) for part in (one, two))
            figures.append(numbers_psi(*lengths))
        else:
            figures.append(psi(one, two))
    return max(figures)


def numbers_psi(before: np.ndarray, now: np.ndarray) -> float:
    """PSI of numbers, in tenths of those before.

    A number that is an edge counts by itself: of numbers of which nine tenths are 1, all edges are
    1, and what is under it would be counted with it.
    """
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1]))
    one, two = (
        pd.Series(np.searchsorted(edges, part) + np.searchsorted(edges, part, side="right"))
        for part in (before, now)
    )
    return psi(one, two)


def psi(before: pd.Series, now: pd.Series) -> float:
    """The population stability index, sum (q - p) ln(q / p) over values, beyond its expectation.

    Under .1 little moved, over .25 much (Siddiqi 2006). Two samples of the same rows show about
    (values - 1) (1/n + 1/m) on average (Yurdakul 2018), which is taken off. Values of fewer than
    ten rows count as one, and half a row is added to each, so that a new one has a finite weight.
    """
    counts = [part.value_counts() for part in (before, now)]
    together = counts[0].add(counts[1], fill_value=0)
    common = together.index[together >= RARE_ROWS]
    shares, rows = [], []
    for part in counts:
        kept = part.reindex(common, fill_value=0).to_numpy(float)
        whole = np.append(kept, part.sum() - kept.sum()) + 0.5
        shares.append(whole / whole.sum())
        rows.append(float(part.sum()))
    p, q = shares
    expected = len(common) * (1 / rows[0] + 1 / rows[1])
    return max(0.0, float(((q - p) * np.log(q / p)).sum()) - expected)


def told_apart(before: pd.Series, now: pd.Series) -> float:
    """The cross-validated AUC of a linear classifier over character n-grams; .5 is none.

    A two-sample test (Lopez-Paz and Oquab 2017).
    """
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    sides = [part.sample(min(ROWS, len(part)), random_state=1) for part in (before, now)]
    if min(map(len, sides)) < 20:
        return 0.5
    texts = pd.concat(sides).tolist()
    labels = np.repeat([0, 1], [len(side) for side in sides])
    grams = HashingVectorizer(analyzer="char", ngram_range=(1, 3), n_features=BUCKETS).transform(
        texts
    )
    scores = cross_val_predict(
        SGDClassifier(loss="log_loss", random_state=1),
        grams,
        labels,
        cv=5,
        method="decision_function",
    )
    return float(roc_auc_score(labels, scores))
