"""Label: documents become examples, with the votes that made each label."""

from tasks.receipts import Stage
from tasks.step import step


@step("label {recipe}")
def label(recipe: str, due: bool) -> Stage:
    """Ask the recipe's voters about every document; a data stage, so DVC runs it."""
    from tasks import version

    return version.stage("label", recipe, due)
