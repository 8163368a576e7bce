"""Gates that compare one model with itself, on rows that are apart: groups, and training rows.

Where the two sides share no unit their errors are independent, and add up as squares (the method
of variance estimates recovery, Zou and Donner 2008). Else nobody knows how they go together: each
side's interval takes half of the error, and the difference lies between their far ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from tasks.judge.claims import base, nothing, undecided
from tasks.judge.comparison import Comparison, Estimate, Where
from tasks.judge.reuse import described
from tidemill.engines.config.schema import Gate
from tidemill.records.receipts import Answer, Finding


@dataclass(frozen=True)
class Side:
    """One model's figure on some rows, and the units that these rows belong to."""

    name: str
    estimate: Estimate
    units: frozenset[object]

    @classmethod
    def of(cls, comparison: Comparison, where: Where, estimate: Estimate) -> "Side":
        units = frozenset(comparison.rows["unit"].iloc[where.rows])
        return cls(where.name, estimate, units)


def least(high: Side, low: Side, alpha: float) -> float:
    """A lower bound at `alpha` of the first side's figure less the second's."""
    difference = high.estimate.figure - low.estimate.figure
    independent = high.units.isdisjoint(low.units)
    level = alpha if independent else alpha / 2
    below = high.estimate.figure - high.estimate.interval(level)[0]
    above = low.estimate.interval(level)[1] - low.estimate.figure
    return float(difference - (np.hypot(below, above) if independent else below + above))


def most(high: Side, low: Side, alpha: float) -> float:
    """An upper bound at `alpha` of the first side's figure less the second's."""
    return -least(low, high, alpha)


def fair(gate: Gate, comparison: Comparison) -> list[Finding]:
    """The largest difference of a metric between two groups.

    A pass needs every pair to be shown within the bound, so each at alpha; a fail may come of any
    pair, so those share alpha (Bonferroni).
    """
    comparison.better(gate.metric)
    groups = [where for where in comparison.slices(gate.by, ()) if not where.pooled]
    findings: list[Finding] = []
    judged: list[Side] = []
    for where in groups:
        if empty := nothing(gate, comparison, where, ()):
            findings.append(empty)
            continue
        estimate = comparison.alone(gate.metric, where)
        doubt = estimate.doubt(comparison.settings.tail_rows) if estimate.sound() else "not sound"
        if doubt:
            findings.append(_unknown(gate, where, f"{gate.metric}: no claim: {doubt}"))
        else:
            judged.append(Side.of(comparison, where, estimate))
    if len(judged) < 2:
        reason = f"{len(judged)} groups can be judged, and a difference is between two"
        return [*findings, _unknown(gate, comparison.all, reason)]
    return [*findings, _widest(gate, comparison, judged)]


def _widest(gate: Gate, comparison: Comparison, judged: Sequence[Side]) -> Finding:
    """The pair of groups that are furthest apart, and how far any pair may be."""
    assert gate.at_most is not None
    pairs = list(permutations(judged, 2))
    shared = comparison.settings.alpha / len(pairs)
    low = max(least(one, two, shared) for one, two in pairs)
    high = max(most(one, two, comparison.pass_alpha) for one, two in pairs)
    best = max(judged, key=lambda side: side.estimate.figure)
    # From the other end, so that of equal groups two are named.
    worst = min(reversed(judged), key=lambda side: side.estimate.figure)
    gap = best.estimate.figure - worst.estimate.figure
    words = (
        f"{gate.metric} {worst.estimate.figure:.4f} of {worst.name}, "
        f"{best.estimate.figure:.4f} of {best.name}, {gap:.4f} apart"
    )
    return _bounded(gate, comparison, gap, (max(0.0, low), high), words)


def gap(gate: Gate, comparison: Comparison) -> list[Finding]:
    """How much better the candidate is on rows that it was trained on than on the test rows."""
    training = comparison.training
    if training is None:
        return [_unknown(gate, comparison.all, "no training row was asked (score.train_rows)")]
    for side in (training, comparison):
        if empty := nothing(gate, side, side.all, ()):
            return [empty]
    sign = comparison.better(gate.metric)
    seen, unseen = (side.alone(gate.metric, side.all) for side in (training, comparison))
    doubts = [item.doubt(comparison.settings.tail_rows) for item in (seen, unseen)]
    if any(doubts):
        return [_unknown(gate, comparison.all, f"{gate.metric}: no claim: {max(doubts)}")]
    words = (
        f"{gate.metric} {seen.figure:.4f} on {len(training.rows)} training rows, "
        f"{unseen.figure:.4f} on the test rows"
    )
    sides = [
        Side.of(training, training.all, seen),
        Side.of(comparison, comparison.all, unseen),
    ]
    one, two = sides if sign > 0 else reversed(sides)
    ends = least(one, two, comparison.settings.alpha), most(one, two, comparison.pass_alpha)
    figure = one.estimate.figure - two.estimate.figure
    return [_bounded(gate, comparison, figure, ends, words)]


def _bounded(
    gate: Gate, comparison: Comparison, figure: float, ends: tuple[float, float], words: str
) -> Finding:
    assert gate.at_most is not None
    low, high = ends
    answer: Answer = "unclear"
    before = f"not enough evidence {described(comparison.tries)}".strip() + ": "
    if high < gate.at_most:
        answer, before = "pass", ""
    elif low > gate.at_most:
        answer, before = "fail", ""
    return Finding(
        **base(gate, comparison.all),
        answer=answer,
        figure=round(figure, 6),
        low=round(low, 6),
        high=round(high, 6),
        bound=gate.at_most,
        reason=f"{before}{words} [{low:.4f}, {high:.4f}], the bound is {gate.at_most:g}",
    )


def _unknown(gate: Gate, where: Where, reason: str) -> Finding:
    return Finding(**base(gate, where), answer=undecided(where), figure=None, reason=reason)
