"""Paired, unit-wise resampling: how far two models differ, and how sure that is.

Units (a document, a speaker, a day) are drawn with replacement, and every model is measured with the
same draws. Intervals are BCa (Efron 1987): corrected for bias by the share of resamples below the
figure, for skewness by a jackknife over units, in groups where there are many.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd
from scipy import stats

CHUNK_CELLS = 8_000_000   # weights in one call: bounds the memory to 32 MB
JACKKNIFE_GROUPS = 200

Metric = Callable[[pd.DataFrame, np.ndarray], dict[str, np.ndarray]]


class Draws:
    """The resamples of one set of rows, the same for every model.

    `units` (n,) names each row's unit. Draws depend on the seed and the units alone.
    """

    def __init__(self, units: pd.Series, resamples: int, seed: int) -> None:
        self.codes, names = pd.factorize(units, sort=True)
        self.units, self.rows, self.resamples, self.seed = len(names), len(units), resamples, seed

    def measure(self, metric: Metric, frames: Mapping[str, pd.DataFrame], name: str) -> dict[str, "Measured"]:
        """One metric of several models under the same draws."""
        found: dict[str, list[np.ndarray]] = {model: [] for model in frames}
        for weights in self.weights():
            for model, frame in frames.items():
                found[model].append(metric(frame, weights)[name])
        left_out: dict[str, list[np.ndarray]] = {model: [] for model in frames}
        groups = min(self.units, JACKKNIFE_GROUPS)
        member = np.arange(self.units) % groups
        step = self.step()
        for start in range(0, groups, step):
            which = np.arange(start, min(start + step, groups))
            kept = (member[:, None] != which[None, :]).astype(np.float32)
            for model, frame in frames.items():
                left_out[model].append(metric(frame, kept[self.codes].T)[name])
        whole = np.ones((1, self.rows), dtype=np.float32)
        return {
            model: Measured(float(metric(frame, whole)[name][0]), np.concatenate(found[model]), np.concatenate(left_out[model]))
            for model, frame in frames.items()
        }

    def step(self) -> int:
        return max(1, CHUNK_CELLS // max(1, self.rows))

    def weights(self) -> Iterator[np.ndarray]:
        """The resamples as weights (R, n), some at a time. Their transposes are contiguous, as the metrics want them."""
        random = np.random.default_rng(self.seed)
        step = self.step()
        for start in range(0, self.resamples, step):
            size = min(step, self.resamples - start)
            drawn = random.integers(0, self.units, size=(self.units, size), dtype=np.int32)
            drawn *= size
            drawn += np.arange(size, dtype=np.int32)
            counts = np.bincount(drawn.ravel(), minlength=self.units * size).reshape(self.units, size)
            yield counts.astype(np.float32)[self.codes].T


class Measured:
    """A figure with its resamples (R,) and its jackknife values (G,)."""

    def __init__(self, figure: float, resampled: np.ndarray, left_out: np.ndarray) -> None:
        self.figure, self.resampled, self.left_out = figure, resampled, left_out

    def __sub__(self, other: "Measured") -> "Measured":
        return Measured(self.figure - other.figure, self.resampled - other.resampled, self.left_out - other.left_out)

    def __neg__(self) -> "Measured":
        return Measured(-self.figure, -self.resampled, -self.left_out)

    def sound(self) -> bool:
        """Whether every number in it is one."""
        return bool(np.isfinite(self.figure) and np.isfinite(self.resampled).all())

    def surrounded(self) -> bool:
        """Whether the resamples lie on both sides of the figure; where they do not, they tell nothing of its error."""
        values = self.resampled
        below = np.count_nonzero(values < self.figure) + 0.5 * np.count_nonzero(values == self.figure)
        return bool(np.ptp(values) == 0 or 0.01 * len(values) <= below <= 0.99 * len(values))

    def quantile(self, share: float) -> float:
        """The BCa bound below which the figure lies with probability `share`.

        Where no resample differs from another, that is the figure itself.
        """
        values = self.resampled
        if np.ptp(values) == 0:
            return self.figure
        share_below = float(np.count_nonzero(values < self.figure) + 0.5 * np.count_nonzero(values == self.figure)) / len(values)
        below = min(max(share_below, 0.5 / len(values)), 1 - 0.5 / len(values))
        bias = stats.norm.ppf(below)
        centred = self.left_out.mean() - self.left_out
        spread = float((centred**2).sum() ** 1.5)
        skew = float((centred**3).sum()) / (6 * spread) if spread > 0 else 0.0
        z = bias + stats.norm.ppf(share)
        adjusted = stats.norm.cdf(bias + z / (1 - skew * z))
        return float(np.quantile(values, min(max(adjusted, 0.0), 1.0)))

    def interval(self, alpha: float) -> tuple[float, float]:
        """A one-sided bound at `alpha` to each side: a (1 - 2 alpha) interval."""
        return self.quantile(alpha), self.quantile(1 - alpha)

    def detectable(self, alpha: float, power: float = 0.8) -> float:
        """The smallest true difference that such a comparison finds with this power (normal approximation)."""
        return float((stats.norm.ppf(1 - alpha) + stats.norm.ppf(power)) * self.resampled.std(ddof=1))
