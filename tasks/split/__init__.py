"""Split: train, valid and test, by what a row is and never by its position."""

from tasks.receipts import Stage
from tasks.step import step


@step("split {recipe}")
def split(recipe: str, due: bool) -> Stage:
    """Divide the examples; a data stage, so DVC runs it."""
    from tasks import version

    return version.stage("split", recipe, due)
