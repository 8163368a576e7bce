"""A person lets a held version out: it is checked again, and the ledger says who and why."""

from typing import Any

from prefect import flow
from prefect.input import RunInput
from prefect.states import Completed
from pydantic import Field

from flows.forms import Application
from tasks.register import promote
from tasks.register.promote import compared_with, waiting
from tidemill.records.receipts import Promoted
from tidemill.runtime.errors import Refused


class Approval(RunInput):
    """What a person answers where a run waits."""

    approve: bool = Field(
        default=False,
        description="on: the held version becomes the champion; off: no, it stays held",
    )
    reason: str = Field(default="", description="kept in the ledger")
    person: str = Field(default="", description="who decides; kept in the ledger")


def run_name() -> str:
    from prefect.runtime import flow_run

    given = flow_run.parameters
    return f"approve {given.get('application', '')} {given.get('version', '')}".strip()


@flow(name="approve", flow_run_name=run_name, persist_result=False)
def approve(
    application: Application, person: str, reason: str, version: str = "", replacing: str = ""
) -> Any:
    """Make a held version the champion; a person decides, and the ledger keeps who and why.

    Args:
        application: Which application; a file of conf/recipe.
        person: Who decides.
        reason: Why; kept in the ledger.
        version: Which version; empty for the one that waits.
        replacing: The version that is live and is replaced; empty for the one it was judged beside.
    """
    if not person.strip() or not reason.strip():
        raise Refused("an approval needs a person and a reason; both are kept in the ledger")
    name = str(application)
    number = waiting(name, version)
    expected = compared_with(name, number, replacing) or ""
    moved: Promoted = promote.submit(
        name, number, person.strip(), reason.strip(), "", expected
    ).result()
    words = f"version {moved.version} is @champion, before it was {moved.previous or 'none'}"
    return Completed(
        name="Promoted" if moved.moved else "Unchanged", message=words, data=moved.model_dump()
    )
