"""The application in small; see tidemill/kit/drawn.py."""

import hashlib

import numpy as np
import pandas as pd

from recipes.stocks.windows import label
from tidemill.kit.drawn import RecipeYaml

FIELDS = {"hidden": 4, "folds": 1}
DAYS, TESTED = 90, 8


def splits() -> dict[str, pd.DataFrame]:
    """One drawn series, cut by time."""
    random = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, DAYS)))
    days = pd.bdate_range("2020-01-01", periods=DAYS)
    lines = ["Date,Open,High,Low,Close,Volume,Adj Close"] + [
        f"{day:%Y-%m-%d},{c * 0.999:.4f},{c * 1.01:.4f},{c * 0.99:.4f},{c:.4f},1000,{c:.4f}"
        for day, c in zip(days, close, strict=True)
    ]
    documents = pd.DataFrame(
        [{"doc_id": "d", "part": "AAA", "payload": "\n".join(lines).encode(), "source": "stocks"}]
    )
    examples = label(documents, 20, {}).assign(part="AAA")
    examples["example_id"] = [
        hashlib.sha256(item.encode()).hexdigest() for item in examples["inputs"]
    ]
    half, last = len(examples) // 2, len(examples) - TESTED
    return {
        "train": examples.iloc[:half],
        "valid": examples.iloc[half:last],
        "test": examples.iloc[last:],
    }


def small(conf: RecipeYaml) -> None:
    conf["model"] = {"hidden": 8, "folds": 2}
    conf["trainer"].update(max_epochs=3)
    conf["sweep"].update(trials=0)
    conf["score"].update(resamples=400, perturbed_rows=200, requests=60)
    # A few steps of a small network need not beat the window's own quantiles; skill it must have.
    left_out = ("baseline", "robust", "speed")
    conf["gates"] = [gate for gate in conf["gates"] if gate["name"] not in left_out]
