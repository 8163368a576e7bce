"""Collect: from the world to data/raw/SOURCE. Whether and when is the flow's decision."""

from tidemill.engines.prefect.progress import told
from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Collected
from tidemill.runtime.process import answer


@step("collect {source}")
def collect(source: str) -> Collected:
    """Bring in what is new at one source, and let DVC know its bytes."""
    from tidemill.engines.dvc import stages

    with told(f"collect {source}"):
        receipt = answer(f"collect {source}", "tasks.collect", [source], Collected)
    stages.commit_raw(source, receipt.raw)
    return receipt
