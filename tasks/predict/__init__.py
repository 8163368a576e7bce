"""Predict: answer every row of a table, a folder or JSON lines, in parts that survive a kill."""

from tidemill.engines.prefect.step import step
from tidemill.records.receipts import AnsweredFiles


@step("answer the files that wait for {application}")
def answering(application: str) -> AnsweredFiles:
    """Answer each file that this version has not answered yet."""
    from tidemill.runtime.process import answer

    return answer(f"answer {application}", "tasks.predict.waiting", [application], AnsweredFiles)
