"""Times in order: the errors of one day say something about the next day's.

The test of Diebold and Mariano (1995) on the difference of two ratios of sums, with the variance of
Newey and West (1987, Bartlett weights, their rule of thumb for the lag) and the correction for small
samples of Harvey, Leybourne and Newbold (1997).
"""

import numpy as np
from scipy import stats

from tasks.judge.resample import Units


class Studentised:
    """A figure with a standard error, read by Student's t."""

    def __init__(self, figure: float, standard_error: float, degrees: int) -> None:
        self.figure, self.standard_error, self.degrees = figure, standard_error, degrees

    def __neg__(self) -> "Studentised":
        return Studentised(-self.figure, self.standard_error, self.degrees)

    def sound(self) -> bool:
        return bool(np.isfinite(self.figure) and np.isfinite(self.standard_error))

    def surrounded(self) -> bool:
        return True

    def error(self) -> float:
        return self.standard_error

    def interval(self, alpha: float) -> tuple[float, float]:
        reach = float(stats.t.ppf(1 - alpha, self.degrees)) * self.standard_error
        return self.figure - reach, self.figure + reach

    def p_at_most(self, value: float) -> float:
        """The p-value of "the true figure is at most `value`"."""
        if self.standard_error == 0:
            return 0.0 if self.figure > value else 1.0
        return float(stats.t.sf((self.figure - value) / self.standard_error, self.degrees))

    def p_at_least(self, value: float) -> float:
        return (-self).p_at_most(-value)

    def detectable(self, alpha: float, power: float = 0.8) -> float:
        return float(
            (stats.t.ppf(1 - alpha, self.degrees) + stats.t.ppf(power, self.degrees))
            * self.standard_error
        )


def diebold_mariano(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], units: Units
) -> Studentised:
    """The first model's ratio less the second's; the units, sorted by name, are times one step apart."""
    (over, under), (other_over, other_under) = (
        [units.sums(np.asarray(part, dtype=float)) for part in model] for model in (first, second)
    )
    ours, theirs = over.sum() / under.sum(), other_over.sum() / other_under.sum()
    # What each time adds to the difference: its influence on either ratio.
    parts = (over - ours * under) / under.mean() - (
        other_over - theirs * other_under
    ) / other_under.mean()
    times = len(parts)
    lags = int(4 * (times / 100) ** (2 / 9))
    variance = parts @ parts / times
    for lag in range(1, min(lags, times - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (parts[lag:] @ parts[:-lag]) / times
    horizon = 1
    small = (times + 1 - 2 * horizon + horizon * (horizon - 1) / times) / times
    return Studentised(
        float(ours - theirs), float(np.sqrt(max(variance, 0.0) / times / small)), times - 1
    )
