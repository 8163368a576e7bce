"""Score frames of tables, and their metrics: how rows are ranked, what answers cost, whom they hit.

Two labels or more; the last one is the positive one, which a table is asked for: an illness, a
refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tidemill.contract import Figures, Metric, Ratios
from tidemill.families.classifier import ACCURACY, LOG_LOSS, MACRO_F1, scored

if TYPE_CHECKING:
    import pandas as pd

CHANCE = "chance of "  # before a label: the column of its probabilities

METRICS: dict[str, Metric] = {
    "auc": Metric(
        better="higher",
        source="scikit-learn roc_auc_score, one label against the rest, averaged",
        low=0,
        high=1,
    ),
    "accuracy": ACCURACY,
    "macro_f1": MACRO_F1,
    "log_loss": LOG_LOSS,
    "cost": Metric(
        better="lower",
        unit="costs of a row",
        source="mean of model.costs of what was missed",
        low=0,
    ),
    "positive_rate": Metric(
        better="lower", unit="share", source="rows that get the positive label", low=0, high=1
    ),
    "missed_rate": Metric(
        better="lower",
        unit="share",
        source="false negatives: of rows of the positive label, those that get another",
        low=0,
        high=1,
    ),
    "false_alarm_rate": Metric(
        better="lower",
        unit="share",
        source="false positives: of rows of other labels, those that get the positive one",
        low=0,
        high=1,
    ),
}


def frame_of(
    targets: Sequence[str],
    chances: np.ndarray,
    labels: Sequence[str],
    costs: Mapping[str, float],
) -> pd.DataFrame:
    """A score frame of probabilities (n, labels), answered by the least expected cost."""
    import pandas as pd

    prices = np.array([costs.get(name, 1.0) for name in labels])
    chosen = (chances * prices).argmax(axis=1)
    frame = scored(targets, labels, chances)
    answers = np.array(labels)[chosen]
    frame["answer"] = pd.Categorical(answers, categories=frame["target"].cat.categories)
    if frame["answer"].isna().any():
        names = sorted({*targets, *answers})
        for column, values in (("target", list(targets)), ("answer", answers)):
            frame[column] = pd.Categorical(values, categories=names)
    missed = [costs.get(name, 1.0) for name in targets]
    wrong = np.array(targets) != answers
    own = {f"{CHANCE}{name}": chances[:, at].astype(float) for at, name in enumerate(labels)}
    return frame.assign(
        confidence=chances[np.arange(len(chosen)), chosen].clip(0, 1),
        cost=np.where(wrong, missed, 0.0),
        is_positive=(np.array(targets) == labels[-1]).astype(float),
        flagged=(answers == labels[-1]).astype(float),
        **own,
    )


def labels_of(frame: pd.DataFrame) -> list[str]:
    """The labels whose probabilities a score frame has, in their order."""
    names = map(str, frame.columns)
    return [name.removeprefix(CHANCE) for name in names if name.startswith(CHANCE)]


def metric(frame: pd.DataFrame, weights: np.ndarray) -> Figures:
    """The metrics of weighted rows (R, n), each (R,)."""
    from tidemill.kit.metrics import macro_f1
    from tidemill.kit.metrics.classes import roc_auc

    labels = labels_of(frame)
    places = {name: at for at, name in enumerate(labels)}
    target = np.array([places.get(name, -1) for name in frame["target"].astype(str)])
    chances = frame[[f"{CHANCE}{name}" for name in labels]].to_numpy(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = {
            name: (weights @ over) / (weights @ under)
            for name, (over, under) in ratios(frame).items()
        }
    return {
        "auc": roc_auc(target, chances, weights),
        "macro_f1": macro_f1(frame["target"], frame["answer"], weights),
        **figures,
    }


def ratios(frame: pd.DataFrame) -> Ratios:
    """The metrics that are ratios of sums over rows."""
    from tidemill.kit.metrics.classes import right

    hits, one = right(frame), np.ones(len(frame))
    assert hits is not None
    positive, flagged = (frame[name].to_numpy(float) for name in ("is_positive", "flagged"))
    return {
        "accuracy": (hits, one),
        "log_loss": (frame["loss"].to_numpy(float), one),
        "cost": (frame["cost"].to_numpy(float), one),
        "positive_rate": (flagged, one),
        "missed_rate": (positive * (1 - flagged), positive),
        "false_alarm_rate": ((1 - positive) * flagged, 1 - positive),
    }
