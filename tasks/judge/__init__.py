"""Judge: every gate is asked, and the findings make one of three answers."""

from tasks.receipts import Judged
from tasks.step import step


@step("judge {application}", retries=False)
def judge(application: str, overrides: list[str]) -> Judged:
    """PROMOTE, HOLD or REJECT, with what each gate found."""
    from tasks import plan

    return plan.do("judge", Judged, plan.make(application, overrides), overrides)
