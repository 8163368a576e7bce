"""Times in order: the errors of one day say something about the next day's.

The test of Diebold and Mariano (1995) on the difference of two ratios of sums. Its variance is the
equal-weighted cosine estimate of Lazarus, Lewis, Stock and Watson (2018), read by Student's t with
as many degrees as it has cosines, of days that an autoregression made nearly independent first
(Andrews and Monahan 1992), whose coefficient is corrected for the bias of short series (Kendall
1954). Simulated at 60 to 500 days and a correlation of neighbours up to .9: 4.5 to 6.4 % false
claims at 5.
"""

import numpy as np
from scipy import stats

from tasks.judge.resample import ANYWHERE, Range, Ratio, Units, tail_doubt

STRONGEST = 0.97  # no autoregression is thought to be stronger
FEWEST = 4  # cosines


class Studentised:
    """A difference with a standard error, read by Student's t."""

    def __init__(
        self,
        figure: float,
        standard_error: float,
        degrees: int,
        influence: np.ndarray | None = None,
        limits: Range = ANYWHERE,
        times: int = 0,
    ) -> None:
        """`influence` (n,): how far each row moves the figure, times n. `times`: how many."""
        self.figure, self.standard_error, self.degrees = figure, standard_error, degrees
        self.influence, self.limits, self.times = influence, limits, times

    def __neg__(self) -> "Studentised":
        influence = None if self.influence is None else -self.influence
        return Studentised(
            -self.figure, self.standard_error, self.degrees, influence, self.limits, self.times
        )

    def sound(self) -> bool:
        return bool(np.isfinite(self.figure) and np.isfinite(self.standard_error))

    def doubt(self, tail_rows: int) -> str:
        """Why no claim can be made of it; empty where one can."""
        if self.limits.bounded or self.influence is None:
            return ""
        return tail_doubt(self.influence, tail_rows)

    def error(self) -> float:
        return self.standard_error

    def interval(self, alpha: float, above: float | None = None) -> tuple[float, float]:
        below = self._reach(alpha)
        return self.figure - below, self.figure + (-self)._reach(alpha if above is None else above)

    def _reach(self, alpha: float) -> float:
        """How far a bound at `alpha` lies below the figure."""
        by_t = float(stats.t.ppf(1 - alpha, self.degrees)) * self.standard_error
        unseen = 1 - alpha ** (1 / self.times) if self.times else 0.0
        return max(by_t, unseen * self._lowest()) if self.limits.bounded else by_t

    def _lowest(self) -> float:
        """How far below the figure a time that nobody saw may lie, by the metric's range."""
        return self.figure + self.limits.high - self.limits.low

    def p_at_most(self, value: float) -> float:
        """The p-value of "the true figure is at most `value`"."""
        gap = self.figure - value
        unseen = 0.0
        if self.times and self.limits.bounded and gap > 0:
            # The rule of three: times without any difference show no more than their number does.
            unseen = float((1 - min(1.0, gap / max(self._lowest(), gap))) ** self.times)
        if self.standard_error == 0:
            return unseen if gap > 0 else 1.0
        return max(unseen, float(stats.t.sf(gap / self.standard_error, self.degrees)))

    def p_at_least(self, value: float) -> float:
        return (-self).p_at_most(-value)

    def detectable(self, alpha: float, power: float = 0.8) -> float:
        return float(
            (stats.t.ppf(1 - alpha, self.degrees) + stats.t.ppf(power, self.degrees))
            * self.standard_error
        )


def diebold_mariano(
    first: Ratio, second: Ratio, units: Units, limits: Range = ANYWHERE
) -> Studentised:
    """The first model's ratio less the second's; the units, sorted by name, are times in order."""
    ours, theirs = (_influence(*ratio) for ratio in (first, second))
    figure, influence = ours[0] - theirs[0], ours[1] - theirs[1]
    # What each time adds to the difference.
    parts = units.sums(influence) * (units.count / max(1, units.rows))
    variance, degrees = long_run_variance(parts)
    error = float(np.sqrt(variance / max(1, units.count)))
    # As many rows as there are, where they differ; else nothing is known of a time's rows.
    times = units.rows if error > 0 else units.count
    return Studentised(float(figure), error, degrees, influence, limits, times)


def _influence(over: np.ndarray, under: np.ndarray) -> tuple[float, np.ndarray]:
    """A ratio of sums, and how far each row moves it, times n."""
    over, under = np.asarray(over, dtype=float), np.asarray(under, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        figure = float(np.divide(over.sum(), under.sum()))
        return figure, (over - figure * under) / under.mean()


def long_run_variance(parts: np.ndarray) -> tuple[float, int]:
    """The variance of sqrt(T) times the mean of `parts` (T,) in order, and its degrees of freedom.

    The larger one of the plain estimate and of that with an autoregression taken out first.
    """
    times = len(parts)
    cosines = max(FEWEST, int(0.41 * times ** (2 / 3)))
    centred = parts - parts.mean()
    plain = _cosine_variance(centred, cosines)
    before, after = centred[:-1], centred[1:]
    power = float(before @ before)
    if times < 2 * FEWEST or power == 0:
        return plain, cosines
    slope = float(after @ before) / power
    if slope <= 0:
        return plain, cosines
    slope = min(STRONGEST, slope + (1 + 3 * slope) / times)
    rest = after - slope * before
    whitened = _cosine_variance(rest - rest.mean(), cosines) / (1 - slope) ** 2
    return max(plain, whitened), cosines


def _cosine_variance(centred: np.ndarray, cosines: int) -> float:
    times = len(centred)
    phases = np.outer(np.arange(1, cosines + 1), (np.arange(times) + 0.5) / times)
    projections = np.sqrt(2 / times) * np.cos(np.pi * phases) @ centred
    return float((projections**2).mean())
