"""Verify: train a version again from its pinned data, code and seed, and compare."""

from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Verified


@step("verify {application} {version}")
def verify(application: str, version: str = "") -> Verified:
    """Train again in a clean folder; the verdict stands on the model version afterwards."""
    from tidemill.runtime.process import answer

    return answer(f"verify {application}", "tasks.verify", [application, version], Verified)
