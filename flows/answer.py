"""Files that wait for answers, given by each champion: by a person, and at the end of a night."""

from typing import Any

from prefect import flow
from prefect.states import Completed, Failed

from flows.forms import Application
from tasks.predict import answering
from tidemill.engines import config
from tidemill.engines.prefect.names import hour, named
from tidemill.engines.prefect.reap import register_alive
from tidemill.records.receipts import AnsweredFiles
from tidemill.runtime.errors import Fault, Refused


@flow(
    name="answer",
    flow_run_name=named(lambda given: f"answer waiting files, {hour()}"),
    persist_result=False,
)
def answer(applications: list[Application] = []) -> Any:
    """Answer the files in each folder that conf/recipe names under `answers`.

    A file is answered once by each champion.

    Args:
        applications: Which ones; empty for all whose conf/recipe has `answers`.
    """
    register_alive()
    ends = {name: answered(name) for name in [str(one) for one in applications] or asked()}
    words = (
        "; ".join(f"{name}: {end}" for name, end in ends.items())
        or "no application has a folder of waiting files (answers in conf/recipe)"
    )
    if any(end.startswith("Failed") for end in ends.values()):
        return Failed(message=words)
    return Completed(name="Answered", message=words, data=ends)


def asked() -> list[str]:
    """The applications whose conf/recipe names a folder of waiting files."""
    return [name for name, recipe in config.sound().items() if recipe.answers]


def answered(name: str) -> str:
    """Answer an application's waiting files; what came of them, in words."""
    try:
        done: AnsweredFiles = answering.submit(name).result()
    except (Fault, Refused) as error:
        return f"Failed: {error}"
    return done.in_words()
