"""The gates that compare a figure with a bound: what is measured once, or counted."""

import numpy as np

from tasks.judge.claims import base, no_champion
from tasks.judge.comparison import Comparison, Where
from tidemill.engines.config.schema import Gate
from tidemill.engines.config.schema.judging import FEWEST_REQUESTS
from tidemill.records.receipts import Answer, Finding


def fast(gate: Gate, comparison: Comparison) -> list[Finding]:
    """p95 of one request, measured in turn with the champion's."""
    known = base(gate, comparison.all, "p95 ms")
    latency = comparison.scored.latency
    ours, theirs = latency.get("candidate"), latency.get("champion")
    if not ours:
        reason = "no latency was measured; score.requests is 0"
        return [Finding(**known, answer="fail", figure=None, reason=reason)]
    bounds = [gate.at_most] if gate.at_most is not None else []
    broken = list(bounds)
    if gate.margin and theirs:
        # The champion's p95 is measured too: what it surely takes is the bound of a pass.
        bounds.append(theirs["p95_low_ms"] * (1 + gate.margin))
        broken.append(theirs.get("p95_high_ms", np.inf) * (1 + gate.margin))
    if not bounds:
        return [no_champion(gate, comparison, "p95 ms")]
    bound = min(bounds)
    highest = ours.get("p95_high_ms")
    answer: Answer = "unclear"
    if highest is not None and highest <= bound:
        answer = "pass"
    elif ours["p95_low_ms"] > min(broken):
        answer = "fail"
    return [
        Finding(
            **known,
            answer=answer,
            figure=round(ours["p95_ms"], 3),
            low=round(ours["p95_low_ms"], 3),
            high=None if highest is None else round(highest, 3),
            bound=round(bound, 3),
            reason=_times(ours, theirs, bound),
        )
    ]


def _times(ours: dict[str, float], theirs: dict[str, float] | None, bound: float) -> str:
    """What was measured, in words."""
    champion = f", the champion's {theirs['p95_ms']:.2f}" if theirs else ""
    few = (
        f"; fewer than {FEWEST_REQUESTS} requests give p95 no upper end (score.requests)"
        if ours.get("p95_high_ms") is None
        else ""
    )
    return (
        f"one request takes {ours['p50_ms']:.2f} ms at p50, {ours['p95_ms']:.2f} at p95, "
        f"{ours['p99_ms']:.2f} at p99{champion}; {ours['per_second']:.0f} a second in batches; "
        f"the bound is {bound:.3g}{few}"
    )


def small(gate: Gate, comparison: Comparison) -> list[Finding]:
    """MB on disk, or with `metric: memory` MB of memory once it answers."""
    if gate.metric == "memory":
        ours = comparison.scored.latency.get("candidate", {}).get("memory_mb", float("nan"))
        return [plain(gate, ours, "MB of memory")]
    return [plain(gate, round(comparison.exported.bytes / 1e6, 2), "MB on disk")]


def same(gate: Gate, comparison: Comparison) -> list[Finding]:
    """The largest difference between the exported graph and what was trained."""
    what = "largest difference from torch over three shapes"
    return [plain(gate, comparison.exported.parity, what)]


def clean(gate: Gate, comparison: Comparison) -> list[Finding]:
    """The share of test rows that training saw, exactly, nearly or by a run of 13 words.

    And the first metric without them.
    """
    overlap = comparison.frames["overlap"]
    seen = overlap.any(axis=1).to_numpy()
    figure = float(seen.mean())
    kinds = ", ".join(f"{int(column.sum())} {name}" for name, column in overlap.items())
    finding = plain(gate, figure, "of the test rows were seen in training")
    beside = ""
    if 0 < figure < 1:
        metric = next(iter(comparison.recipe.metrics))
        rest = Where("clean rows", np.flatnonzero(~seen))
        beside = f"; {metric} on the others {comparison.figure(metric, rest):.4f}"
    reason = f"{finding.reason} ({kinds}){beside}"
    return [finding.model_copy(update={"rows": len(seen), "reason": reason})]


def drift(gate: Gate, comparison: Comparison) -> list[Finding]:
    """How far today's training rows are from those the champion was trained on.

    The population stability index, of the worst column.
    """
    moved = comparison.scored.drift
    if comparison.scored.champion is None:
        return [no_champion(gate, comparison, "PSI")]
    by_column = {name: value for name, value in moved.items() if name != "classifier"}
    if not by_column:
        return [
            Finding(
                **base(gate, comparison.all, "PSI"),
                answer="unclear",
                figure=None,
                reason="the champion's training rows could not be restored",
            )
        ]
    worst = max(by_column, key=lambda name: by_column[name])
    finding = plain(gate, by_column[worst], f"PSI of {worst}")
    reason = finding.reason
    if (auc := moved.get("classifier")) is not None:
        reason += f"; a classifier tells today's rows from the champion's with an AUC of {auc:.3f}"
    # A shift is a question for a person, not a fault of the model.
    answer = "unclear" if finding.answer == "fail" else finding.answer
    return [finding.model_copy(update={"answer": answer, "metric": "PSI", "reason": reason})]


def golden(gate: Gate, comparison: Comparison) -> list[Finding]:
    """The questions that no version may get wrong."""
    asked, missed = comparison.scored.golden, comparison.scored.missed
    known = base(gate, comparison.all, "golden rows") | {"rows": asked}
    if not asked:
        reason = "no golden row was asked"
        return [Finding(**known, answer="fail", figure=None, reason=reason)]
    first = f": {'; '.join(missed[:3])}" if missed else ""
    return [
        Finding(
            **known,
            answer="fail" if missed else "pass",
            figure=float(len(missed)),
            bound=0.0,
            reason=f"{len(missed)} of {asked} golden rows are answered otherwise{first}",
        )
    ]


def batch(gate: Gate, comparison: Comparison) -> list[Finding]:
    """The share of rows that are answered otherwise in a batch than alone."""
    asked, differs = comparison.scored.batch, comparison.scored.batch_differs
    share = differs / asked if asked else float("nan")
    what = "of the rows are answered otherwise in a batch than alone"
    finding = plain(gate, share, what)
    return [finding.model_copy(update={"rows": asked})]


def plain(gate: Gate, figure: float, what: str) -> Finding:
    """A figure without a sampling error against its bound; NaN is a no."""
    bound = gate.at_most
    assert bound is not None
    known = bool(np.isfinite(figure))
    return Finding(
        gate=gate.name,
        kind=gate.kind,
        slice="all",
        metric=what,
        answer="pass" if known and figure <= bound else "fail",
        figure=round(figure, 9) if known else None,
        bound=bound,
        required=True,
        reason=f"{figure:.3g} {what}, the bound is {bound:g}",
    )
