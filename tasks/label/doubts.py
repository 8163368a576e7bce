"""Doubt what looks wrong, by policy with a consequence."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from tasks.label.facts import ID, ExampleFacts
from tidemill.engines.config.schema import LabelPolicy
from tidemill.records.reports import LabelReport
from tidemill.records.tables import ISSUES

LEAST_WEIGHT = 0.01  # a doubtful example's weight: a batch of nothing else still has a mean
WRONG = "its label is probably wrong"


def doubted(
    facts: ExampleFacts,
    examples: Callable[[], pd.DataFrame],
    field: str,
    by_people: np.ndarray,
    policy: LabelPolicy,
    report: LabelReport,
) -> tuple[pd.DataFrame, np.ndarray]:
    """The doubtful examples, and how much each of (n,) examples counts in training.

    `examples` gives those that are usable with what was decided of them, in the order of their ids:
    all are in memory meanwhile. `by_people`, (n,) bool: which people answered; those are not
    doubted. Changes the reasons of `facts` and the report.
    """
    weights = np.ones(len(facts))
    if policy.issues == "off":
        return pd.DataFrame({column: [] for column in ISSUES.names}), weights
    from tasks.label.issues import issues

    judged = issues(examples(), field)
    order = np.argsort(facts.ids, kind="stable")
    ids = np.array(judged["example_id"].tolist(), dtype=ID)
    rows = order[np.searchsorted(facts.ids, ids, sorter=order)] if len(ids) else order[:0]
    flagged = judged["issue"].to_numpy(bool) & ~by_people[rows]
    report["issues"] = {"rows": len(judged), "doubtful": int(flagged.sum())}
    if policy.issues == "weight":
        quality = judged["quality"].to_numpy(float)[flagged]
        weights[rows[flagged]] = np.maximum(quality, LEAST_WEIGHT).round(6)
    if policy.issues == "drop":
        facts.dropped[rows[flagged]] = facts.reasons.number(WRONG)
    return judged[flagged], weights
