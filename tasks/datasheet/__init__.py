"""Datasheet: what a snapshot is made of.

For people (datasheet.md with pictures) and for machines (croissant.json).
"""

import sys
from pathlib import Path

from tidemill.engines.prefect.step import step
from tidemill.runtime.paths import state


def folder(recipe: str, digest: str) -> Path:
    """Where a snapshot's card lies."""
    return state("snapshots", recipe, digest[:16])


@step("datasheet {application}")
def datasheet(application: str, run: str, names: list[str]) -> str:
    """Count a snapshot, draw it and describe it in Croissant. Gives the datasheet's words.

    The card goes beside the snapshot and into the run in MLflow.
    """
    from tidemill.engines.dvc import snapshots
    from tidemill.run import plan
    from tidemill.runtime import process

    this = plan.load(run)
    there = folder(application, this.snapshot)
    new = not (there / "croissant.json").is_file()
    process.run(
        f"datasheet {application}",
        [sys.executable, "-m", "tasks.datasheet", "--run", this.path],
    )
    if new:
        snapshots.keep_card(names, there)
    return (there / "datasheet.md").read_text()
