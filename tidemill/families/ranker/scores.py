"""Score frames of rankers, and their metrics: a row is one user's list of ten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tidemill.contract import Figures, Metric, Ratios
from tidemill.families.ranker.catalogue import Catalogue, KnownHistory, ranked
from tidemill.families.ranker.rows import UserRow
from tidemill.families.ranker.schema import SHOWN

if TYPE_CHECKING:
    import pandas as pd

METRICS: dict[str, Metric] = {
    "ndcg": Metric(
        better="higher",
        source=f"of the first {SHOWN}, all that came next worth the same (scikit-learn ndcg_score)",
        low=0,
        high=1,
    ),
    "recall": Metric(
        better="higher",
        unit="share",
        source=f"of what came next, what is among the first {SHOWN}",
        low=0,
        high=1,
    ),
    "coverage": Metric(
        better="higher",
        unit="share",
        source=f"of the catalogue, what is among somebody's first {SHOWN}",
        low=0,
        high=1,
    ),
    "popularity_bias": Metric(
        better="lower",
        unit="times",
        source="how popular the recommended items are, by how popular the seen ones are",
        low=0,
    ),
}


def frame_of(
    rows: Sequence[UserRow],
    histories: Sequence[KnownHistory],
    scores: np.ndarray,
    catalogue: Catalogue,
) -> pd.DataFrame:
    """A score frame of scores (n, items). Items out of the catalogue count as missed."""
    import pandas as pd

    from tidemill.kit.metrics.ranking import ndcg_rows, recall_rows

    gains, ideal = np.zeros((len(rows), SHOWN)), np.zeros((len(rows), SHOWN))
    wanted = np.array([len(row.next_items) for row in rows])
    shown = []
    for at, (row, history) in enumerate(zip(rows, histories, strict=True)):
        best = ranked(scores[at], history, SHOWN)
        after = set(row.next_items)
        gains[at, : len(best)] = [catalogue.items[place] in after for place in best]
        ideal[at, : min(SHOWN, len(after))] = 1
        shown.append(best)
    popular = catalogue.popularity
    return pd.DataFrame(
        {
            "ndcg": ndcg_rows(gains, ideal),
            "recall": recall_rows(gains, wanted),
            "shown_popularity": [float(popular[best].mean()) if len(best) else 0 for best in shown],
            "seen_popularity": [
                float(popular[one.places].mean()) if len(one.places) else float(popular.mean())
                for one in histories
            ],
            "seen": [len(row.question.history) for row in rows],
            "shown": [" ".join(map(str, best)) for best in shown],
            "catalogue": len(catalogue.items),
        }
    )


def metric(frame: pd.DataFrame, weights: np.ndarray) -> Figures:
    """The metrics of weighted rows (R, n), each (R,)."""
    from tidemill.kit.metrics.ranking import coverage

    shown = [[int(place) for place in row.split()] for row in frame["shown"]]
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = {
            name: (weights @ over) / (weights @ under)
            for name, (over, under) in ratios(frame).items()
        }
    catalogue = int(frame["catalogue"].iloc[0])
    return {**figures, "coverage": coverage(shown, catalogue, weights)}


def ratios(frame: pd.DataFrame) -> Ratios:
    """The metrics that are ratios of sums over users."""
    one = np.ones(len(frame))
    columns = ("ndcg", "recall", "shown_popularity", "seen_popularity")
    ndcg, recall, shown, seen = (frame[name].to_numpy(float) for name in columns)
    return {"ndcg": (ndcg, one), "recall": (recall, one), "popularity_bias": (shown, seen)}
