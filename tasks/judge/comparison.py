"""The score frames of one run, and what was measured on them so far."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from tasks.judge import permutation
from tasks.judge.resample import Draws, Measured, Units
from tasks.judge.series import diebold_mariano
from tidemill import contract
from tidemill.contract import Application
from tidemill.records.receipts import Exported, Scored
from tidemill.run import plan
from tidemill.runtime.errors import Fault

POOLED = "small slices together"


class Estimate(Protocol):
    """A figure, or a difference of two, and how sure it is."""

    figure: float

    def __neg__(self) -> "Estimate": ...
    def sound(self) -> bool: ...
    def surrounded(self) -> bool: ...
    def error(self) -> float: ...
    def interval(self, alpha: float) -> tuple[float, float]: ...
    def p_at_most(self, value: float) -> float: ...
    def p_at_least(self, value: float) -> float: ...
    def detectable(self, alpha: float, power: float = 0.8) -> float: ...


@dataclass(frozen=True)
class Where:
    """Some of the test rows: all, or one slice."""

    name: str  # "all", or "domain=udhr", or "domain+length=udhr, 1 to 10"
    rows: np.ndarray  # their places
    required: bool = False
    pooled: int = 0  # how many small slices these are together


class Bench:
    def __init__(self, this: plan.Plan, scored: Scored, exported: Exported) -> None:
        self.plan, self.settings, self.scored, self.exported = (
            this,
            this.recipe.score,
            scored,
            exported,
        )
        self.recipe: Application[Any, Any, Any] = contract.application(this.application)
        self.seed = this.recipe.seed
        self.frames = {name: pd.read_parquet(file.open()) for name, file in scored.frames.items()}
        self.rows = self.frames.pop("rows")
        self.answered = {
            name: frame.notna().all(axis=1).to_numpy() for name, frame in self.frames.items()
        }
        self.all = Where("all", np.arange(len(self.rows)), required=True)
        self._units: dict[str, Units] = {}
        self._measured: dict[tuple[str, str], dict[str, Measured]] = {}

    def better(self, metric: str) -> int:
        """1 where higher is better, else -1."""
        if metric not in self.recipe.metrics:
            raise Fault(f"no metric '{metric}'; the recipe has {', '.join(self.recipe.metrics)}")
        return 1 if self.recipe.metrics[metric].better == "higher" else -1

    def units(self, where: Where) -> Units:
        if where.name not in self._units:
            self._units[where.name] = Units(self.rows["unit"].iloc[where.rows])
        return self._units[where.name]

    def frame(self, model: str, where: Where) -> pd.DataFrame | None:
        """A model's rows there; None where it did not answer them all."""
        whole = self.frames.get(model)
        if whole is None or not self.answered[model][where.rows].all():
            return None
        return (
            whole
            if len(where.rows) == len(whole)
            else whole.iloc[where.rows].reset_index(drop=True)
        )

    def models(self) -> list[str]:
        """The models that were asked the test rows as they are."""
        return [
            name for name in self.frames if "~" not in name and name not in ("overlap", "times")
        ]

    def figure(self, metric: str, where: Where, model: str = "candidate") -> float:
        part = self.frame(model, where)
        return (
            float("nan")
            if part is None
            else float(
                self.recipe.metric(part, np.ones((1, len(part)), dtype=np.float32))[metric][0]
            )
        )

    def scarce(self, where: Where) -> bool:
        return self.units(where).effective < self.settings.few_units

    def alone(self, metric: str, where: Where, model: str = "candidate") -> Estimate:
        if self.scarce(where):
            return permutation.alone(self._ask(metric, where, model, model), self.units(where))
        return self._resampled(metric, where, (model,))[model]

    def difference(
        self,
        metric: str,
        where: Where,
        other: str,
        method: str = "resample",
        model: str = "candidate",
    ) -> Estimate:
        """The candidate's figure less the other's, on the same rows under the same draws."""
        if method == "diebold_mariano":
            ours, theirs = (self._ratio(metric, where, name) for name in (model, other))
            if ours is None or theirs is None:
                raise Fault(
                    f"diebold_mariano needs a metric that is a ratio of sums over rows; the recipe's `ratios` does not give {metric}"
                )
            return diebold_mariano(ours, theirs, self.units(where))
        if self.scarce(where):
            return permutation.paired(
                self._ask(metric, where, model, other),
                self.units(where),
                self.seed,
                self.settings.resamples,
            )
        found = self._resampled(metric, where, (model, other))
        return found[model] - found[other]

    def double(
        self, metric: str, where: Where, ours: tuple[str, str], theirs: tuple[str, str]
    ) -> Estimate:
        """The difference of two changes: (ours after - ours before) - (theirs after - theirs before), all on the same rows."""
        if self.scarce(where):
            before, after = (
                permutation.paired(
                    self._ask(metric, where, one, other),
                    self.units(where),
                    self.seed,
                    self.settings.resamples,
                )
                for one, other in zip(ours, theirs, strict=True)
            )
            return after - before
        found = self._resampled(metric, where, (*ours, *theirs))
        return (found[ours[1]] - found[theirs[1]]) - (found[ours[0]] - found[theirs[0]])

    def _ratio(self, metric: str, where: Where, model: str) -> tuple[np.ndarray, np.ndarray] | None:
        part = self.frame(model, where)
        assert part is not None
        return self.recipe.ratios(part).get(metric)

    def _ask(self, metric: str, where: Where, first: str, second: str) -> permutation.Ask:
        ours, theirs = (self._ratio(metric, where, name) for name in (first, second))
        if ours is not None and theirs is not None:
            return permutation.of_ratio(ours, theirs, self.units(where))
        one, two = (self.frame(name, where) for name in (first, second))
        assert one is not None and two is not None
        return permutation.of_rows(self.recipe.metric, one, two, metric, self.units(where))

    def _resampled(self, metric: str, where: Where, models: tuple[str, ...]) -> dict[str, Measured]:
        """These models under the same draws; a ratio is measured together with all the recipe's others."""
        known = self._measured.setdefault((metric, where.name), {})
        missing = [name for name in models if name not in known]
        if not missing:
            return known
        draws = Draws(self.units(where), self.settings.resamples, self.seed)
        frames = {name: part for name in missing if (part := self.frame(name, where)) is not None}
        ratios = {name: self.recipe.ratios(part) for name, part in frames.items()}
        if all(metric in found for found in ratios.values()):
            for name, found in draws.ratios(ratios).items():
                self._measured.setdefault((name, where.name), {}).update(found)
        else:
            known |= draws.measure(self.recipe.metric, frames, metric)
            self._measured[metric, where.name] = known
        return self._measured[metric, where.name]

    def slices(self, columns: tuple[str, ...], required: tuple[str, ...]) -> list[Where]:
        """The slices of one column or of several crossed; those of too few rows are pooled at the end."""
        for column in columns:
            if column not in self.rows:
                raise Fault(
                    f"no slice column '{column}'; score.slices has {', '.join(self.settings.slices)}"
                )
        keys = (
            self.rows[list(columns)].agg(", ".join, axis=1)
            if len(columns) > 1
            else self.rows[columns[0]]
        )
        groups = {str(key): places for key, places in sorted(keys.groupby(keys).indices.items())}
        title = "+".join(columns)
        found, small = [], []
        for key, places in groups.items():
            if key in required or len(places) >= self.settings.min_rows:
                found.append(Where(f"{title}={key}", np.asarray(places), key in required))
            else:
                small.append(places)
        found += [
            Where(f"{title}={key}", np.array([], dtype=int), True)
            for key in required
            if key not in groups
        ]
        if small:
            found.append(
                Where(f"{title}={POOLED}", np.sort(np.concatenate(small)), pooled=len(small))
            )
        return found
