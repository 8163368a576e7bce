"""Few units: what can be said where resampling lies.

Ten clusters give a percentile bootstrap 7 % false alarms at a nominal 5, three give 19. Here a claim needs
two things at once: the exact paired permutation test over units (each unit's two models swapped or not;
all 2^U ways where they are few), and Student's t of the delete-one-unit jackknife (Bell and McCaffrey
2002, CV3), which also gives the interval that is shown.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tasks.judge.resample import CHUNK_CELLS, Metric, Units

EXACT_UNITS = 13  # 8,192 ways; above that as many are drawn
SWAPS = 8_192


def swaps(count: int, seed: int, ways: int = SWAPS) -> np.ndarray:
    """Which units change places: (S, U) bool, all ways for few units (the first is none), else drawn ones."""
    if count <= EXACT_UNITS:
        return (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(bool)
    drawn = np.random.default_rng(seed).random((max(2, min(ways, SWAPS)), count)) < 0.5
    drawn[0] = False
    return drawn


class Few:
    """A figure of one model, or a difference of two, over few units.

    `swapped` (S,) are the differences with units swapped, the unswapped first; empty for one model alone.
    """

    def __init__(self, figure: float, left_out: np.ndarray, swapped: np.ndarray) -> None:
        self.figure, self.left_out, self.swapped = figure, left_out, swapped

    def __sub__(self, other: "Few") -> "Few":
        """The difference of two differences that were swapped in the same ways."""
        return Few(
            self.figure - other.figure, self.left_out - other.left_out, self.swapped - other.swapped
        )

    def __neg__(self) -> "Few":
        return Few(-self.figure, -self.left_out, -self.swapped)

    def sound(self) -> bool:
        return bool(
            np.isfinite(self.figure)
            and np.isfinite(self.left_out).all()
            and np.isfinite(self.swapped).all()
        )

    def surrounded(self) -> bool:
        return True

    def error(self) -> float:
        """The jackknife's standard error, about the figure (CV3: a little large rather than too small)."""
        count = len(self.left_out)
        return float(np.sqrt((count - 1) / count * ((self.left_out - self.figure) ** 2).sum()))

    def interval(self, alpha: float) -> tuple[float, float]:
        reach = stats.t.ppf(1 - alpha, max(1, len(self.left_out) - 1)) * self.error()
        return self.figure - float(reach), self.figure + float(reach)

    def p_at_most(self, value: float) -> float:
        """The p-value of "the true figure is at most `value`": the larger one of the two tests."""
        error, gap = self.error(), self.figure - value
        if error == 0:
            by_t = 0.0 if gap > 0 else 1.0
        else:
            by_t = float(stats.t.sf(gap / error, max(1, len(self.left_out) - 1)))
        if not len(self.swapped):
            return by_t
        # For a value other than 0 the differences are thought to be shifted by it, all alike.
        return max(by_t, float((self.swapped >= gap - 1e-12).mean()))

    def p_at_least(self, value: float) -> float:
        return (-self).p_at_most(-value)

    def detectable(self, alpha: float, power: float = 0.8) -> float:
        degrees = max(1, len(self.left_out) - 1)
        return float((stats.t.ppf(1 - alpha, degrees) + stats.t.ppf(power, degrees)) * self.error())


Ask = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""The figure of rows taken from two models: weights (S, U) for the first's units and the second's, to (S,)."""


def of_rows(
    metric: Metric, first: pd.DataFrame, second: pd.DataFrame, name: str, units: Units
) -> Ask:
    """Any metric: a swap is a weighting of both models' rows together."""
    both = _stacked(first, second)
    codes = np.concatenate([units.codes, units.codes + units.count])

    def ask(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        found = []
        step = max(1, CHUNK_CELLS // max(1, 2 * units.rows))
        for start in range(0, len(ours), step):
            weights = np.concatenate(
                [ours[start : start + step], theirs[start : start + step]], axis=1
            )
            found.append(
                metric(both, np.ascontiguousarray(weights.T).astype(np.float32)[codes].T)[name]
            )
        return np.concatenate(found)

    return ask


def of_ratio(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], units: Units
) -> Ask:
    """A metric that is a ratio of sums over rows: sums over units are enough."""
    (over, under), (other_over, other_under) = (
        [units.sums(np.asarray(part, dtype=float)) for part in model] for model in (first, second)
    )

    def ask(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (ours @ over + theirs @ other_over) / (ours @ under + theirs @ other_under)

    return ask


def alone(ask: Ask, units: Units) -> Few:
    """One model's figure: the first one's."""
    left, none = ~np.eye(units.count, dtype=bool), np.zeros((units.count, units.count), dtype=bool)
    return Few(
        float(ask(np.ones((1, units.count), dtype=bool), none[:1])[0]),
        ask(left, none),
        np.array([]),
    )


def paired(ask: Ask, units: Units, seed: int, ways: int = SWAPS) -> Few:
    """The first model's figure less the second's."""
    way = swaps(units.count, seed, ways)
    swapped = ask(~way, way) - ask(way, ~way)
    left, none = ~np.eye(units.count, dtype=bool), np.zeros((units.count, units.count), dtype=bool)
    return Few(float(swapped[0]), ask(left, none) - ask(none, left), swapped)


def _stacked(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Both models' rows in one frame; categories of both where they differ."""
    from pandas.api.types import union_categoricals

    columns: dict[str, Any] = {}
    for column in first.columns.intersection(second.columns):
        one, two = first[column], second[column]
        if isinstance(one.dtype, pd.CategoricalDtype) and isinstance(
            two.dtype, pd.CategoricalDtype
        ):
            columns[column] = union_categoricals([one, two], sort_categories=True)
        else:
            columns[column] = np.concatenate([one.to_numpy(), two.to_numpy()])
    both = pd.DataFrame(columns)
    kinds = [str(column) for column in both if isinstance(both[column].dtype, pd.CategoricalDtype)]
    if len(kinds) > 1:  # target and answer as one categorical, so that counting them stays quick
        whole = pd.CategoricalDtype(
            sorted({name for column in kinds for name in both[column].cat.categories})
        )
        for column in kinds:
            both[column] = both[column].astype(whole)
    return both
