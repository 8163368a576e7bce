"""Snapshot: the data of a run gets a name by which it can be brought back (tasks/version.py)."""

from tasks.receipts import Snapshot
from tasks.step import step


@step("snapshot {recipe}")
def snapshot(recipe: str) -> Snapshot:
    """Push the data to the DVC remote, see that all of it is there, tag dvc.lock."""
    from tasks import process, version

    found = version.snapshot(recipe)
    for note in found.notes:
        process.tell(f"snapshot {recipe}", note=note)
    return found
