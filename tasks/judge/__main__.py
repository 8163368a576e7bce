"""python -m tasks.judge --run PATH, or RECIPE [key=value ...]: ask every gate."""

import math

import numpy as np
from scipy import stats

from tasks.judge.comparison import Comparison, Where
from tasks.judge.gates import ask
from tasks.judge.reuse import pass_level
from tasks.judge.segments import weak
from tasks.judge.verdict import verdict
from tidemill.contract import Metric
from tidemill.engines.config.schema.judging import unread
from tidemill.records.receipts import Exported, Finding, Judged, Reuse, Scored, Simpler
from tidemill.run import main, plan
from tidemill.runtime import process

Row = dict[str, str | int | float | None]


def judge(this: plan.Plan) -> Judged:
    scored = plan.read("score", Scored, this)
    comparison = Comparison.of(this, scored, plan.read("export", Exported, this))
    findings: list[Finding] = []
    for number, gate in enumerate(this.recipe.gates):
        process.progress(number, len(this.recipe.gates), "gates", gate=gate.name)
        findings += ask(gate, comparison)
    process.progress(len(this.recipe.gates), len(this.recipe.gates), "gates")
    answer, because = verdict(findings)
    if scored.unclear and answer == "PROMOTE":
        answer, because = "HOLD", scored.unclear
    return Judged(
        verdict=answer,  # type: ignore[arg-type]
        because=because,
        findings=findings,
        table=table(comparison),
        champion=scored.champion,
        reuse=scored.reuse,
        simpler=best_simpler(comparison),
        notes=notes(findings, scored.reuse, this.recipe.score.alpha)
        + [str(segment) for segment in weak(comparison)]
        + unread(this.recipe.gates, this.recipe.score),
    )


VERSIONS = ("candidate", "champion", "anchor")


def best_simpler(comparison: Comparison) -> Simpler | None:
    """The best on the test rows of all models that are no version of this application."""
    metric, where = next(iter(comparison.recipe.metrics)), comparison.all
    figures = {
        model: comparison.figure(metric, where, model)
        for model in comparison.models()
        if model not in VERSIONS
    }
    known = {model: figure for model, figure in figures.items() if np.isfinite(figure)}
    own = comparison.figure(metric, where)
    if not known or not np.isfinite(own):
        return None
    best = max(known, key=lambda model: comparison.better(metric) * known[model])
    ends: tuple[float | None, float | None] = (None, None)
    if comparison.units(where).effective >= comparison.settings.min_units:
        estimate = comparison.difference(metric, where, best)
        if estimate.sound():
            low, high = estimate.interval(comparison.settings.alpha)
            ends = (round(low, 4), round(high, 4))
    gain = round(own - known[best], 4)
    return Simpler(model=best, figure=round(known[best], 4), gain=gain, low=ends[0], high=ends[1])


def notes(findings: list[Finding], reuse: Reuse, alpha: float) -> list[str]:
    """What a person should know and no gate decides: the worst slice, and how worn the rows are."""
    compared = [item for item in findings if item.kind in ("no_worse", "better")]
    sliced = [
        item
        for item in compared
        if "=" in item.slice and item.figure is not None and item.low is not None
    ]
    lines = []
    if sliced:
        worst = min(sliced, key=lambda item: item.figure or 0.0)
        lines.append(f"the worst slice is {worst.slice}: {worst.reason}")
    return lines + worn(compared, reuse, alpha)


def worn(compared: list[Finding], reuse: Reuse, alpha: float) -> list[str]:
    """How often these test rows were asked, and what follows of it."""
    lines = []
    level = pass_level(alpha, reuse.tries)
    if reuse.tries > 1:
        lines.append(
            f"this is candidate {reuse.tries:.3g} that is asked these test rows for the next "
            f"promotion, so a pass needs a p-value of {level:.2g}, where the first needed "
            f"{pass_level(alpha, 1):.2g}; new test rows lessen it, a new champion ends it"
        )
    reach = float(stats.norm.isf(level) + stats.norm.ppf(0.8))
    errors = [
        item.detectable / reach for item in compared if item.slice == "all" and item.detectable
    ]
    if reuse.asked > 1 and errors:
        # The largest of n equal models' errors is about sqrt(2 ln n) standard errors (Cramer 1946).
        luck = max(errors) * float(np.sqrt(2 * np.log(reuse.asked)))
        lines.append(
            f"{reuse.asked} candidates were ever asked some of these test rows; of as many equal "
            f"models the luckiest looks better by about {luck:.4f}"
        )
    return lines


def table(comparison: Comparison) -> list[Row]:
    """Every model on the whole and on each slice of enough rows.

    Its figure, and the candidate's interval.
    """
    name = next(iter(comparison.recipe.metrics))
    rows = [_row(comparison, name, comparison.all)]
    for column in comparison.settings.slices:
        for value, places in sorted(comparison.rows.groupby(column).indices.items()):
            if len(places) >= comparison.settings.min_rows:
                where = Where(f"{column}={value}", np.asarray(places))
                rows.append(_row(comparison, name, where))
    return rows


def _row(comparison: Comparison, metric: str, where: Where) -> Row:
    units = comparison.units(where)
    row: Row = {"slice": where.name, "rows": len(where.rows), "units": units.count}
    for model in comparison.models():
        answered = comparison.answered[model][where.rows]
        if answered.any():
            part = Where(where.name, where.rows[answered])
            row[model] = round(comparison.figure(metric, part, model), 4)
            if not answered.all():
                row[f"{model} rows"] = int(answered.sum())
    if interval := _interval(comparison, metric, where):
        meaning = comparison.recipe.metrics[metric]
        row["low"], row["high"] = (round(within(meaning, end), 4) for end in interval)
    return row


def within(meaning: Metric, end: float) -> float:
    """An interval's end, no further out than the metric itself can be.

    An interval that is as wide upwards as downwards (basic bootstrap) may end beyond it.
    """
    low = -math.inf if meaning.low is None else meaning.low
    high = math.inf if meaning.high is None else meaning.high
    return min(max(end, low), high)


def _interval(comparison: Comparison, metric: str, where: Where) -> tuple[float, float] | None:
    """The candidate's interval; None where none can be had, or it would take too long."""
    few = comparison.units(where).effective < comparison.settings.min_units
    if few or comparison.frame("candidate", where) is None:
        return None
    estimate = comparison.alone(metric, where)
    if not estimate.sound():
        return None
    return estimate.interval(comparison.settings.alpha)


if __name__ == "__main__":
    main.of_run(judge, "judge")
