"""From what was measured to findings: claims of one gate, made together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from tasks.judge.comparison import Comparison, Estimate, Where
from tasks.judge.reuse import described
from tasks.judge.verdict import adjusted, answered
from tidemill.engines.config.schema import Gate
from tidemill.records.receipts import Answer, Finding

ANCHOR = "anchor"


@dataclass(frozen=True)
class Claim:
    """What a gate asks of one slice: `estimate` has its good side above `bound`."""

    where: Where
    estimate: Estimate  # higher is better
    bound: float
    figure: float  # as a person reads it: the metric, or the difference
    words: str
    upwards: bool = True  # whether what is shown to a person keeps that sign


class FindingFields(TypedDict, total=False):
    """The fields of a finding that are known before anything is measured."""

    gate: str
    kind: str
    slice: str
    metric: str
    required: bool
    rows: int
    units: int


def base(gate: Gate, where: Where, metric: str = "") -> FindingFields:
    """The fields that a gate's findings of one slice have in common."""
    return {
        "gate": gate.name,
        "kind": gate.kind,
        "slice": where.name,
        "metric": metric or gate.metric,
        "required": where.required,
        "rows": len(where.rows),
    }


def undecided(where: Where, too_few_units: bool = False) -> Answer:
    """What an unclear finding does: it holds.

    But for a slice that is too small and not required.
    """
    if where.required:
        return "unclear"
    return "reported" if where.small or too_few_units else "unclear"


def no_champion(gate: Gate, comparison: Comparison, metric: str = "") -> Finding:
    return Finding(
        **base(gate, comparison.all, metric),
        answer="not applicable",
        figure=None,
        reason="no champion yet",
    )


def nothing(
    gate: Gate, comparison: Comparison, where: Where, others: Sequence[str]
) -> Finding | None:
    """A finding where there is nothing to measure, else None."""
    known = base(gate, where)
    if not len(where.rows):
        answer = undecided(where, too_few_units=True)
        return Finding(**known, answer=answer, figure=None, reason="no test row is in this slice")
    known["units"] = comparison.units(where).count
    for model in ("candidate", *others):
        if problem := _unusable(gate.metric, comparison, where, model):
            own = model.partition("~")[0] == "candidate"
            answer = "fail" if own else "unclear"
            return Finding(**known, answer=answer, figure=None, reason=problem)
    return too_few(comparison, where, known, comparison.figure(gate.metric, where))


def too_few(
    comparison: Comparison, where: Where, known: FindingFields, figure: float
) -> Finding | None:
    """A finding where there are too few units for any claim, else None."""
    units = comparison.units(where)
    if units.effective >= comparison.settings.min_units:
        return None
    few = f"{units.count} units"
    if units.effective <= units.count - 0.5:
        few += f" of unequal size, as good as {units.effective:.1f},"
    needed = comparison.settings.min_units
    return Finding(
        **(known | {"units": units.count}),
        answer=undecided(where, too_few_units=True),
        figure=round(figure, 6),
        reason=f"{few} are too few for a claim; {needed} are needed",
    )


def _unusable(metric: str, comparison: Comparison, where: Where, model: str) -> str:
    """Why a model's rows cannot be judged; empty where they can."""
    if comparison.frame(model, where) is None:
        why = comparison.scored.skipped.get(model, "")
        asked = model.replace("~", " asked with ")
        return f"the {asked} has no whole answers here{f' ({why})' if why else ''}"
    if not np.isfinite(comparison.figure(metric, where, model)):
        return f"{metric} of the {model} is not a number"
    if comparison.out_of_range(metric, where, model):
        return f"{metric} of the {model} leaves the range that the recipe declares for it"
    return ""


def decided(
    gate: Gate, comparison: Comparison, claims: Sequence[Claim], kind: str = ""
) -> list[Finding]:
    """Claims of one gate, corrected for being several, as findings."""
    settings = comparison.settings
    doubts = {
        id(claim): claim.estimate.doubt(settings.tail_rows)
        for claim in claims
        if claim.estimate.sound()
    }
    asked = [claim for claim in claims if doubts.get(id(claim)) == ""]
    good, bad = adjusted(
        kind or gate.kind,
        [claim.estimate.p_at_most(claim.bound) for claim in asked],
        [claim.estimate.p_at_least(claim.bound) for claim in asked],
    )
    p_values = {
        id(claim): pair for claim, pair in zip(asked, zip(good, bad, strict=True), strict=True)
    }
    findings = []
    for claim in claims:
        if pair := p_values.get(id(claim)):
            findings.append(_decided(gate, comparison, claim, pair))
        else:
            findings.append(_doubted(gate, comparison, claim, doubts.get(id(claim))))
    return findings


def _doubted(gate: Gate, comparison: Comparison, claim: Claim, doubt: str | None) -> Finding:
    """A claim that cannot be made at all."""
    where = claim.where
    known = base(gate, where) | {"units": comparison.units(where).count}
    if doubt is None:
        reason = f"{gate.metric} is not a number in every resample"
        return Finding(**known, answer="fail", figure=None, reason=reason)
    return Finding(
        **known,
        answer=undecided(where),
        figure=round(claim.figure, 6),
        reason=f"{claim.words}; no claim: {doubt}",
    )


def _decided(
    gate: Gate, comparison: Comparison, claim: Claim, p_values: tuple[float, float]
) -> Finding:
    where, estimate, alpha = claim.where, claim.estimate, comparison.settings.alpha
    answer = answered(*p_values, comparison.pass_alpha, alpha)
    least = estimate.detectable(comparison.pass_alpha)
    low, high = estimate.interval(comparison.pass_alpha, alpha)
    bound = claim.bound
    if not claim.upwards:
        low, high, bound = -high, -low, -bound
    before = ""
    if where.pooled:
        before = f"{where.pooled} slices under {comparison.settings.min_rows} rows, pooled: "
    if answer == "unclear":
        reused = described(comparison.tries)
        before += f"not enough evidence ({reused}it would take a difference of {least:.4f}); "
        answer = undecided(where)
    return Finding(
        **(base(gate, where) | {"units": comparison.units(where).count}),
        answer=answer,
        figure=round(claim.figure, 6),
        low=round(low, 6),
        high=round(high, 6),
        bound=bound,
        p=round(p_values[0], 6),
        detectable=round(least, 6),
        reason=f"{before}{claim.words} [{low:+.4f}, {high:+.4f}], the bound is {bound:g}",
    )


def places(gate: Gate, comparison: Comparison) -> list[Where]:
    """The slices that a gate is asked of."""
    return comparison.slices(gate.by, gate.required) if gate.by else [comparison.all]


def some_slice_must_pass(findings: list[Finding]) -> list[Finding]:
    """A `better` of slices: what is unclear is only reported where another slice passed.

    Where none passed it holds, however small they were.
    """
    passed = any(item.answer == "pass" for item in findings)
    wanted: Answer = "reported" if passed else "unclear"
    return [
        item.model_copy(update={"answer": wanted})
        if item.answer in ("unclear", "reported") and not (passed and item.required)
        else item
        for item in findings
    ]
