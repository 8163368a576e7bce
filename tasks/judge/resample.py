"""Paired, unit-wise reweighting: how far two models differ, and how sure that is.

Units (a document, a speaker, a day) are weighted anew, and every model is measured with the same
weights: standard exponential ones, so that they are Dirichlet distributed when normed (Rubin 1981).
To them comes one unit that nobody has seen, and whose rows are as bad as the metric's declared
range allows: Gaffke's bound (2005; Learned-Miller and Thomas 2020). For 0 and 1 it is the bound of
Clopper and Pearson, so sixty rows without an error do not show an accuracy of .99; for many rows
it costs nothing. Its validity for every distribution within the range is conjectured and was found
to hold in every simulation (theirs, and tests/test_simulated.py).

Where the units are few, tasks/judge/permutation.py answers beside it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

CHUNK_CELLS = 1_000_000  # weights in one call: bounds the memory of a chunk to tens of MB
ROUNDING = 2e-6  # of a figure: what sums in float32 may be off; one row of 70,000 is 1.4e-5
TAIL_DRAWS = 20  # a share of fewer draws than this is read off a fitted curve

Metric = Callable[[pd.DataFrame, np.ndarray], dict[str, np.ndarray]]
Ratio = tuple[np.ndarray, np.ndarray]
"""A metric that is a ratio of sums over rows: numerator (n,) and denominator (n,)."""


@cache
def _exponential() -> np.ndarray:
    """Two random bytes to a standard exponential number: (65536,) float32.

    They are the quantiles' middles.
    """
    quantiles = -np.log1p(-(np.arange(65536) + 0.5) / 65536)
    return (quantiles / quantiles.mean()).astype(np.float32)


def _drawn(random: np.random.Generator, count: int) -> np.ndarray:
    """Standard exponential numbers (count,) float32; sixteen random bits make one."""
    words = random.integers(0, 2**64, -(-count // 4), dtype=np.uint64)  # six times `bytes`' speed
    return _exponential().take(words.view(np.uint16)[:count], mode="clip")


class Units:
    """Which rows belong together: the rows' units as codes, and how many units that is."""

    def __init__(self, names: pd.Series) -> None:
        self.codes, known = pd.factorize(names, sort=True)
        self.rows, self.count = len(names), len(known)
        self.sizes = np.bincount(self.codes, minlength=self.count).astype(float)
        squares = float((self.sizes**2).sum())
        # Kish's effective number: one unit of many rows among small ones counts for little more
        # than itself.
        self.effective = self.rows**2 / squares if self.rows else 0.0
        # The size of the unit that a row drawn at random belongs to.
        self.usual_size = squares / self.rows if self.rows else 0.0

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(n,) to (U,)."""
        return np.bincount(self.codes, weights=values, minlength=self.count)

    def independent_rows(self, influence: np.ndarray) -> float:
        """How many rows of independent units would say as much about a mean of `influence` (n,).

        As many as there are units where a unit's rows always go together, and also where nothing
        varies: then nothing is known of how they go together.
        """
        by_row = float((influence**2).sum())
        by_unit = float((self.sums(influence) ** 2).sum())
        if by_row <= 0 or by_unit <= 0:
            return self.effective
        return float(np.clip(self.rows * by_row / by_unit, self.effective, self.rows))


class Resamples:
    """The weights of one set of rows, the same for every model.

    Seed and units alone decide them.
    """

    def __init__(self, units: Units, resamples: int, seed: int) -> None:
        self.units, self.resamples, self.seed = units, resamples, seed

    def weights(self) -> Iterator[np.ndarray]:
        """How much each unit counts: (R, U) float32, some draws at a time."""
        random = np.random.default_rng(self.seed)
        step = max(1, CHUNK_CELLS // max(1, self.units.count))
        for start in range(0, self.resamples, step):
            size = min(step, self.resamples - start)
            yield _drawn(random, size * self.units.count).reshape(size, self.units.count)

    def unseen(self) -> np.ndarray:
        """How much the unit counts that nobody has seen: (R,)."""
        return np.random.default_rng([self.seed, 1]).standard_exponential(self.resamples)

    def ratios(self, models: Mapping[str, Mapping[str, Ratio]]) -> dict[str, dict[str, "Sums"]]:
        """Ratios of sums, all of them and of all models at once: {metric: {model: Sums}}."""
        asked = [(name, model) for model, ratios in models.items() for name in ratios]
        figures, influences, columns, row_unders = [], [], [], []
        for name, model in asked:
            over, under = (np.asarray(part, dtype=float) for part in models[model][name])
            with np.errstate(divide="ignore", invalid="ignore"):
                figures.append(float(np.divide(over.sum(), under.sum())))
            row_unders.append(float(under.mean()))
            # What a row adds beyond the figure: small numbers, whose sums single precision holds.
            centred = over - figures[-1] * under
            with np.errstate(divide="ignore", invalid="ignore"):
                influences.append(centred / row_unders[-1])
            columns += [self.units.sums(centred), self.units.sums(under)]
        table = np.stack(columns, axis=1).astype(np.float32)
        with np.errstate(invalid="ignore"):
            sums = np.concatenate([block @ table for block in self.weights()]).astype(float)
        unseen = self.unseen()
        found: dict[str, dict[str, Sums]] = {}
        for place, (name, model) in enumerate(asked):
            found.setdefault(name, {})[model] = Sums(
                figures[place],
                sums[:, 2 * place],
                sums[:, 2 * place + 1],
                unseen,
                row_unders[place],
                influences[place],
            )
        return found


@dataclass(frozen=True)
class Sums:
    """One model's ratio of sums: its figure, and its sums under each draw."""

    figure: float
    over: np.ndarray  # (R,), of what rows add beyond the figure
    under: np.ndarray  # (R,)
    unseen: np.ndarray  # (R,), the weight of the unseen unit, for a size of one row
    row_under: float  # the denominator of an average row
    influence: np.ndarray  # (n,), how far each row moves the figure, times n

    def drawn(self, size: float = 0.0, beyond: float = 0.0) -> np.ndarray:
        """The figure under each draw (R,), with an unseen unit of `size` rows.

        `beyond` is how far these rows lie from the figure.
        """
        weight = self.unseen * (size * self.row_under)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.figure + (self.over + weight * beyond) / (self.under + weight)


@dataclass(frozen=True)
class Range:
    """Where a metric's rows can lie; an end that nobody can name is infinite."""

    low: float = -np.inf
    high: float = np.inf

    @property
    def bounded(self) -> bool:
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def keeps(self, values: np.ndarray) -> bool:
        """Whether numbers (n,) lie within it, but for rounding; what is NaN is asked elsewhere."""
        slack = 1e-6
        return not bool((values < self.low - slack).any() or (values > self.high + slack).any())


ANYWHERE = Range()


class Reweighted:
    """A ratio of sums, or a sum and difference of some, over the same rows and the same draws."""

    def __init__(self, terms: Sequence[tuple[int, Sums]], units: Units, limits: Range) -> None:
        """`terms`: 1 or -1, and the ratio that is added or taken away."""
        self.terms, self.units, self.limits = tuple(terms), units, limits
        self.scale = max(abs(sums.figure) for _, sums in self.terms)
        exact = float(sum(sign * sums.figure for sign, sums in self.terms))
        self.figure = 0.0 if len(self.terms) > 1 and abs(exact) <= self.tolerance else exact

    @classmethod
    def of(cls, sums: Sums, units: Units, limits: Range) -> "Reweighted":
        return cls([(1, sums)], units, limits)

    @property
    def tolerance(self) -> float:
        """Below it a difference is rounding, to either side."""
        return ROUNDING * self.scale

    def __sub__(self, other: "Reweighted") -> "Reweighted":
        return Reweighted(
            [*self.terms, *((-sign, sums) for sign, sums in other.terms)], self.units, self.limits
        )

    def __neg__(self) -> "Reweighted":
        return Reweighted([(-sign, sums) for sign, sums in self.terms], self.units, self.limits)

    @cached_property
    def influence(self) -> np.ndarray:
        return np.asarray(sum(sign * sums.influence for sign, sums in self.terms))

    @cached_property
    def unseen_size(self) -> float:
        """How many rows the unseen unit has: one where rows are independent, else a unit's."""
        return self.units.rows / self.units.independent_rows(self.influence)

    @cached_property
    def plain(self) -> np.ndarray:
        """The figure under each draw, of what was seen alone."""
        return np.asarray(sum(sign * sums.drawn() for sign, sums in self.terms))

    @cached_property
    def lower(self) -> np.ndarray:
        """The figure under each draw, with an unseen unit as low as can be."""
        return self._with_unseen(-1)

    @cached_property
    def upper(self) -> np.ndarray:
        return self._with_unseen(1)

    def _with_unseen(self, way: int) -> np.ndarray:
        drawn = np.zeros(len(self.terms[0][1].over))
        for sign, sums in self.terms:
            drawn += sign * sums.drawn(self.unseen_size, self._beyond(sums, way * sign))
        return drawn

    def _beyond(self, sums: Sums, way: int) -> float:
        """How far an unseen row of one ratio may lie below (-1) or above (1) its figure.

        Where no range was declared it is as far as any row that was seen.
        """
        end = self.limits.low if way < 0 else self.limits.high
        if np.isfinite(end):
            return end - sums.figure
        return float(sums.influence.min() if way < 0 else sums.influence.max())

    def sound(self) -> bool:
        """Whether every number in it is one."""
        return bool(np.isfinite(self.figure) and np.isfinite(self.plain).all())

    def error(self) -> float:
        """The standard error."""
        return float(self.plain.std(ddof=1))

    def interval(self, alpha: float, above: float | None = None) -> tuple[float, float]:
        """A one-sided bound at `alpha` to each side, a (1 - 2 alpha) interval, or at `above`."""
        return self._lowest(alpha), -(-self)._lowest(alpha if above is None else above)

    def _lowest(self, alpha: float) -> float:
        """The bound below, where there are too few draws beyond it read off the fitted curve."""
        if alpha * len(self.lower) >= TAIL_DRAWS:
            return float(np.quantile(self.lower, alpha))
        if np.ptp(self.lower) == 0:  # at the end of the range, where there is no curve to fit
            return float(self.lower[0])
        return min(float(self.curve.ppf(alpha)), float(np.quantile(self.lower, 0.5)))

    def p_at_most(self, value: float) -> float:
        """The p-value of "the true figure is at most `value`"."""
        reached = int(np.count_nonzero(self.lower <= value + self.tolerance))
        share = (1 + reached) / (1 + len(self.lower))
        if reached >= TAIL_DRAWS:
            return share
        return min(share, float(self.curve.cdf(value + self.tolerance)))

    def p_at_least(self, value: float) -> float:
        """The p-value of "the true figure is at least `value`"."""
        return (-self).p_at_most(-value)

    @cached_property
    def curve(self) -> Any:
        """A distribution like that of the draws below, for what they are too few to show.

        A weighted mean of numbers between two ends is nearly Beta distributed (of 0 and 1:
        exactly). Without such ends the fit is normal, as wide as the lower half of the draws.
        """
        mean, spread = float(self.lower.mean()), float(self.lower.std())
        if spread <= 0:
            return stats.uniform(mean, 0.0)
        low, high = self._ends()
        if not (np.isfinite(low) and np.isfinite(high)):
            below = self.lower[self.lower < mean] - mean
            return stats.norm(mean, np.sqrt((below**2).mean()))
        middle, variance = (mean - low) / (high - low), (spread / (high - low)) ** 2
        size = middle * (1 - middle) / variance - 1
        return stats.beta(middle * size, (1 - middle) * size, low, high - low)

    def _ends(self) -> tuple[float, float]:
        low = high = 0.0
        for sign, _ in self.terms:
            ends = (self.limits.low, self.limits.high)
            low += sign * ends[0 if sign > 0 else 1]
            high += sign * ends[1 if sign > 0 else 0]
        return low, high

    def detectable(self, alpha: float, power: float = 0.8) -> float:
        """The smallest true difference that such a comparison finds with this power."""
        reach = self.figure - self._lowest(alpha)
        return max(0.0, reach) + float(stats.norm.ppf(power)) * self.error()

    def doubt(self, tail_rows: int) -> str:
        """Why no claim can be made of it, however it looks; empty where one can.

        Without a declared range the rows themselves must show the tail: a disaster in one row of
        200 is in 600 rows nineteen times of twenty, and a mean that rests on fewer rows than ten
        has no error that anybody could tell.
        """
        known = all(
            np.isfinite(self.limits.low if sign > 0 else self.limits.high) for sign, _ in self.terms
        )
        return "" if known else tail_doubt(self.influence, tail_rows)


RESTS_ON = 10.0  # rows; of so many equal parts the sum of squares must at least consist


def tail_doubt(influence: np.ndarray, tail_rows: int) -> str:
    """Why a mean of rows without a declared range supports no claim; empty where it does."""
    if len(influence) < tail_rows:
        return (
            f"its rows have no declared range, and {len(influence)} of them cannot show a tail; "
            f"{tail_rows} are needed (score.tail_rows)"
        )
    squares = influence**2
    total = float(squares.sum())
    rests_on = total**2 / float((squares**2).sum()) if total > 0 else np.inf
    if rests_on < RESTS_ON:
        return f"its rows have no declared range, and it rests on {rests_on:.1f} of them"
    return ""
