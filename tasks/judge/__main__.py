"""python -m tasks.judge RECIPE [key=value ...]: ask every gate."""

from typing import Any

import numpy as np
import pandas as pd

import recipes
from recipes.base import Recipe
from tasks import plan, process
from tasks.errors import Fault
from tasks.judge.resample import Draws, Measured
from tasks.judge.verdict import non_inferior, superior, verdict, within
from tasks.receipts import Exported, Finding, Judged, Scored
from tasks.schema import Gate

POOLED = "small slices together"
TABLE_RESAMPLES = 200   # for intervals that are shown and decide nothing


class Bench:
    """The score frames of one run, and what was measured on them so far."""

    def __init__(self, this: plan.Plan, scored: Scored, exported: Exported) -> None:
        self.settings, self.scored, self.exported = this.recipe.score, scored, exported
        self.recipe: Recipe = recipes.load(this.application)(**this.recipe.model)
        self.seed = this.recipe.seed
        self.frames = {name: pd.read_parquet(file.open()) for name, file in scored.frames.items()}
        self.rows = self.frames.pop("rows")
        self.measured: dict[tuple[str, str], tuple[dict[str, Measured], int, int]] = {}

    def better(self, metric: str) -> int:
        if metric not in self.recipe.metrics:
            raise Fault(f"no metric '{metric}'; the recipe has {', '.join(self.recipe.metrics)}")
        return 1 if self.recipe.metrics[metric].better == "higher" else -1

    def mask(self, column: str, value: str) -> np.ndarray:
        if not column:
            return np.ones(len(self.rows), dtype=bool)
        return (self.rows[column] == value).to_numpy()

    def measure(self, metric: str, column: str, value: str, mask: np.ndarray, models: tuple[str, ...]) -> tuple[dict[str, Measured], int, int]:
        """These models, those that answer all rows, under the same draws; rows and units."""
        key = (metric, f"{column}={value}")
        known, rows, units = self.measured.get(key, ({}, int(mask.sum()), int(self.rows["unit"][mask].nunique())))
        frames = {
            name: frame[mask].reset_index(drop=True) for name, frame in self.frames.items()
            if name in models and name not in known and frame[mask].notna().all(axis=None)
        }
        if frames:
            known = {**known, **Draws(self.rows["unit"][mask], self.settings.resamples, self.seed).measure(self.recipe.metric, frames, metric)}
        self.measured[key] = (known, rows, units)
        return self.measured[key]


def judge(this: plan.Plan) -> Judged:
    scored = plan.read("score", Scored, this)
    bench = Bench(this, scored, plan.read("export", Exported, this))
    findings: list[Finding] = []
    for number, gate in enumerate(this.recipe.gates):
        process.progress(number, len(this.recipe.gates), "gates", gate=gate.name)
        findings += ask(gate, bench)
    process.progress(len(this.recipe.gates), len(this.recipe.gates), "gates")
    answer, because = verdict(findings)
    return Judged(verdict=answer, because=because, findings=findings, table=table(bench), champion=scored.champion)  # type: ignore[arg-type]


def ask(gate: Gate, bench: Bench) -> list[Finding]:
    """One gate's findings: one for the whole, or one for each slice."""
    if gate.kind == "same":
        assert gate.at_most is not None
        return [_plain(gate, bench.exported.parity, "largest difference from torch over three shapes")]
    if gate.kind == "small":
        return [_plain(gate, round(bench.exported.bytes / 1e6, 2), "MB on disk")]
    if not gate.by:
        return [_ask(gate, bench, "all", bench.mask("", ""), required=True)]
    if gate.by not in bench.rows:
        raise Fault(f"gate {gate.name}: no slice column '{gate.by}'; score.slices has {', '.join(bench.settings.slices)}")
    counts = bench.rows[gate.by].value_counts().sort_index()
    asked = [value for value in counts.index if counts[value] >= bench.settings.min_rows or value in gate.required]
    asked += [value for value in gate.required if value not in counts.index]
    findings = [_ask(gate, bench, value, bench.mask(gate.by, value), value in gate.required) for value in asked]
    small = [value for value in counts.index if value not in asked]
    if small:
        mask = bench.rows[gate.by].isin(small).to_numpy()
        finding = _ask(gate, bench, POOLED, mask, required=False)
        findings.append(finding.model_copy(update={"reason": f"{len(small)} slices under {bench.settings.min_rows} rows, pooled: {finding.reason}"}))
    return findings


def _plain(gate: Gate, figure: float, what: str) -> Finding:
    """A figure without a sampling error against its bound."""
    bound = gate.at_most if gate.at_most is not None else gate.at_least
    good = bool(np.isfinite(figure)) and within(figure, figure, gate.at_least, gate.at_most) == "pass"
    return Finding(gate=gate.name, kind=gate.kind, slice="all", metric=what, answer="pass" if good else "fail",
                   figure=figure if np.isfinite(figure) else None, bound=bound, required=True,
                   reason=f"{figure:.3g} {what}, the bound is {bound:g}")


def _ask(gate: Gate, bench: Bench, value: str, mask: np.ndarray, required: bool) -> Finding:
    base: dict[str, Any] = {"gate": gate.name, "kind": gate.kind, "slice": value if value == "all" else f"{gate.by}={value}", "metric": gate.metric, "required": required}
    other = {"no_worse": gate.against, "better": gate.against, "sane": "trivial"}.get(gate.kind)
    if other == "champion" and bench.scored.champion is None:
        return Finding(**base, answer="not applicable", figure=None, reason="no champion yet")
    if not mask.any():
        return Finding(**base, answer="unclear" if required else "reported", figure=None, reason="no test row is in this slice")
    models, rows, units = bench.measure(gate.metric, gate.by if value != "all" else "", value if value != "all" else "", mask, ("candidate", *([other] if other else [])))
    base |= {"rows": rows, "units": units}
    if "candidate" not in models or (other and other not in models):
        missing = "candidate" if "candidate" not in models else other
        return Finding(**base, answer="fail" if missing == "candidate" else "unclear", figure=None, reason=f"the {missing} has no whole answers here")
    sign = bench.better(gate.metric)
    ours = models["candidate"]
    shown = ours if other is None else ours - models[other]
    measured = shown if sign > 0 or other is None else -shown
    if not measured.sound():
        return Finding(**base, answer="fail", figure=None, reason=f"{gate.metric} is not a number")
    if units < bench.settings.min_units:
        return Finding(**base, answer="unclear" if required else "reported", figure=shown.figure,
                       reason=f"{units} units are too few for a claim; {bench.settings.min_units} are needed")
    if not measured.surrounded():
        return Finding(**base, answer="unclear" if required else "reported", figure=shown.figure,
                       reason=f"{gate.metric} of the resamples is biased on these {units} units; no claim")
    low, high = measured.interval(bench.settings.alpha)
    if gate.kind == "limit":
        bound = gate.at_least if gate.at_least is not None else gate.at_most
        answer = within(low, high, gate.at_least, gate.at_most)
        reason = f"{gate.metric} {ours.figure:.4f} [{low:.4f}, {high:.4f}], the bound is {bound:g}"
    else:
        bound = -gate.margin if gate.kind == "no_worse" else gate.margin
        answer = non_inferior(low, high, gate.margin) if gate.kind == "no_worse" else superior(low, high, gate.margin)
        least = measured.detectable(bench.settings.alpha)
        if answer == "unclear" and not required:
            answer = "reported"
        words = {"pass": "", "fail": "surely worse; " if gate.kind == "no_worse" else "surely not better; ",
                 "unclear": f"not enough evidence (smallest detectable difference {least:.4f}); ", "reported": f"not enough evidence (smallest detectable difference {least:.4f}); "}[answer]
        reason = f"{words}{gate.metric} {ours.figure:.4f} against {models[other].figure:.4f} of the {other}, better by {measured.figure:+.4f} [{low:+.4f}, {high:+.4f}], the bound is {bound:g}"  # type: ignore[index]
    base |= {"answer": answer, "figure": round(measured.figure, 6), "low": round(low, 6), "high": round(high, 6)}
    return Finding(**base, bound=bound, reason=reason)


def table(bench: Bench) -> list[dict[str, str | int | float | None]]:
    """Every model on the whole and on each slice of enough rows: its figure, and the candidate's interval."""
    name = next(iter(bench.recipe.metrics))
    found: list[dict[str, str | int | float | None]] = []
    one = np.ones((1, len(bench.rows)), dtype=np.float32)
    for column in ("", *bench.settings.slices):
        values = [""] if not column else sorted(bench.rows[column].unique())
        for value in values:
            mask = bench.mask(column, value)
            if mask.sum() < bench.settings.min_rows and column:
                continue
            row: dict[str, str | int | float | None] = {"slice": f"{column}={value}" if column else "all", "rows": int(mask.sum()), "units": int(bench.rows["unit"][mask].nunique())}
            for model, frame in bench.frames.items():
                there = frame.notna().all(axis=1).to_numpy() & mask
                if there.any():
                    row[model] = round(float(bench.recipe.metric(frame[there].reset_index(drop=True), one[:, there])[name][0]), 4)
                    if there.sum() < mask.sum():
                        row[f"{model} rows"] = int(there.sum())
            key = (name, f"{column}={value}")
            if (key in bench.measured or (column, value) == ("", "")) and (measured := bench.measured.get(key, ({}, 0, 0))[0].get("candidate")):
                low, high = measured.interval(bench.settings.alpha)
                row["low"], row["high"] = round(low, 4), round(high, 4)
            elif int(row["units"] or 0) >= bench.settings.min_units:
                few = Draws(bench.rows["unit"][mask], min(TABLE_RESAMPLES, bench.settings.resamples), bench.seed)
                measured = few.measure(bench.recipe.metric, {"candidate": bench.frames["candidate"][mask].reset_index(drop=True)}, name)["candidate"]
                if measured.sound() and measured.surrounded():
                    low, high = measured.interval(bench.settings.alpha)
                    row["low"], row["high"] = round(low, 4), round(high, 4)
            found.append(row)
    return found


if __name__ == "__main__":
    plan.main("judge", judge)
