"""Train: one model, with the parameters the sweep found, in a child process with Lightning."""

from tasks.receipts import Trained
from tasks.step import step


@step("train {application}")
def train(application: str, overrides: list[str]) -> Trained:
    """Train on all rows; same data, configuration and seed give the same weights on a CPU."""
    from tasks import plan

    return plan.do("train", Trained, plan.make(application, overrides), overrides)
