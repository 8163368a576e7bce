"""Sweep: which hyperparameters to train with. The only door to Optuna."""

from tasks.receipts import Swept
from tasks.step import step


@step("sweep {application}")
def sweep(application: str, overrides: list[str]) -> Swept:
    """Short trainings over the recipe's space, judged on validation rows."""
    from tasks import plan

    return plan.do("sweep", Swept, plan.make(application, overrides), overrides)
