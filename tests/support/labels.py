"""The decisions of label over examples in memory."""

from typing import Any

import numpy as np
import pandas as pd

from tasks.label.decide import answered, applied
from tasks.label.doubts import doubted
from tasks.label.facts import facts_of
from tidemill.engines.config.schema import LabelPolicy


def decided_of(
    name: str, frame: pd.DataFrame, policy: LabelPolicy
) -> tuple[dict[str, Any], pd.DataFrame]:
    """What is reported, and the doubtful rows. Changes the frame by what is decided of its rows."""
    facts = facts_of(frame.assign(source="one"))
    decision = answered(name, facts, policy)
    changed = ("target", "slices", "confidence", "votes")
    columns = {column: frame[column].tolist() for column in changed}
    applied({**columns, "row": [*range(len(frame))]}, decision, facts.answers.values)
    for column in changed:
        kind = frame[column].dtype if column == "confidence" else object
        frame[column] = pd.Series(columns[column], index=frame.index, dtype=kind)

    def usable() -> pd.DataFrame:
        return frame[facts.dropped < 0].sort_values("example_id", kind="stable")

    report: dict[str, Any] = {**decision.report}
    doubtful, weights = doubted(
        facts, usable, decision.field, decision.by_people, policy, decision.report
    )
    report |= decision.report
    reasons = np.array([*facts.reasons.values, None], dtype=object)
    frame["dropped"] = pd.Series(reasons[facts.dropped], index=frame.index, dtype=object)
    if policy.issues == "weight":
        frame["weight"] = weights
    return report, doubtful
