"""The gates: each kind asks its question of the bench and answers with findings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from tasks.judge import calibration
from tasks.judge.comparison import Bench, Estimate, Where
from tasks.judge.verdict import adjusted, answered
from tidemill.engines.config.schema import Gate
from tidemill.kit.metrics.classes import right
from tidemill.records.receipts import Answer, Finding

NULL_DRAWS = 200
CALIBRATION_RESAMPLES = 200


def ask(gate: Gate, bench: Bench) -> list[Finding]:
    """One gate's findings: one for the whole, or one for each slice or perturbation."""
    findings = KINDS[gate.kind](gate, bench)
    if gate.action == "warn":
        findings = [
            item.model_copy(update={"answer": "reported"})
            if item.answer in ("fail", "unclear")
            else item
            for item in findings
        ]
    return findings


@dataclass(frozen=True)
class Claim:
    """What a gate asks of one slice: `shown` has its good side above `bound`."""

    where: Where
    estimate: Estimate  # higher is better
    bound: float
    figure: float  # as a person reads it: the metric, or the difference
    words: str
    upwards: bool = True  # whether what is shown to a person keeps that sign


def _base(gate: Gate, where: Where, metric: str = "") -> dict[str, Any]:
    return {
        "gate": gate.name,
        "kind": gate.kind,
        "slice": where.name,
        "metric": metric or gate.metric,
        "required": where.required,
        "rows": len(where.rows),
    }


def _nothing(gate: Gate, bench: Bench, where: Where, others: Sequence[str]) -> Finding | None:
    """A finding where there is nothing to measure, else None."""
    base = _base(gate, where)
    open_end: Answer = "unclear" if where.required else "reported"
    if not len(where.rows):
        return Finding(**base, answer=open_end, figure=None, reason="no test row is in this slice")
    units = bench.units(where)
    base["units"] = units.count
    for model in ("candidate", *others):
        if bench.frame(model, where) is None:
            why = bench.scored.skipped.get(model, "")
            return Finding(
                **base,
                answer="fail" if model == "candidate" else "unclear",
                figure=None,
                reason=f"the {model} has no whole answers here{f' ({why})' if why else ''}",
            )
        if not np.isfinite(bench.figure(gate.metric, where, model)):
            return Finding(
                **base,
                answer="fail" if model == "candidate" else "unclear",
                figure=None,
                reason=f"{gate.metric} of the {model} is not a number",
            )
    if units.effective < bench.settings.min_units:
        few = (
            f"{units.count} units"
            if units.effective > units.count - 0.5
            else f"{units.count} units of unequal size, as good as {units.effective:.1f},"
        )
        return Finding(
            **base,
            answer=open_end,
            figure=round(bench.figure(gate.metric, where), 6),
            reason=f"{few} are too few for a claim; {bench.settings.min_units} are needed",
        )
    return None


def _decided(gate: Gate, bench: Bench, claims: Sequence[Claim]) -> list[Finding]:
    """Claims of one gate, corrected for being several, as findings."""
    alpha = bench.settings.alpha
    sound = [claim for claim in claims if claim.estimate.sound() and claim.estimate.surrounded()]
    good, bad = adjusted(
        gate.kind,
        [claim.estimate.p_at_most(claim.bound) for claim in sound],
        [claim.estimate.p_at_least(claim.bound) for claim in sound],
    )
    p_values = {
        id(claim): pair for claim, pair in zip(sound, zip(good, bad, strict=True), strict=True)
    }
    findings = []
    for claim in claims:
        where, estimate = claim.where, claim.estimate
        base = _base(gate, where) | {"units": bench.units(where).count}
        if not estimate.sound():
            findings.append(
                Finding(
                    **base,
                    answer="fail",
                    figure=None,
                    reason=f"{gate.metric} is not a number in every resample",
                )
            )
            continue
        if id(claim) not in p_values:
            findings.append(
                Finding(
                    **base,
                    answer="unclear" if where.required else "reported",
                    figure=round(claim.figure, 6),
                    reason=f"{gate.metric} of the resamples is biased on these {base['units']} units; no claim",
                )
            )
            continue
        answer = answered(*p_values[id(claim)], alpha)
        least = estimate.detectable(alpha)
        low, high = estimate.interval(alpha)
        if not claim.upwards:
            low, high = -high, -low
        doubt = (
            f"not enough evidence (it would take a difference of {least:.4f}); "
            if answer == "unclear"
            else ""
        )
        if answer == "unclear" and not where.required:
            answer = "reported"
        pooled = (
            f"{where.pooled} slices under {bench.settings.min_rows} rows, pooled: "
            if where.pooled
            else ""
        )
        bound = claim.bound if claim.upwards else -claim.bound
        findings.append(
            Finding(
                **base,
                answer=answer,
                figure=round(claim.figure, 6),
                low=round(low, 6),
                high=round(high, 6),
                bound=bound,
                p=round(p_values[id(claim)][0], 6),
                detectable=round(least, 6),
                reason=f"{pooled}{doubt}{claim.words} [{low:+.4f}, {high:+.4f}], the bound is {bound:g}",
            )
        )
    return findings


def _places(gate: Gate, bench: Bench) -> list[Where]:
    return bench.slices(gate.by, gate.required) if gate.by else [bench.all]


def limit(gate: Gate, bench: Bench) -> list[Finding]:
    """The bound of the metric's interval, not its figure, against a floor or a ceiling."""
    findings, claims = [], []
    upwards = gate.at_least is not None
    bound = gate.at_least if gate.at_least is not None else gate.at_most
    assert bound is not None
    bench.better(gate.metric)
    for where in _places(gate, bench):
        if nothing := _nothing(gate, bench, where, ()):
            findings.append(nothing)
            continue
        estimate = bench.alone(gate.metric, where)
        words = f"{gate.metric} {estimate.figure:.4f}"
        claims.append(
            Claim(
                where,
                estimate if upwards else -estimate,
                bound if upwards else -bound,
                estimate.figure,
                words,
                upwards,
            )
        )
    return findings + _decided(gate, bench, claims)


def compared(gate: Gate, bench: Bench) -> list[Finding]:
    """no_worse, better, sane: the candidate against another model on the same rows."""
    other = "trivial" if gate.kind == "sane" else gate.against
    if other == "champion" and bench.scored.champion is None:
        return [
            Finding(
                **_base(gate, bench.all),
                answer="not applicable",
                figure=None,
                reason="no champion yet",
            )
        ]
    sign = bench.better(gate.metric)
    bound = -gate.margin if gate.kind == "no_worse" else gate.margin
    findings, claims = [], []
    for where in _places(gate, bench):
        if nothing := _nothing(gate, bench, where, (other,)):
            findings.append(nothing)
            continue
        estimate = bench.difference(gate.metric, where, other, gate.method)
        theirs = bench.figure(gate.metric, where, other)
        words = f"{gate.metric} {theirs + estimate.figure:.4f} against {theirs:.4f} of the {other}, {by(sign * estimate.figure)}"
        claims.append(
            Claim(
                where,
                estimate if sign > 0 else -estimate,
                bound,
                sign * estimate.figure,
                words + mcnemar(bench, where, other),
            )
        )
    return findings + _decided(gate, bench, claims)


def by(figure: float) -> str:
    """A difference in words; positive is better."""
    return (
        f"{'better' if figure > 0 else 'worse'} by {abs(figure):.4f}"
        if round(figure, 4)
        else "no difference"
    )


def mcnemar(bench: Bench, where: Where, other: str) -> str:
    """The rows that one model alone got right, and McNemar's exact test of them; nothing where rows are not independent."""
    frames = [bench.frame(model, where) for model in ("candidate", other)]
    if (
        where.name != "all"
        or any(frame is None for frame in frames)
        or bench.units(where).count < len(where.rows)
    ):
        return ""
    ours, theirs = (right(frame) for frame in frames)  # type: ignore[arg-type]
    if ours is None or theirs is None:
        return ""
    won, lost = (
        int(((ours > 0.5) & (theirs < 0.5)).sum()),
        int(((ours < 0.5) & (theirs > 0.5)).sum()),
    )
    p = stats.binomtest(won, won + lost, 0.5).pvalue if won + lost else 1.0
    return f" (rows won {won}, lost {lost}, McNemar p {p:.3g})"


def robust(gate: Gate, bench: Bench) -> list[Finding]:
    """How much of the metric each perturbation takes, against what it takes from the champion, or against a ceiling."""
    names = sorted(name.split("~", 1)[1] for name in bench.frames if name.startswith("candidate~"))
    if not names:
        return [
            Finding(
                **_base(gate, bench.all),
                answer="unclear",
                figure=None,
                reason="the recipe names no perturbation; write its `perturbations`, or remove the gate",
            )
        ]
    champion = bench.scored.champion is not None and gate.at_most is None
    if gate.at_most is None and not champion:
        return [
            Finding(
                **_base(gate, bench.all),
                answer="not applicable",
                figure=None,
                reason="no champion yet",
            )
        ]
    sign = bench.better(gate.metric)
    findings, claims = [], []
    for name in names:
        changed = f"candidate~{name}"
        rows = np.flatnonzero(bench.answered[changed])
        where = Where(f"perturbation={name}", rows, required=True)
        others = ("champion", f"champion~{name}")
        if nothing := _nothing(gate, bench, where, (changed, *(others if champion else ()))):
            findings.append(nothing)
            continue
        kept = bench.difference(
            gate.metric, where, "candidate", model=changed
        )  # what the perturbation does
        words = f"{gate.metric} {bench.figure(gate.metric, where):.4f}, perturbed {bench.figure(gate.metric, where, changed):.4f}"
        if not champion:
            assert gate.at_most is not None
            claims.append(
                Claim(
                    where,
                    kept if sign > 0 else -kept,
                    -gate.at_most,
                    -sign * kept.figure,
                    words + ", lost",
                    upwards=False,
                )
            )
            continue
        change = bench.double(gate.metric, where, ("candidate", changed), others)
        theirs = bench.figure(gate.metric, where, others[1]) - bench.figure(
            gate.metric, where, others[0]
        )
        words += f", a change of {kept.figure:+.4f} where the champion's is {theirs:+.4f}"
        claims.append(
            Claim(where, change if sign > 0 else -change, -gate.margin, sign * change.figure, words)
        )
    return findings + _decided(gate.model_copy(update={"kind": "no_worse"}), bench, claims)


def calibrated(gate: Gate, bench: Bench) -> list[Finding]:
    """The calibration error beyond what a perfectly calibrated model of as many rows would show."""
    assert gate.at_most is not None
    findings = []
    alpha = bench.settings.alpha
    for where in _places(gate, bench):
        base = _base(gate, where, "calibration error")
        frame = bench.frame("candidate", where)
        hits = None if frame is None else right(frame)
        if frame is None or hits is None or "confidence" not in frame:
            findings.append(
                Finding(
                    **base,
                    answer="fail",
                    figure=None,
                    reason="the candidate gives no confidence here; its score needs a column `confidence`",
                )
            )
            continue
        units = bench.units(where)
        confidence = frame["confidence"].to_numpy(float)
        excess, low, high, p_null, honest = calibration.excess(
            confidence, hits, units, CALIBRATION_RESAMPLES, NULL_DRAWS, bench.seed, alpha
        )
        if units.effective < bench.settings.min_units:
            answer: Answer = "unclear"
        else:
            answer = (
                "pass"
                if high <= gate.at_most
                else "fail"
                if low > gate.at_most and p_null <= alpha
                else "unclear"
            )
        if answer == "unclear" and not where.required:
            answer = "reported"
        findings.append(
            Finding(
                **base,
                units=units.count,
                answer=answer,
                figure=round(excess, 6),
                low=round(low, 6),
                high=round(high, 6),
                bound=gate.at_most,
                p=round(p_null, 6),
                reason=f"calibration error {excess + honest:.4f}, an honest model would show {honest:.4f}; beyond that {excess:+.4f} [{low:+.4f}, {high:+.4f}], the bound is {gate.at_most:g}",
            )
        )
    return findings


def fast(gate: Gate, bench: Bench) -> list[Finding]:
    """p95 of one request, measured in turn with the champion's."""
    base = _base(gate, bench.all, "p95 ms")
    ours, theirs = bench.scored.latency.get("candidate"), bench.scored.latency.get("champion")
    if not ours:
        return [
            Finding(
                **base,
                answer="fail",
                figure=None,
                reason="no latency was measured; score.requests is 0",
            )
        ]
    bounds = [gate.at_most] if gate.at_most is not None else []
    if gate.margin and theirs:
        bounds.append(theirs["p95_ms"] * (1 + gate.margin))
    if not bounds:
        return [
            Finding(
                **base, answer="not applicable", figure=ours["p95_ms"], reason="no champion yet"
            )
        ]
    bound = min(bounds)
    answer: Answer = (
        "pass"
        if ours["p95_high_ms"] <= bound
        else "fail"
        if ours["p95_low_ms"] > bound
        else "unclear"
    )
    beside = f", the champion's {theirs['p95_ms']:.2f}" if theirs else ""
    return [
        Finding(
            **base,
            answer=answer,
            figure=round(ours["p95_ms"], 3),
            low=round(ours["p95_low_ms"], 3),
            high=round(ours["p95_high_ms"], 3),
            bound=round(bound, 3),
            reason=f"one request takes {ours['p50_ms']:.2f} ms at p50, {ours['p95_ms']:.2f} at p95, {ours['p99_ms']:.2f} at p99{beside}; {ours['per_second']:.0f} a second in batches; the bound is {bound:.3g}",
        )
    ]


def small(gate: Gate, bench: Bench) -> list[Finding]:
    """MB on disk, or with `metric: memory` MB of memory once it answers."""
    if gate.metric == "memory":
        ours = bench.scored.latency.get("candidate", {}).get("memory_mb", float("nan"))
        return [_plain(gate, bench, ours, "MB of memory")]
    return [_plain(gate, bench, round(bench.exported.bytes / 1e6, 2), "MB on disk")]


def same(gate: Gate, bench: Bench) -> list[Finding]:
    return [
        _plain(
            gate, bench, bench.exported.parity, "largest difference from torch over three shapes"
        )
    ]


def clean(gate: Gate, bench: Bench) -> list[Finding]:
    """The share of test rows that training saw, exactly, nearly or by a run of 13 words; and the metric without them."""
    seen = bench.frames["overlap"].any(axis=1).to_numpy()
    figure = float(seen.mean())
    kinds = ", ".join(
        f"{int(column.sum())} {name}" for name, column in bench.frames["overlap"].items()
    )
    finding = _plain(gate, bench, figure, "of the test rows were seen in training")
    metric = next(iter(bench.recipe.metrics))
    rest = Where("clean rows", np.flatnonzero(~seen))
    beside = f"; {metric} on the others {bench.figure(metric, rest):.4f}" if 0 < figure < 1 else ""
    return [
        finding.model_copy(
            update={"rows": len(seen), "reason": f"{finding.reason} ({kinds}){beside}"}
        )
    ]


def drift(gate: Gate, bench: Bench) -> list[Finding]:
    """How far today's training rows are from those the champion was trained on: the population stability index, worst column."""
    if bench.scored.champion is None:
        return [
            Finding(
                **_base(gate, bench.all, "PSI"),
                answer="not applicable",
                figure=None,
                reason="no champion yet",
            )
        ]
    found = {name: value for name, value in bench.scored.drift.items() if name != "classifier"}
    if not found:
        return [
            Finding(
                **_base(gate, bench.all, "PSI"),
                answer="unclear",
                figure=None,
                reason="the champion's training rows could not be had",
            )
        ]
    worst = max(found, key=lambda name: found[name])
    finding = _plain(gate, bench, found[worst], f"PSI of {worst}")
    auc = bench.scored.drift.get("classifier")
    told = (
        f"; a classifier tells today's rows from the champion's with an AUC of {auc:.3f}"
        if auc is not None
        else ""
    )
    # A shift is a question for a person, not a fault of the model.
    answer = "unclear" if finding.answer == "fail" else finding.answer
    return [
        finding.model_copy(
            update={"answer": answer, "metric": "PSI", "reason": finding.reason + told}
        )
    ]


def _plain(gate: Gate, bench: Bench, figure: float, what: str) -> Finding:
    """A figure without a sampling error against its bound; one that is no number is a no."""
    bound = gate.at_most if gate.at_most is not None else gate.at_least
    assert bound is not None
    good = bool(np.isfinite(figure)) and (
        figure <= bound if gate.at_most is not None else figure >= bound
    )
    return Finding(
        gate=gate.name,
        kind=gate.kind,
        slice="all",
        metric=what,
        answer="pass" if good else "fail",
        figure=round(figure, 9) if np.isfinite(figure) else None,
        bound=bound,
        required=True,
        reason=f"{figure:.3g} {what}, the bound is {bound:g}",
    )


KINDS: dict[str, Callable[[Gate, Bench], list[Finding]]] = {
    "limit": limit,
    "no_worse": compared,
    "better": compared,
    "sane": compared,
    "robust": robust,
    "calibrated": calibrated,
    "fast": fast,
    "small": small,
    "same": same,
    "clean": clean,
    "drift": drift,
}
