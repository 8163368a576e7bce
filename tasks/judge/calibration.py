"""How honest a confidence is: what can be claimed of its error, by the rows there are."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tasks.judge.resample import TAIL_DRAWS, Resamples, Units

BINS = 15
BIN_ROWS = 20  # at least so many in a bin, or there are fewer bins
STEPS = 10  # halvings, for the end of an interval


@dataclass(frozen=True)
class Binned:
    """Rows in bins of equally many, by confidence."""

    order: np.ndarray  # (n,), rows by confidence
    edges: np.ndarray  # (B,), where bins begin
    rows: np.ndarray  # (B,)
    confidence: np.ndarray  # (B,), mean
    right: np.ndarray  # (B,), share

    @classmethod
    def of(cls, confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> "Binned":
        order = _by_confidence(confidence)
        count = max(1, min(bins, len(order)))
        edges = np.linspace(0, len(order), count + 1).astype(int)
        rows = np.diff(edges).astype(float)
        mean, share = (
            np.add.reduceat(np.asarray(part, dtype=float)[order], edges[:-1]) / rows
            for part in (confidence, right)
        )
        return cls(order, edges[:-1], rows, mean, share)

    @property
    def weights(self) -> np.ndarray:
        return self.rows / self.rows.sum()

    @property
    def gaps(self) -> np.ndarray:
        return self.right - self.confidence

    def error(self) -> float:
        return float((self.weights * np.abs(self.gaps)).sum())


def _by_confidence(confidence: np.ndarray) -> np.ndarray:
    """The places of rows by confidence (n,), those of equal confidence shuffled.

    In the order of the table they would be in bins by source or by target, which are right more
    or less often than others, and an honest model would seem to be wrong in each bin.
    """
    shuffled = np.random.default_rng(0).permutation(len(confidence))
    return shuffled[np.argsort(confidence[shuffled], kind="stable")]


def expected_calibration_error(
    confidence: np.ndarray, right: np.ndarray, bins: int = BINS
) -> float:
    """|mean confidence - share right|, averaged over bins of equally many rows (Nixon et al. 2019).

    `confidence` (n,) in 0 to 1, `right` (n,) of 0 and 1.
    """
    return Binned.of(confidence, right, bins).error()


@dataclass(frozen=True)
class Claimed:
    """What can be said of a calibration error and its bound."""

    error: float  # as measured
    honest: float  # what a perfectly calibrated model of as many rows would show
    low: float  # ends of the interval of the true error
    high: float
    p_good: float  # the p-value of "the error is the bound or more"
    p_bad: float  # and of "it is the bound or less"


class Calibration:
    """The error that models of known miscalibration would show on these rows.

    The error measured is never 0, since a bin's share of right answers has a sampling error of its
    own, and taking off what an honest model would show takes off too much from one that is not. So
    the claim "the error is under the bound" is tested against models at the bound: their gaps in
    all bins alike, or as large as each bin's noise, which are the patterns that noise hides best
    (the mean of |gap + noise| is convex in the gap), to either side. Noise is drawn twice, from
    rows that are independent and from the units as they are; the larger p-value counts.
    """

    def __init__(
        self, confidence: np.ndarray, right: np.ndarray, units: Units, draws: int, seed: int
    ) -> None:
        bins = max(1, min(BINS, len(confidence) // BIN_ROWS))
        self.bins = Binned.of(confidence, right, bins)
        self.draws, self.seed = draws, seed
        self.unit_noise = self._unit_noise(np.asarray(right, float) - confidence, units)

    def _unit_noise(self, gaps: np.ndarray, units: Units) -> np.ndarray:
        """By how much resampled units move each bin's part of the error: (R, B)."""
        bins = self.bins
        of_bin = np.repeat(np.arange(len(bins.rows)), bins.rows.astype(int))
        centred = gaps[bins.order] - bins.gaps[of_bin]
        table = np.zeros((units.count, len(bins.rows)))
        np.add.at(table, (units.codes[bins.order], of_bin), centred)
        draws = Resamples(units, self.draws, self.seed)
        noise = np.concatenate([(block - 1) @ table for block in draws.weights()])
        small_sample = np.sqrt(units.count / max(1, units.count - 1))
        return noise * small_sample / bins.rows.sum()

    def claimed(self, bound: float, pass_alpha: float, alpha: float) -> Claimed:
        error = self.bins.error()
        honest = self._honest()
        by_chance = float(np.quantile(np.concatenate(honest), 1 - alpha))
        return Claimed(
            error,
            float(np.mean([part.mean() for part in honest])),
            max(0.0, error - by_chance),
            self._highest(error, pass_alpha),
            self.p_at_least(bound),
            max(_share(bound + part >= error) for part in honest),
        )

    def _honest(self) -> list[np.ndarray]:
        """The error of a perfectly calibrated model, by rows and by units: (R,) each."""
        nothing = np.zeros(len(self.bins.rows))
        return list(self._shown(nothing))

    def p_at_least(self, bound: float) -> float:
        """The p-value of "the true error is at least `bound`"."""
        error = self.bins.error()
        shares = [
            _share_below(shown, error)
            for gaps in self._patterns(bound)
            for shown in self._shown(gaps)
        ]
        return max(shares, default=0.0)  # no pattern: nothing in 0 to 1 is so far off

    def _patterns(self, bound: float) -> Iterator[np.ndarray]:
        """Signed gaps (B,) whose weighted mean size is `bound`; none where that cannot be."""
        bins = self.bins
        noise = np.sqrt(np.maximum(bins.confidence * (1 - bins.confidence), 1e-6) / bins.rows)
        for sign, room in ((-1, bins.confidence), (1, 1 - bins.confidence)):
            if bound >= float((bins.weights * room).sum()):
                continue
            for shape in (np.ones_like(room), noise):
                yield sign * _filled(room, shape, bins.weights, bound)

    def _shown(self, gaps: np.ndarray) -> Iterator[np.ndarray]:
        """The error that a model with these true gaps would show: (R,) each.

        By rows and by units.
        """
        bins = self.bins
        chance = np.clip(bins.confidence + gaps, 0, 1)
        random = np.random.default_rng([self.seed, 2])
        drawn = random.binomial(bins.rows.astype(int), chance, size=(self.draws, len(bins.rows)))
        yield (np.abs(drawn / bins.rows - bins.confidence) * bins.weights).sum(axis=1)
        yield np.abs(gaps * bins.weights + self.unit_noise).sum(axis=1)

    def _highest(self, error: float, alpha: float) -> float:
        """The largest true error that the rows do not refute."""
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.p_at_least(middle) <= alpha else (middle, high)
        return high


def _share_below(shown: np.ndarray, error: float) -> float:
    """The share of `shown` (R,) that is at most `error`.

    Where too few are to be counted, the tail is a normal one: the error is a sum over bins.
    """
    hits = shown <= error + 1e-12
    if np.count_nonzero(hits) >= TAIL_DRAWS:
        return _share(hits)
    mean = float(shown.mean())
    below = shown[shown <= mean] - mean
    spread = float(np.sqrt((below**2).mean()))
    normal = float(stats.norm.cdf((error - mean) / spread)) if spread > 0 else 0.0
    return min(_share(hits), normal) if error < mean else _share(hits)


def _share(hits: np.ndarray) -> float:
    return float((1 + np.count_nonzero(hits)) / (1 + len(hits)))


def _filled(room: np.ndarray, shape: np.ndarray, weights: np.ndarray, bound: float) -> np.ndarray:
    """Gaps like `shape`, none larger than its `room`, whose weighted mean is `bound`."""
    low, high = 0.0, float((room / shape).max())
    for _ in range(30):
        middle = (low + high) / 2
        small = float((weights * np.minimum(room, middle * shape)).sum()) < bound
        low, high = (middle, high) if small else (low, middle)
    return np.minimum(room, high * shape)


def curve(
    confidence: np.ndarray, right: np.ndarray, bins: int = BINS
) -> list[tuple[float, float, int]]:
    """A reliability curve: mean confidence, share right and rows of each bin."""
    order = _by_confidence(confidence)
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    return [
        (float(confidence[part].mean()), float(np.mean(right[part])), len(part)) for part in parts
    ]
