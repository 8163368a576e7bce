"""Verify: train a version again from its pinned data, code and seed, and compare."""

from tasks.receipts import Verified
from tasks.step import step


@step("verify {application} {version}")
def verify(application: str, version: str = "") -> Verified:
    """Train again in a clean folder; the verdict stands on the model version afterwards."""
    from tasks.process import answer

    return answer(f"verify {application}", "tasks.verify", [application, version], Verified)
