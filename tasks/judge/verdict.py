"""From findings to one of three answers: pure functions, nothing read or written."""

from collections.abc import Sequence

from tasks.receipts import Finding

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
    return PROMOTE, f"all {len(passed)} findings passed"


def said(finding: Finding) -> str:
    where = f" of {finding.slice}" if finding.slice != "all" else ""
    return f"{finding.gate}{where}: {finding.reason}"


def non_inferior(low: float, high: float, margin: float) -> str:
    """Whether a difference (higher is better) with this interval is not worse than -margin.

    pass: surely not worse. fail: surely worse. unclear: the interval lies on both sides.
    """
    if low >= -margin:
        return "pass"
    return "fail" if high < -margin else "unclear"


def superior(low: float, high: float, margin: float) -> str:
    """Whether a difference is surely above the margin; surely below it is a fail."""
    if low > margin:
        return "pass"
    return "fail" if high <= margin else "unclear"


def within(low: float, high: float, at_least: float | None, at_most: float | None) -> str:
    """Whether a figure's interval lies on the right side of its limit, whole."""
    if at_least is not None:
        return "pass" if low >= at_least else "fail" if high < at_least else "unclear"
    assert at_most is not None
    return "pass" if high <= at_most else "fail" if low > at_most else "unclear"

