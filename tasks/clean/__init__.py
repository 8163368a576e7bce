"""Clean: from data/raw/SOURCE to documents, the dropped beside them with their reasons."""

from tasks.receipts import Stage
from tasks.step import step


@step("clean {source}")
def clean(source: str, due: bool) -> Stage:
    """Cut, read and measure a source's pages; a data stage, so DVC runs it."""
    from tasks import version

    return version.stage("clean", source, due)
