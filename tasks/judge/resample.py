"""Paired, unit-wise resampling: how far two models differ, and how sure that is.

Units (a document, a speaker, a day) are resampled, and every model is measured with the same draws.
Each resample weighs a unit by a Poisson(1) count, which is the bootstrap of a sample whose size is
left free (Hanley and MacGibbon 2006) and costs a table look-up. Bounds are BCa (Efron 1987): corrected
for bias by the share of resamples below the figure, for skewness by a jackknife over units, in groups
where there are many. Where the units are few, resampling lies, and tasks/judge/permutation.py answers instead.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np
import pandas as pd
from scipy import stats

CHUNK_CELLS = 4_000_000  # weights in one call: bounds the memory of a chunk to tens of MB
JACKKNIFE_GROUPS = 200
ROUNDING = 2e-6  # of a figure: what sums in float32 may be off; one row of 70,000 is 1.4e-5

Metric = Callable[[pd.DataFrame, np.ndarray], dict[str, np.ndarray]]
Ratios = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Metrics that are a ratio of sums over rows: name to numerator (n,) and denominator (n,)."""


@cache
def _poisson() -> np.ndarray:
    """Two random bytes to a Poisson(1) count: (65536,) uint8."""
    edges = np.round(stats.poisson.cdf(np.arange(16), 1.0) * 65536).astype(int)
    return np.searchsorted(edges, np.arange(65536), side="right").astype(np.uint8)


class Units:
    """Which rows belong together: the rows' units as codes, and how many units that is."""

    def __init__(self, names: pd.Series) -> None:
        self.codes, known = pd.factorize(names, sort=True)
        self.rows, self.count = len(names), len(known)
        sizes = np.bincount(self.codes, minlength=self.count).astype(float)
        # Kish's effective number: one unit of many rows among small ones counts for little more than itself.
        self.effective = float(sizes.sum() ** 2 / (sizes**2).sum()) if self.rows else 0.0

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(n,) to (U,)."""
        return np.bincount(self.codes, weights=values, minlength=self.count)


class Draws:
    """The resamples of one set of rows, the same for every model. They depend on the seed and the units alone."""

    def __init__(self, units: Units, resamples: int, seed: int) -> None:
        self.units, self.resamples, self.seed = units, resamples, seed

    def counts(self) -> Iterator[np.ndarray]:
        """How often each unit is drawn: (R, U) uint8, some resamples at a time."""
        random = np.random.default_rng(self.seed)
        step = max(1, CHUNK_CELLS // max(1, self.units.rows))
        for start in range(0, self.resamples, step):
            size = min(step, self.resamples - start)
            bits = np.frombuffer(random.bytes(2 * size * self.units.count), dtype=np.uint16)
            drawn = _poisson()[bits].reshape(size, self.units.count)
            empty = ~drawn.any(axis=1)
            if empty.any():  # a handful of units can all be left out; such a resample says nothing
                drawn[empty] = 1
            yield drawn

    def jackknife(self) -> Iterator[np.ndarray]:
        """1 for the units that stay, 0 for one group of units left out: (G, U)."""
        groups = min(self.units.count, JACKKNIFE_GROUPS)
        member = np.arange(self.units.count) % groups
        step = max(1, CHUNK_CELLS // max(1, self.units.rows))
        for start in range(0, groups, step):
            yield member[None, :] != np.arange(start, min(start + step, groups))[:, None]

    def measure(
        self, metric: Metric, frames: Mapping[str, pd.DataFrame], name: str
    ) -> dict[str, "Measured"]:
        """One metric of several models under the same draws, by weighing rows: any metric can be asked so."""

        def asked(unit_weights: Iterator[np.ndarray]) -> dict[str, list[np.ndarray]]:
            found: dict[str, list[np.ndarray]] = {model: [] for model in frames}
            for block in unit_weights:
                # Transposes are contiguous, as the metrics want them.
                weights = np.ascontiguousarray(block.T).astype(np.float32)[self.units.codes].T
                for model, frame in frames.items():
                    found[model].append(metric(frame, weights)[name])
            return found

        resampled, left_out = asked(self.counts()), asked(self.jackknife())
        whole = np.ones((1, self.units.rows), dtype=np.float32)
        return {
            model: Measured(
                float(metric(frame, whole)[name][0]),
                np.concatenate(resampled[model]),
                np.concatenate(left_out[model]),
            )
            for model, frame in frames.items()
        }

    def ratios(self, models: Mapping[str, Ratios]) -> dict[str, dict[str, "Measured"]]:
        """Metrics that are ratios of sums, all of them and of all models at once: {metric: {model: Measured}}."""
        asked = [(name, model) for model, ratios in models.items() for name in ratios]
        over, under, figures = [], [], []
        for name, model in asked:
            top, bottom = (
                self.units.sums(np.asarray(part, dtype=float)) for part in models[model][name]
            )
            figures.append(top.sum() / bottom.sum() if bottom.sum() else np.nan)
            # What a unit adds beyond the figure: small numbers, whose sums single precision holds.
            over.append(top - figures[-1] * bottom)
            under.append(bottom)
        columns = np.stack([*over, *under], axis=1).astype(np.float32)
        base = np.array(figures)

        def rated(unit_weights: Iterator[np.ndarray]) -> np.ndarray:
            found = [block.astype(np.float32) @ columns for block in unit_weights]
            tops, bottoms = np.split(np.concatenate(found).astype(float), 2, axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                return base + tops / bottoms

        resampled, left_out = rated(self.counts()), rated(self.jackknife())
        out: dict[str, dict[str, Measured]] = {}
        for place, (name, model) in enumerate(asked):
            out.setdefault(name, {})[model] = Measured(
                figures[place], resampled[:, place], left_out[:, place]
            )
        return out


class Measured:
    """A figure with its resamples (R,) and its jackknife values (G,)."""

    def __init__(
        self, figure: float, resampled: np.ndarray, left_out: np.ndarray, scale: float | None = None
    ) -> None:
        """`scale`: the size of the numbers it was subtracted from, whose rounding a small difference carries."""
        self.scale = abs(figure) if scale is None else scale
        rounding = ROUNDING * self.scale
        self.figure = 0.0 if scale is not None and abs(figure) <= rounding else figure
        self.resampled = np.where(np.abs(resampled - figure) <= rounding, self.figure, resampled)
        self.left_out = left_out

    def __sub__(self, other: "Measured") -> "Measured":
        return Measured(
            self.figure - other.figure,
            self.resampled - other.resampled,
            self.left_out - other.left_out,
            max(self.scale, other.scale),
        )

    def __neg__(self) -> "Measured":
        return Measured(-self.figure, -self.resampled, -self.left_out, self.scale)

    def sound(self) -> bool:
        """Whether every number in it is one."""
        return bool(
            np.isfinite(self.figure)
            and np.isfinite(self.resampled).all()
            and np.isfinite(self.left_out).all()
        )

    def surrounded(self) -> bool:
        """Whether the resamples lie on both sides of the figure; where they do not, they tell nothing of its error."""
        return bool(self.constant() or 0.01 <= self._below(self.figure) <= 0.99)

    def constant(self) -> bool:
        return bool(np.ptp(self.resampled) == 0)

    def _below(self, value: float) -> float:
        """The share of resamples below a value, ties counted half."""
        return float(
            np.count_nonzero(self.resampled < value)
            + 0.5 * np.count_nonzero(self.resampled == value)
        ) / len(self.resampled)

    def _shape(self) -> tuple[float, float]:
        """BCa's bias and acceleration."""
        least = 0.5 / len(self.resampled)
        bias = float(stats.norm.ppf(min(max(self._below(self.figure), least), 1 - least)))
        centred = self.left_out.mean() - self.left_out
        spread = float((centred**2).sum() ** 1.5)
        return bias, float((centred**3).sum()) / (6 * spread) if spread > 0 else 0.0

    def quantile(self, share: float) -> float:
        """The bound below which the figure lies with probability `share`; the figure itself where no resample differs."""
        if self.constant():
            return self.figure
        bias, skew = self._shape()
        z = bias + stats.norm.ppf(share)
        adjusted = stats.norm.cdf(bias + z / (1 - skew * z))
        return float(np.quantile(self.resampled, min(max(adjusted, 0.0), 1.0)))

    def interval(self, alpha: float) -> tuple[float, float]:
        """A one-sided bound at `alpha` to each side: a (1 - 2 alpha) interval."""
        return self.quantile(alpha), self.quantile(1 - alpha)

    def p_at_most(self, value: float) -> float:
        """The p-value of "the true figure is at most `value`": the alpha whose lower bound is `value`.

        At the value itself no such claim is refuted: a difference that never varies gives 0 above and 1 otherwise.
        """
        if self.constant():
            return 0.0 if self.figure > value else 1.0
        bias, skew = self._shape()
        least = 0.5 / len(self.resampled)
        z = stats.norm.ppf(min(max(self._below(value), least), 1 - least)) - bias
        if 1 + skew * z <= 0:
            return 1.0 if z > 0 else 0.0
        return float(stats.norm.cdf(z / (1 + skew * z) - bias))

    def p_at_least(self, value: float) -> float:
        """The p-value of "the true figure is at least `value`"."""
        return (-self).p_at_most(-value)

    def error(self) -> float:
        """The standard error."""
        return float(self.resampled.std(ddof=1))

    def detectable(self, alpha: float, power: float = 0.8) -> float:
        """The smallest true difference that such a comparison finds with this power (normal approximation)."""
        return float((stats.norm.ppf(1 - alpha) + stats.norm.ppf(power)) * self.error())
