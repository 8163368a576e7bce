"""Label: documents become examples, with the votes that made each label."""

from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Stage


@step("label {recipe}")
def label(recipe: str, due: bool) -> Stage:
    """Ask the recipe's voters about every document; a data stage, so DVC runs it."""
    from tidemill.engines.dvc import stages

    return stages.stage("label", recipe, due)
