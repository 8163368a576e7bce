"""Split: train, valid and test, by what a row is and never by its position."""

from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Stage


@step("split {recipe}")
def split(recipe: str, due: bool) -> Stage:
    """Divide the examples; a data stage, so DVC runs it."""
    from tidemill.engines.dvc import stages

    return stages.stage("split", recipe, due)
