"""Collect: from the world to data/raw/SOURCE. Whether and when is the flow's decision."""

from tasks.process import answer
from tasks.receipts import Collected
from tasks.step import step
from tasks.telling import told


@step("collect {source}")
def collect(source: str) -> Collected:
    """Bring in what is new at one source, and let DVC know its bytes."""
    from tasks import version

    with told(f"collect {source}"):
        receipt = answer(f"collect {source}", "tasks.collect", [source], Collected)
    version.commit_raw(source, receipt.raw)
    return receipt
