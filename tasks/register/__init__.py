"""Register and promote: a judged package becomes a version, and only `promote` moves an alias."""

from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Promoted, Registered


@step("register {application}")
def register(application: str, run: str) -> Registered:
    """Log the judged run in MLflow; a package that was not rejected becomes a version, once."""
    from tidemill.run import plan

    return plan.do("register", Registered, plan.load(run))


@step("promote {application} {version}")
def promote(
    application: str, version: str, by: str, why: str, key: str, expected: str = ""
) -> Promoted:
    """Make a version the champion; the last effect of a flow.

    What is live must be what the run `key` judged beside, or `expected` where no key is given.
    """
    from tidemill.runtime.process import answer

    return answer(
        f"promote {application}",
        "tasks.register.promote",
        [application, version, by, why, key, expected],
        Promoted,
    )
