"""python -m benchmarks.tables [--splits N] [--json]: a table's boosting beside its linear model.

The 569 tumours of scikit-learn, in random splits of 30 % for testing and 15 % for validation, with
the default fields of `diagnosis`: the mean AUC of both, and the spread of their difference.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from benchmarks.rows import Row, show
from recipes.diagnosis.recipe import Diagnosis
from tidemill.contract import Run, Splits
from tidemill.engines import config
from tidemill.families.tables.learner import TableLearner
from tidemill.families.tables.rows import part
from tidemill.kit.drawn import DrawnRow, row

MALIGNANT = "malignant"


def tumours() -> list[DrawnRow]:
    data = load_breast_cancer(as_frame=True)
    labels = [str(data.target_names[number]) for number in data.target]
    rows = data.data.astype(float).to_dict("records")
    return [
        row({"row": cells}, {"label": label}) for cells, label in zip(rows, labels, strict=True)
    ]


def areas(rows: list[DrawnRow], seed: int, folder: Path) -> tuple[float, float]:
    """The AUC of the boosting and of the linear model that it begins from, on one split."""
    order = np.random.default_rng(seed).permutation(len(rows))
    first, second = round(0.3 * len(rows)), round(0.45 * len(rows))
    parts = {"test": order[:first], "valid": order[first:second], "train": order[second:]}
    for name, places in parts.items():
        pd.DataFrame([rows[place] for place in places]).to_parquet(folder / f"{name}.parquet")
    learner = Diagnosis(positive=MALIGNANT).learner(Splits(folder, seed))
    assert isinstance(learner, TableLearner)
    learner.fit(Run(config.recipe("diagnosis").trainer, seed, 1, "benchmark"))
    test, data = part(folder, "test"), learner.table
    x = data.preparation.inputs(test.cells)
    asked = [label == MALIGNANT for label in test.labels]
    column = data.labels.index(MALIGNANT)
    linear = learner.linear.scores(x[:, x.shape[1] // 2 :])[:, 0]
    boosted = learner.probabilities(x)[:, column]
    return (
        float(roc_auc_score(asked, boosted)),
        float(roc_auc_score(asked, linear if column else -linear)),
    )


def main() -> None:
    known = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known.add_argument("--splits", type=int, default=8)
    known.add_argument("--json", action="store_true")
    given = known.parse_args()
    rows = tumours()
    with tempfile.TemporaryDirectory() as folder:
        found = np.array([areas(rows, seed, Path(folder)) for seed in range(given.splits)])
    boosted, linear = found.mean(axis=0)
    apart = found[:, 0] - found[:, 1]
    show(
        [
            Row(
                "AUC of the boosting, and of its linear model", round(boosted, 4), round(linear, 4)
            ),
            Row("its loss of AUC", round(float(-apart.mean()), 4), goal="<= 0.01"),
            Row("spread of the difference over splits", round(float(apart.std()), 4)),
        ],
        given.json,
    )


if __name__ == "__main__":
    main()
