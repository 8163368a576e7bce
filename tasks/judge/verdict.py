"""From p-values to findings, and from findings to one of three answers: pure functions."""

from collections.abc import Sequence

from tidemill.records.receipts import Answer, Finding

PROMOTE, HOLD, REJECT = "PROMOTE", "HOLD", "REJECT"


def verdict(findings: Sequence[Finding]) -> tuple[str, str]:
    """The answer and why.

    A gate that failed rejects. One that is unclear holds. What is not applicable or only reported
    does neither; but where no gate passed at all, nothing speaks for the candidate: HOLD.
    """
    failed = [item for item in findings if item.answer == "fail"]
    if failed:
        return REJECT, "; ".join(said(item) for item in failed[:3])
    unclear = [item for item in findings if item.answer == "unclear"]
    if unclear:
        return HOLD, "; ".join(said(item) for item in unclear[:3])
    passed = [item for item in findings if item.answer == "pass"]
    if not passed:
        return HOLD, "no gate had anything to judge"
    close = sorted(
        (item for item in passed if spare(item) is not None), key=lambda item: spare(item) or 0.0
    )
    nearest = f", nearest to its bound {said(close[0])}" if close else ""
    return PROMOTE, f"all {len(passed)} findings passed{nearest}"


def said(finding: Finding) -> str:
    where = f" of {finding.slice}" if finding.slice != "all" else ""
    return f"{finding.gate}{where}: {finding.reason}"


def spare(finding: Finding) -> float | None:
    """How far a passing finding's interval stays from its bound, in widths of the interval.

    None where it has none.
    """
    if finding.low is None or finding.high is None or finding.bound is None:
        return None
    width = finding.high - finding.low
    gap = min(abs(finding.low - finding.bound), abs(finding.high - finding.bound))
    return gap / width if width > 0 else None


def answered(p_good: float, p_bad: float, pass_alpha: float, alpha: float) -> Answer:
    """pass: the claim is shown. fail: its contrary is shown. unclear: neither.

    `p_good` is the p-value of what a pass refutes (the figure is on the wrong side of the bound),
    at `pass_alpha`; `p_bad` of what a fail refutes. A p-value that is NaN refutes nothing.
    """
    if p_good <= pass_alpha:
        return "pass"
    return "fail" if p_bad <= alpha else "unclear"


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979).

    Claims at `alpha` hold together with an error of at most `alpha`.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [1.0] * len(p_values)
    worst = 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return adjusted


def adjusted(
    kind: str, good: Sequence[float], bad: Sequence[float]
) -> tuple[list[float], list[float]]:
    """The p-values of one gate's slices, corrected where several claims are made at once.

    A `no_worse` or a `limit` passes only where every slice passes, since one that is unclear holds:
    there each slice at `alpha` keeps the error of the whole at `alpha` (intersection-union, Berger
    1982). A `better` may pass by any slice, and any gate may fail by any: those are corrected.
    """
    return (holm(good) if kind == "better" else list(good)), holm(bad)
