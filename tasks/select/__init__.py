"""Select: the documents an application takes from its sources, each once."""

from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Stage


@step("select {recipe}")
def select(recipe: str, due: bool) -> Stage:
    """Apply the recipe's policy and leave out copies; a data stage, so DVC runs it."""
    from tidemill.engines.dvc import stages

    return stages.stage("select", recipe, due)
