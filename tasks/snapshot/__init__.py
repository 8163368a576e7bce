"""Snapshot: a run's data gets a name by which it can be restored.

See tidemill/engines/dvc/snapshots.py.
"""

from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Snapshot


@step("snapshot {recipe}")
def snapshot(recipe: str) -> Snapshot:
    """Push the data to the DVC remote, see that all of it is there, tag dvc.lock."""
    from tidemill.engines.dvc import snapshots
    from tidemill.runtime import process
    from tidemill.runtime.events import StepNote

    receipt = snapshots.snapshot(recipe)
    for note in receipt.notes:
        process.tell(f"snapshot {recipe}", StepNote(note))
    return receipt
