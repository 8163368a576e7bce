"""Select: the documents an application takes from its sources, each once."""

from tasks.receipts import Stage
from tasks.step import step


@step("select {recipe}")
def select(recipe: str, due: bool) -> Stage:
    """Apply the recipe's policy and leave out copies; a data stage, so DVC runs it."""
    from tasks import version

    return version.stage("select", recipe, due)
