"""The gates: each kind asks its question of the comparison and answers with findings."""

from collections.abc import Callable

import numpy as np
from scipy import stats

from tasks.judge.calibration import Calibration
from tasks.judge.claims import (
    Claim,
    base,
    decided,
    no_champion,
    nothing,
    places,
    some_slice_must_pass,
    too_few,
    undecided,
)
from tasks.judge.comparison import Comparison, Where
from tasks.judge.groups import fair, gap
from tasks.judge.plain import batch, clean, drift, fast, golden, same, small
from tasks.judge.verdict import answered, holm
from tidemill.engines.config.schema import Gate
from tidemill.kit.metrics.classes import right
from tidemill.records.receipts import Finding

CALIBRATION_DRAWS = 1_000


def ask(gate: Gate, comparison: Comparison) -> list[Finding]:
    """One gate's findings: one for the whole, or one for each slice or perturbation."""
    findings = KINDS[gate.kind](gate, comparison)
    if gate.action == "warn":
        findings = [
            item.model_copy(update={"answer": "reported"})
            if item.answer in ("fail", "unclear")
            else item
            for item in findings
        ]
    return findings


def limit(gate: Gate, comparison: Comparison) -> list[Finding]:
    """The bound of the metric's interval, not its figure, against a floor or a ceiling."""
    findings, claims = [], []
    upwards = gate.at_least is not None
    bound = gate.at_least if gate.at_least is not None else gate.at_most
    assert bound is not None
    comparison.better(gate.metric)
    for where in places(gate, comparison):
        if empty := nothing(gate, comparison, where, ()):
            findings.append(empty)
            continue
        estimate = comparison.alone(gate.metric, where)
        words = f"{gate.metric} {estimate.figure:.4f}"
        signed = estimate if upwards else -estimate
        signed_bound = bound if upwards else -bound
        claims.append(Claim(where, signed, signed_bound, estimate.figure, words, upwards))
    return findings + decided(gate, comparison, claims)


def compared(gate: Gate, comparison: Comparison) -> list[Finding]:
    """no_worse, better, sane: the candidate against another model on the same rows."""
    other = "trivial" if gate.kind == "sane" else gate.against
    if other == "champion" and comparison.scored.champion is None:
        return [no_champion(gate, comparison)]
    bound = -gate.margin if gate.kind == "no_worse" else gate.margin
    findings = beside(gate, comparison, other, bound)
    if gate.kind == "no_worse" and other == "champion" and comparison.scored.anchor is not None:
        findings += beside_anchor(gate, comparison)
    if gate.kind == "better" and gate.by:
        return some_slice_must_pass(findings)
    return findings


def beside_anchor(gate: Gate, comparison: Comparison) -> list[Finding]:
    """The same question beside the best version that was ever live.

    So many nights cannot each take a margin: together they may take `anchor.margins` of them.
    """
    cumulative = gate.margin * comparison.settings.anchor.margins
    named = gate.model_copy(update={"name": f"{gate.name}, anchor"})
    return beside(named, comparison, "anchor", -cumulative)


def beside(gate: Gate, comparison: Comparison, other: str, bound: float) -> list[Finding]:
    """The candidate and another model on each of the gate's slices."""
    sign = comparison.better(gate.metric)
    findings, claims = [], []
    for where in places(gate, comparison):
        if empty := nothing(gate, comparison, where, (other,)):
            findings.append(empty)
            continue
        estimate = comparison.difference(gate.metric, where, other, gate.method)
        theirs = comparison.figure(gate.metric, where, other)
        words = (
            f"{gate.metric} {theirs + estimate.figure:.4f} against {theirs:.4f} of the {other}, "
            f"{by(sign * estimate.figure)}{mcnemar(comparison, where, other)}"
        )
        signed = estimate if sign > 0 else -estimate
        claims.append(Claim(where, signed, bound, sign * estimate.figure, words))
    return findings + decided(gate, comparison, claims)


def by(figure: float) -> str:
    """A difference in words; positive is better."""
    if not round(figure, 4):
        return "no difference"
    return f"{'better' if figure > 0 else 'worse'} by {abs(figure):.4f}"


def mcnemar(comparison: Comparison, where: Where, other: str) -> str:
    """The rows that one model alone got right, and McNemar's exact test of them.

    Nothing where rows are not independent.
    """
    if where.name != "all" or comparison.units(where).count < len(where.rows):
        return ""
    ours, theirs = (rights(comparison, where, model) for model in ("candidate", other))
    if ours is None or theirs is None:
        return ""
    won = int(((ours > 0.5) & (theirs < 0.5)).sum())
    lost = int(((ours < 0.5) & (theirs > 0.5)).sum())
    p = stats.binomtest(won, won + lost, 0.5).pvalue if won + lost else 1.0
    return f" (rows won {won}, lost {lost}, McNemar p {p:.3g})"


def rights(comparison: Comparison, where: Where, model: str) -> np.ndarray | None:
    """Which rows a model answered right; None where that cannot be told."""
    frame = comparison.frame(model, where)
    return None if frame is None else right(frame)


def flips(gate: Gate, comparison: Comparison) -> list[Finding]:
    """The share of rows that the champion answered right and the candidate does not.

    Equal averages can hide them, and who relied on such an answer notices (Yan et al. 2021).
    """
    assert gate.at_most is not None
    if comparison.scored.champion is None:
        return [no_champion(gate, comparison, "negative flips")]
    findings, claims = [], []
    for where in places(gate, comparison):
        ours, theirs = (rights(comparison, where, model) for model in ("candidate", "champion"))
        known = base(gate, where, "negative flips")
        if ours is None or theirs is None or not len(where.rows):
            answer = "fail" if ours is None and len(where.rows) else undecided(where)
            reason = "nobody can tell here which answers are right"
            findings.append(Finding(**known, answer=answer, figure=None, reason=reason))
            continue
        lost = (ours < 0.5) & (theirs > 0.5)
        if few := too_few(comparison, where, known, float(lost.mean())):
            findings.append(few)
            continue
        estimate = comparison.share(lost.astype(float), where)
        words = f"{int(lost.sum())} rows that the champion had right, {estimate.figure:.4f} of all"
        claims.append(Claim(where, -estimate, -gate.at_most, estimate.figure, words, False))
    return findings + decided(
        gate.model_copy(update={"metric": "negative flips"}), comparison, claims, "limit"
    )


def robust(gate: Gate, comparison: Comparison) -> list[Finding]:
    """How much of the metric each perturbation takes.

    Against what it takes from the champion, or against a ceiling.
    """
    names = sorted(
        name.split("~", 1)[1] for name in comparison.frames if name.startswith("candidate~")
    )
    if not names:
        reason = "the recipe names no perturbation; write its `perturbations`, or remove the gate"
        known = base(gate, comparison.all)
        return [Finding(**known, answer="unclear", figure=None, reason=reason)]
    champion = gate.at_most is None
    if champion and comparison.scored.champion is None:
        return [no_champion(gate, comparison)]
    findings, claims = [], []
    for name in names:
        # Rows that were not asked are NaN altogether; one that is so in part has no whole answer.
        asked = comparison.frames[f"candidate~{name}"].notna().any(axis=1)
        rows = np.flatnonzero(asked)
        where = Where(f"perturbation={name}", rows, required=True)
        others = ("champion", f"champion~{name}") if champion else ()
        if empty := nothing(gate, comparison, where, (f"candidate~{name}", *others)):
            findings.append(empty)
        elif champion:
            claims.append(_lost_beside(gate, comparison, where, name))
        else:
            claims.append(_lost(gate, comparison, where, name))
    return findings + decided(gate, comparison, claims, "no_worse")


def _lost(gate: Gate, comparison: Comparison, where: Where, name: str) -> Claim:
    """What a perturbation takes from the candidate."""
    assert gate.at_most is not None
    sign, changed = comparison.better(gate.metric), f"candidate~{name}"
    kept = comparison.difference(gate.metric, where, "candidate", model=changed)
    words = (
        f"{gate.metric} {comparison.figure(gate.metric, where):.4f}, "
        f"perturbed {comparison.figure(gate.metric, where, changed):.4f}, lost"
    )
    signed = kept if sign > 0 else -kept
    return Claim(where, signed, -gate.at_most, -sign * kept.figure, words, upwards=False)


def _lost_beside(gate: Gate, comparison: Comparison, where: Where, name: str) -> Claim:
    """What it takes from the candidate beyond what it takes from the champion."""
    sign, changed = comparison.better(gate.metric), f"candidate~{name}"
    others = ("champion", f"champion~{name}")
    change = comparison.double(gate.metric, where, ("candidate", changed), others)
    before, after, theirs_before, theirs_after = (
        comparison.figure(gate.metric, where, model) for model in ("candidate", changed, *others)
    )
    words = (
        f"{gate.metric} {before:.4f}, perturbed {after:.4f}, a change of {after - before:+.4f} "
        f"where the champion's is {theirs_after - theirs_before:+.4f}"
    )
    signed = change if sign > 0 else -change
    return Claim(where, signed, -gate.margin, sign * change.figure, words)


def calibrated(gate: Gate, comparison: Comparison) -> list[Finding]:
    """The calibration error: whether it is shown to be under its bound."""
    findings, measured = [], []
    for where in places(gate, comparison):
        if (finding := _confidence_missing(gate, comparison, where)) is not None:
            findings.append(finding)
        else:
            measured.append((where, *_calibration(gate, comparison, where)))
    bad = holm([p_bad for _, _, _, p_bad in measured])
    for (where, finding, p_good, _), p_bad in zip(measured, bad, strict=True):
        answer = answered(p_good, p_bad, comparison.pass_alpha, comparison.settings.alpha)
        few = comparison.units(where).effective < comparison.settings.min_units
        if few or answer == "unclear":
            answer = undecided(where, few)
        findings.append(finding.model_copy(update={"answer": answer}))
    return findings


def _confidence_missing(gate: Gate, comparison: Comparison, where: Where) -> Finding | None:
    """A finding where the candidate's confidences cannot be judged, else None."""
    known = base(gate, where, "calibration error")
    if not len(where.rows):
        reason = "no test row is in this slice"
        answer = undecided(where, too_few_units=True)
        return Finding(**known, answer=answer, figure=None, reason=reason)
    frame, hits = comparison.frame("candidate", where), rights(comparison, where, "candidate")
    reason = ""
    if frame is None or hits is None or "confidence" not in frame:
        reason = "the candidate gives no confidence here; its score needs a column `confidence`"
    elif not frame["confidence"].between(0, 1).all():
        worst = frame["confidence"].iloc[int((frame["confidence"] - 0.5).abs().argmax())]
        reason = f"a confidence is {worst:g}; confidences lie between 0 and 1"
    return Finding(**known, answer="fail", figure=None, reason=reason) if reason else None


def _calibration(gate: Gate, comparison: Comparison, where: Where) -> tuple[Finding, float, float]:
    """The finding but for its answer, and the p-values of a pass and of a fail."""
    assert gate.at_most is not None
    frame, hits = comparison.frame("candidate", where), rights(comparison, where, "candidate")
    assert frame is not None and hits is not None
    units = comparison.units(where)
    confidence = frame["confidence"].to_numpy(float)
    measured = Calibration(confidence, hits, units, CALIBRATION_DRAWS, comparison.seed)
    claim = measured.claimed(gate.at_most, comparison.pass_alpha, comparison.settings.alpha)
    finding = Finding(
        **(base(gate, where, "calibration error") | {"units": units.count}),
        answer="unclear",
        figure=round(claim.error, 6),
        low=round(claim.low, 6),
        high=round(claim.high, 6),
        bound=gate.at_most,
        p=round(claim.p_good, 6),
        reason=(
            f"calibration error {claim.error:.4f}, of which an honest model would show "
            f"{claim.honest:.4f}; the true one is in [{claim.low:.4f}, {claim.high:.4f}], "
            f"the bound is {gate.at_most:g}"
        ),
    )
    return finding, claim.p_good, claim.p_bad


KINDS: dict[str, Callable[[Gate, Comparison], list[Finding]]] = {
    "limit": limit,
    "no_worse": compared,
    "better": compared,
    "sane": compared,
    "flips": flips,
    "robust": robust,
    "calibrated": calibrated,
    "fast": fast,
    "small": small,
    "same": same,
    "clean": clean,
    "drift": drift,
    "golden": golden,
    "batch": batch,
    "gap": gap,
    "fair": fair,
}
