"""python -m tasks.judge --run PATH, or RECIPE [key=value ...]: ask every gate."""

import numpy as np

from tasks.judge.comparison import Bench, Where
from tasks.judge.gates import ask
from tasks.judge.resample import Draws, Measured
from tasks.judge.verdict import verdict
from tidemill.records.receipts import Exported, Finding, Judged, Scored
from tidemill.run import main, plan
from tidemill.runtime import process

TABLE_RESAMPLES = 200  # for intervals that are shown and decide nothing
Row = dict[str, str | int | float | None]


def judge(this: plan.Plan) -> Judged:
    scored = plan.read("score", Scored, this)
    bench = Bench(this, scored, plan.read("export", Exported, this))
    findings: list[Finding] = []
    for number, gate in enumerate(this.recipe.gates):
        process.progress(number, len(this.recipe.gates), "gates", gate=gate.name)
        findings += ask(gate, bench)
    process.progress(len(this.recipe.gates), len(this.recipe.gates), "gates")
    answer, because = verdict(findings)
    if scored.unclear and answer == "PROMOTE":
        answer, because = "HOLD", scored.unclear
    return Judged(
        verdict=answer,  # type: ignore[arg-type]
        because=because,
        findings=findings,
        table=table(bench),
        champion=scored.champion,
        looks=scored.looks,
        notes=notes(findings, scored.looks),
    )


def notes(findings: list[Finding], looks: int) -> list[str]:
    """What a person should know and no gate decides: the worst slice, and how worn the test rows are."""
    found = []
    sliced = [
        item
        for item in findings
        if "=" in item.slice
        and item.kind in ("no_worse", "better")
        and item.figure is not None
        and item.low is not None
    ]
    if sliced:
        worst = min(sliced, key=lambda item: item.figure or 0.0)
        found.append(f"the worst slice is {worst.slice}: {worst.reason}")
    errors = [
        item.detectable / 2.49
        for item in findings
        if item.kind in ("no_worse", "better") and item.slice == "all" and item.detectable
    ]
    if looks > 1 and errors:
        # The largest of n equal models' errors is about sqrt(2 ln n) standard errors (Cramer 1946).
        luck = max(errors) * float(np.sqrt(2 * np.log(looks)))
        found.append(
            f"these test rows were looked at {looks} times; of as many equal models the luckiest looks better by about {luck:.4f}"
            + ("; they are being worn out, add new test rows" if looks >= 100 else "")
        )
    return found


def table(bench: Bench) -> list[Row]:
    """Every model on the whole and on each slice of enough rows: its figure, and the candidate's interval."""
    name = next(iter(bench.recipe.metrics))
    found = [_row(bench, name, bench.all)]
    for column in bench.settings.slices:
        for value, places in sorted(bench.rows.groupby(column).indices.items()):
            if len(places) < bench.settings.min_rows:
                continue
            found.append(_row(bench, name, Where(f"{column}={value}", np.asarray(places))))
    return found


def _row(bench: Bench, metric: str, where: Where) -> Row:
    units = bench.units(where)
    row: Row = {"slice": where.name, "rows": len(where.rows), "units": units.count}
    for model in bench.models():
        answered = bench.answered[model][where.rows]
        if answered.any():
            part = Where(where.name, where.rows[answered])
            row[model] = round(bench.figure(metric, part, model), 4)
            if not answered.all():
                row[f"{model} rows"] = int(answered.sum())
    if interval := _interval(bench, metric, where):
        row["low"], row["high"] = (round(end, 4) for end in interval)
    return row


def _interval(bench: Bench, metric: str, where: Where) -> tuple[float, float] | None:
    """The candidate's interval: a gate's where one measured it, else of fewer resamples; None where none can be had."""
    if (
        bench.units(where).effective < bench.settings.min_units
        or bench.frame("candidate", where) is None
    ):
        return None
    known = bench._measured.get((metric, where.name), {}).get("candidate")
    estimate: object = known or (
        bench.alone(metric, where)
        if bench.scarce(where) and len(where.rows) <= 2_000
        else _quick(bench, metric, where)
    )
    if not (estimate.sound() and estimate.surrounded()):  # type: ignore[attr-defined]
        return None
    low, high = estimate.interval(bench.settings.alpha)  # type: ignore[attr-defined]
    return low, high


def _quick(bench: Bench, metric: str, where: Where) -> Measured:
    frame = bench.frame("candidate", where)
    assert frame is not None
    draws = Draws(bench.units(where), min(TABLE_RESAMPLES, bench.settings.resamples), bench.seed)
    ratios = bench.recipe.ratios(frame)
    if metric in ratios:
        return draws.ratios({"candidate": {metric: ratios[metric]}})[metric]["candidate"]
    return draws.measure(bench.recipe.metric, {"candidate": frame}, metric)["candidate"]


if __name__ == "__main__":
    main.of_run(judge, "judge")
