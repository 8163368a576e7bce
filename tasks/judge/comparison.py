"""The score frames of one run, and what was measured on them so far."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd

from tasks.judge import permutation
from tasks.judge.permutation import Together
from tasks.judge.resample import Range, Ratio, Resamples, Reweighted, Sums, Units
from tasks.judge.reuse import pass_level
from tasks.judge.series import diebold_mariano
from tidemill import contract
from tidemill.contract import Metric
from tidemill.engines.config.schema import Score
from tidemill.records.receipts import Exported, Scored
from tidemill.run import plan
from tidemill.runtime.errors import Fault

POOLED = "small slices together"
NO_EXPORT = Exported(package="", digest="", files={}, parity=float("nan"), bytes=0)


class Estimate(Protocol):
    """A figure, or a difference of two, and how sure it is."""

    figure: float

    def __neg__(self) -> "Estimate": ...
    def sound(self) -> bool: ...
    def doubt(self, tail_rows: int) -> str: ...
    def error(self) -> float: ...
    def interval(self, alpha: float, above: float | None = None) -> tuple[float, float]:
        """One-sided bounds: at `alpha` below, and at `above` (by default the same) above."""
        ...

    def p_at_most(self, value: float) -> float: ...
    def p_at_least(self, value: float) -> float: ...
    def detectable(self, alpha: float, power: float = 0.8) -> float: ...


class Measures(Protocol):
    """What the judge needs of a recipe."""

    @property
    def metrics(self) -> Mapping[str, Metric]: ...
    def metric(self, frame: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]: ...
    def ratios(self, frame: pd.DataFrame) -> dict[str, Ratio]: ...


@dataclass(frozen=True)
class Where:
    """Some of the test rows: all, or one slice."""

    name: str  # "all", or "domain=udhr", or "domain+length=udhr, 1 to 10"
    rows: np.ndarray  # their places
    required: bool = False
    pooled: int = 0  # how many small slices these are together
    small: bool = False  # too few rows: reported, and holds nothing up unless required

    @cached_property
    def key(self) -> str:
        """The rows themselves: two slices of one name need not be the same."""
        return hashlib.sha256(np.asarray(self.rows, dtype=np.int64).tobytes()).hexdigest()


class Comparison:
    """The candidate and the models beside it, on the same test rows.

    `frames`: by model, a row per test row, as `Recipe.score` gives them; `candidate~typos` is the
    candidate with perturbed questions. `rows`: example_id, unit and the slice columns of each.
    """

    def __init__(
        self,
        frames: Mapping[str, pd.DataFrame],
        rows: pd.DataFrame,
        settings: Score,
        recipe: Measures,
        *,
        seed: int = 1,
        scored: Scored | None = None,
        exported: Exported = NO_EXPORT,
        training: "Comparison | None" = None,
    ) -> None:
        self.frames, self.rows, self.settings, self.recipe = dict(frames), rows, settings, recipe
        self.seed, self.exported = seed, exported
        self.training = training  # the candidate on some of the rows it was trained on
        self.scored = scored or Scored(frames={}, rows=len(rows))
        self.answered = {
            name: frame.notna().all(axis=1).to_numpy() for name, frame in self.frames.items()
        }
        self.all = Where("all", np.arange(len(rows)), required=True)
        self.tries = self.scored.reuse.tries
        # A pass is a claim that any of the candidates tried may make; a fail is one of this alone.
        self.pass_alpha = pass_level(settings.alpha, self.tries)
        self._units: dict[str, Units] = {}
        self._frames: dict[tuple[str, str], pd.DataFrame] = {}
        self._ratios: dict[tuple[str, str], dict[str, Ratio]] = {}
        self._sums: dict[tuple[str, str], dict[str, Sums]] = {}

    @classmethod
    def of(cls, this: plan.Plan, scored: Scored, exported: Exported) -> "Comparison":
        """What the score step of a run has left."""
        frames = {name: pd.read_parquet(file.open()) for name, file in scored.frames.items()}
        rows = frames.pop("rows")
        recipe: Measures = contract.application(this.application)
        settings, seed = this.recipe.score, this.recipe.seed
        training = None
        if "train" in frames:
            seen = {"candidate": frames.pop("train")}
            training = cls(seen, frames.pop("train rows"), settings, recipe, seed=seed)
        return cls(
            frames,
            rows,
            settings,
            recipe,
            seed=seed,
            scored=scored,
            exported=exported,
            training=training,
        )

    def better(self, metric: str) -> int:
        """1 where higher is better, else -1."""
        if metric not in self.recipe.metrics:
            raise Fault(f"no metric '{metric}'; the recipe has {', '.join(self.recipe.metrics)}")
        return 1 if self.recipe.metrics[metric].better == "higher" else -1

    def limits(self, metric: str) -> Range:
        """The metric's declared range."""
        known = self.recipe.metrics.get(metric)
        low, high = (known.low, known.high) if known else (None, None)
        return Range(
            -np.inf if low is None else float(low), np.inf if high is None else float(high)
        )

    def units(self, where: Where) -> Units:
        if where.key not in self._units:
            self._units[where.key] = Units(self.rows["unit"].iloc[where.rows])
        return self._units[where.key]

    def frame(self, model: str, where: Where) -> pd.DataFrame | None:
        """A model's rows there; None where it did not answer them all."""
        whole = self.frames.get(model)
        if whole is None or not self.answered[model][where.rows].all():
            return None
        if len(where.rows) == len(whole):
            return whole
        known = (model, where.key)
        if known not in self._frames:
            self._frames[known] = whole.iloc[where.rows].reset_index(drop=True)
        return self._frames[known]

    def models(self) -> list[str]:
        """The models that were asked the test rows as they are."""
        beside = ("overlap", "times")
        return [name for name in self.frames if "~" not in name and name not in beside]

    def figure(self, metric: str, where: Where, model: str = "candidate") -> float:
        part = self.frame(model, where)
        if part is None:
            return float("nan")
        whole = np.ones((1, len(part)), dtype=np.float32)
        return float(self.recipe.metric(part, whole)[metric][0])

    def out_of_range(self, metric: str, where: Where, model: str) -> bool:
        """Whether a model's rows, or its figure, break the range that the metric declares."""
        limits, ratio = self.limits(metric), self.ratio(metric, where, model)
        if ratio is None:
            return not limits.keeps(np.array([self.figure(metric, where, model)]))
        over, under = (np.asarray(part, dtype=float) for part in ratio)
        counts = under > 0
        return not limits.keeps(over[counts] / under[counts])

    def scarce(self, where: Where) -> bool:
        return self.units(where).effective < self.settings.few_units

    def alone(self, metric: str, where: Where, model: str = "candidate") -> Estimate:
        """One model's figure."""
        units, limits = self.units(where), self.limits(metric)
        ratio = self.ratio(metric, where, model)
        if ratio is None or self.scarce(where):
            by_units = permutation.alone(self._ask(metric, where, model, model), units, limits)
        if ratio is None:
            return by_units
        (weighted,) = self._reweighted(metric, where, model)
        return Together(by_units, weighted) if self.scarce(where) else weighted

    def difference(
        self,
        metric: str,
        where: Where,
        other: str,
        method: str = "resample",
        model: str = "candidate",
    ) -> Estimate:
        """The candidate's figure less the other's, on the same rows under the same draws."""
        ours, theirs = (self.ratio(metric, where, name) for name in (model, other))
        if method == "diebold_mariano":
            if ours is None or theirs is None:
                raise Fault(
                    "diebold_mariano needs a metric that is a ratio of sums over rows; "
                    f"the recipe's `ratios` does not give {metric}"
                )
            return diebold_mariano(ours, theirs, self.units(where), self.limits(metric))
        return self._paired(metric, where, model, other)

    def double(
        self, metric: str, where: Where, ours: tuple[str, str], theirs: tuple[str, str]
    ) -> Estimate:
        """The difference of two changes, all on the same rows.

        (ours after - ours before) - (theirs after - theirs before), each given as (before, after).
        """
        before = self._paired(metric, where, ours[0], theirs[0])
        after = self._paired(metric, where, ours[1], theirs[1])
        return after - before  # type: ignore[operator]

    def share(self, happened: np.ndarray, where: Where) -> Estimate:
        """How often something happens on these rows: `happened` (n,) of 0 and 1."""
        units, limits = self.units(where), Range(0, 1)
        ratio = (np.asarray(happened, dtype=float), np.ones(len(happened)))
        draws = Resamples(units, self.settings.resamples, self.seed)
        sums = draws.ratios({"candidate": {"share": ratio}})["share"]["candidate"]
        weighted = Reweighted.of(sums, units, limits)
        if not self.scarce(where):
            return weighted
        ask = permutation.of_ratio(ratio, ratio, units)
        return Together(permutation.alone(ask, units, limits), weighted)

    def ratio(self, metric: str, where: Where, model: str) -> Ratio | None:
        """A metric's numerators and denominators by row; None where it is no ratio of sums."""
        return self._all_ratios(where, model).get(metric)

    def _all_ratios(self, where: Where, model: str) -> dict[str, Ratio]:
        known = (model, where.key)
        if known not in self._ratios:
            part = self.frame(model, where)
            assert part is not None
            self._ratios[known] = self.recipe.ratios(part)
        return self._ratios[known]

    def _paired(
        self, metric: str, where: Where, first: str, second: str
    ) -> "permutation.Swapped | Reweighted | Together":
        units, limits = self.units(where), self.limits(metric)
        of_sums = all(self.ratio(metric, where, name) is not None for name in (first, second))
        if of_sums:
            ours, theirs = self._reweighted(metric, where, first, second)
            weighted = ours - theirs
            if not self.scarce(where):
                return weighted
        # Sums over units cost nothing; weighing each row does.
        ways = permutation.SWAPS if of_sums else self.settings.resamples
        by_units = permutation.paired(
            self._ask(metric, where, first, second), units, self.seed, ways, limits
        )
        return Together(by_units, weighted) if of_sums else by_units

    def _ask(self, metric: str, where: Where, first: str, second: str) -> permutation.Ask:
        ours, theirs = (self.ratio(metric, where, name) for name in (first, second))
        if ours is not None and theirs is not None:
            return permutation.of_ratio(ours, theirs, self.units(where))
        one, two = (self.frame(name, where) for name in (first, second))
        assert one is not None and two is not None
        return permutation.of_rows(self.recipe.metric, one, two, metric, self.units(where))

    def _reweighted(self, metric: str, where: Where, *models: str) -> list[Reweighted]:
        """Models' ratios under the draws of these rows, all their metrics measured at once."""
        missing = [model for model in models if (where.key, model) not in self._sums]
        if missing:
            draws = Resamples(self.units(where), self.settings.resamples, self.seed)
            ratios = {model: self._all_ratios(where, model) for model in missing}
            measured = draws.ratios(ratios)
            for model in missing:
                self._sums[where.key, model] = {
                    name: by_model[model] for name, by_model in measured.items()
                }
        return [
            Reweighted.of(
                self._sums[where.key, model][metric], self.units(where), self.limits(metric)
            )
            for model in models
        ]

    def slices(self, columns: tuple[str, ...], required: tuple[str, ...]) -> list[Where]:
        """The slices of one column or of several crossed.

        Those of too few rows pooled at the end.
        """
        for column in columns:
            if column not in self.rows:
                has = ", ".join(self.settings.slices)
                raise Fault(f"no slice column '{column}'; score.slices has {has}")
        groups = self._groups(columns)
        title, least = "+".join(columns), self.settings.min_rows
        found, small = [], []
        for key, places in groups:
            if key in required or len(places) >= least:
                found.append(Where(f"{title}={key}", np.asarray(places), key in required))
            else:
                small.append(places)
        there = {key for key, _ in groups}
        for key in required:
            if key not in there:
                found.append(Where(f"{title}={key}", np.array([], dtype=int), True))
        if small:
            places = np.sort(np.concatenate(small))
            name = f"{title}={POOLED}"
            found.append(Where(name, places, pooled=len(small), small=len(places) < least))
        return found

    def _groups(self, columns: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
        """The places of each value, or of each combination of values, in the order of its name.

        Values may hold a comma, so two combinations can have one name.
        """
        by_values = self.rows.groupby(list(columns)).indices
        named = []
        for values, places in by_values.items():
            name = ", ".join(map(str, values)) if isinstance(values, tuple) else str(values)
            named.append((name, np.asarray(places)))
        return sorted(named, key=lambda pair: pair[0])
