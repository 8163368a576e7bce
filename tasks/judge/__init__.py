"""Judge: every gate is asked, and the findings make one of three answers."""

from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Explained, Judged


@step("judge {application}", retries=False)
def judge(application: str, run: str) -> Judged:
    """PROMOTE, HOLD or REJECT, with what each gate found."""
    from tidemill.run import plan

    return plan.do("judge", Judged, plan.load(run))


@step("explain {application}", retries=False)
def explain(application: str, run: str) -> Explained:
    """Which inputs moved the answers of the worst rows and of some others.

    It runs beside the judge.
    """
    from tidemill.run import plan

    return plan.do("explain", Explained, plan.load(run), module="tasks.judge.explain")
