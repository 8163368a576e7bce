"""Clean: from data/raw/SOURCE to documents, the dropped beside them with their reasons."""

from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Stage


@step("clean {source}")
def clean(source: str, due: bool) -> Stage:
    """Cut, read and measure a source's pages; a data stage, so DVC runs it."""
    from tidemill.engines.dvc import stages

    return stages.stage("clean", source, due)
