"""Score: candidate, champion and simpler models on the same test rows, as they would be served."""

from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Baselines, Scored


@step("score {application}")
def score(application: str, run: str) -> Scored:
    """One row per test example and model: the sufficient statistics of the recipe's metrics."""
    from tidemill.run import plan

    return plan.do("score", Scored, plan.load(run), ask=True)


@step("baselines {application}")
def baselines(application: str, run: str) -> Baselines:
    """The simpler models on the test rows; they need no candidate, so they run beside the sweep."""
    from tidemill.run import plan

    return plan.do("baselines", Baselines, plan.load(run), module="tasks.score.baselines")
