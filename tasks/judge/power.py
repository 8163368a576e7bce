"""How small a change each gate can see, from the test rows there are.

It is known before anything is trained.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from tasks.judge.resample import Units
from tasks.judge.reuse import pass_level
from tidemill.contract import Metric
from tidemill.engines.config.schema import Gate, Score
from tidemill.engines.config.schema.judging import FEWEST_REQUESTS

POWER = 0.8
CALIBRATION_BINS = 15
COUNTED = ("small", "same", "clean", "drift", "golden", "batch")


@dataclass(frozen=True)
class Sight:
    """What one gate can see of one slice."""

    gate: str
    slice: str
    rows: int
    units: float  # effective
    margin: float | None
    smallest: float | None  # the change it finds four times in five; None: nobody can say yet
    words: str


def smallest_difference(rows: float, disagree: float, alpha: float, power: float = POWER) -> float:
    """The margin at which two equal models are told to be no worse with this power.

    `rows` that are independent, of which the share `disagree` is right for one model alone. The
    row that nobody saw takes 1 / rows more (docs/gates.md).
    """
    reach = stats.norm.ppf(1 - alpha) + stats.norm.ppf(power)
    return float(reach * np.sqrt(disagree / rows) + 1 / rows)


def smallest_distance(first: float, second: float, alpha: float, power: float = POWER) -> float:
    """The bound within which two equal shares of .9 are told to lie with this power.

    `first` and `second`: the independent rows of each, and no row is in both.
    """
    reach = stats.norm.ppf(1 - alpha) + stats.norm.ppf(power)
    unseen = 1 / first + 1 / second
    return float(reach * np.sqrt(0.09 * unseen) + unseen)


def power_of(rows: float, margin: float, disagree: float, alpha: float) -> float:
    """How often a `no_worse` of this margin promotes one of two equal models."""
    error = np.sqrt(disagree / rows)
    if margin <= 1 / rows:
        return 0.0
    if (1 - margin) ** rows > alpha:  # the rule of three
        return 0.0
    return float(stats.norm.cdf((margin - 1 / rows) / error - stats.norm.ppf(1 - alpha)))


def smallest_limit(rows: float, bound: float, alpha: float) -> float:
    """How far from its bound a share must be to be shown with a power of .8, by exact bounds.

    NaN where these rows show it of no share at all.
    """
    worst = min(bound, 1 - bound)  # as a share of errors
    for better in np.linspace(worst, 0, 400):
        hits = int(stats.binom.ppf(POWER, int(rows), better))
        if stats.binom.cdf(hits, int(rows), worst) <= alpha:
            return float(worst - better)
    return float("nan")


def smallest_error(rows: float, alpha: float) -> float:
    """The bound of a calibration error that an honest model keeps four times in five.

    The model's accuracy is .9.

    Both ends are folded normal in each bin: the error of an honest model, and of one at the bound.
    """
    bins = max(1, min(CALIBRATION_BINS, int(rows // 20)))
    noise = np.sqrt(0.09 * bins / rows)
    spread = noise * np.sqrt((1 - 2 / np.pi) / bins)
    honest = noise * np.sqrt(2 / np.pi) + stats.norm.ppf(POWER) * spread
    bounds = np.linspace(0.001, 1, 1000)
    scaled = bounds / noise
    shown = noise * np.sqrt(2 / np.pi) * np.exp(-(scaled**2) / 2)
    shown += bounds * (1 - 2 * stats.norm.cdf(-scaled))
    deviation = np.sqrt(np.maximum(bounds**2 + noise**2 - shown**2, 0) / bins)
    kept = shown - stats.norm.ppf(1 - alpha) * deviation >= honest
    return float(bounds[int(np.argmax(kept))]) if kept.any() else float("nan")


def sights(
    rows: pd.DataFrame,
    gates: tuple[Gate, ...],
    settings: Score,
    metrics: dict[str, Metric],
    disagree: float,
    tries: float = 1.0,
) -> list[Sight]:
    """What every gate can see. `rows`: unit and the slice columns of each test row.

    `tries`: the candidates that are asked these rows for one promotion.
    """
    alpha = pass_level(settings.alpha, tries)
    return [
        _sight(gate, name, part, settings, metrics, disagree, alpha)
        for gate in gates
        for name, part in _parts(gate, rows, settings)
    ]


def _parts(gate: Gate, rows: pd.DataFrame, settings: Score) -> list[tuple[str, pd.DataFrame]]:
    """The whole, or the smallest slice that is judged: what it sees, all larger ones see."""
    if not gate.by:
        return [("all", rows)]
    groups = {
        ", ".join(map(str, key)): part
        for key, part in rows.groupby(list(gate.by))
        if isinstance(key, tuple)
    }
    judged = {
        key: part
        for key, part in groups.items()
        if len(part) >= settings.min_rows or key in gate.required
    }
    small = len(groups) - len(judged)
    left = f", {small} smaller ones are reported" if small else ""
    if not judged:
        return [(f"no slice has {settings.min_rows} rows{left}", rows.iloc[:0])]
    smallest = min(judged, key=lambda key: len(judged[key]))
    return [(f"smallest of {len(judged)}: {smallest}{left}", judged[smallest])]


def _sight(
    gate: Gate,
    name: str,
    part: pd.DataFrame,
    settings: Score,
    metrics: dict[str, Metric],
    disagree: float,
    alpha: float,
) -> Sight:
    units = Units(part["unit"]).effective if len(part) else 0.0
    bound = gate.at_least if gate.at_least is not None else gate.at_most
    margin = gate.margin if bound is None else bound
    smallest, words = None, ""
    if gate.kind == "fast":
        enough = settings.requests >= FEWEST_REQUESTS
        words = f"{settings.requests} requests" + ("" if enough else ": too few for p95")
    elif gate.kind in COUNTED:
        words = "counted, without a sampling error"
    elif units < settings.min_units:
        words = f"under {settings.min_units} effective units: no claim"
    else:
        smallest, words = _statistical(gate, part, units, settings, metrics, disagree, alpha)
        if smallest is not None and np.isnan(smallest):
            smallest, words = None, "too few rows: even a model without an error is not shown"
    return Sight(gate.name, name, len(part), round(units, 1), margin, smallest, words)


def _statistical(
    gate: Gate,
    part: pd.DataFrame,
    units: float,
    settings: Score,
    metrics: dict[str, Metric],
    disagree: float,
    alpha: float,
) -> tuple[float | None, str]:
    """The smallest change of a gate that measures, at worst: as if a unit's rows went together."""
    if gate.kind == "calibrated":
        return smallest_error(units, alpha), "an honest model keeps such a bound"
    if gate.kind == "flips":
        assert gate.at_most is not None
        return smallest_limit(units, gate.at_most, alpha), "so far below its bound"
    metric = metrics[gate.metric]
    if metric.low is None or metric.high is None:
        if len(part) < settings.tail_rows:
            return None, f"no range declared and under {settings.tail_rows} rows: no claim"
        return None, "no range declared: the last verdict says what it would have taken"
    width = metric.high - metric.low
    if gate.kind == "limit":
        bound = gate.at_least if gate.at_least is not None else gate.at_most
        assert bound is not None
        share = (bound - metric.low) / width
        return width * smallest_limit(units, share, alpha), "so far from its bound"
    if gate.kind in ("gap", "fair"):
        other = float(settings.train_rows) if gate.kind == "gap" else units
        apart = width * smallest_distance(other, units, alpha)
        return apart, "if both sides are right in .9 of their rows"
    if gate.kind == "robust":
        units *= min(1.0, settings.perturbed_rows / len(part))
    changed = width * smallest_difference(units, disagree, alpha)
    return changed, f"if {disagree:.0%} of rows are right for one model alone"


def draw(path: Path, disagree: float, alpha: float, rows: int | None = None) -> Path:
    """The picture of power over rows, a line each margin; where a recipe's rows are, a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    counts = np.logspace(1.3, 5, 200)
    for margin in (0.005, 0.01, 0.02, 0.05, 0.1):
        powers = [power_of(count, margin, disagree, alpha) for count in counts]
        axes.plot(counts, powers, label=f"margin {margin:g}")
    axes.axhline(POWER, color="#a0aec0", linewidth=1, linestyle="--")
    if rows:
        axes.axvline(rows, color="#2d3748", linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel("independent test rows")
    axes.set_ylabel("equal models promoted")
    axes.set_title(f"no_worse, accuracy; {disagree:.0%} of rows right for one model alone")
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=110)
    return path
