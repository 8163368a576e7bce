"""A person lets a held version out: what was judged is checked again, and the ledger says who and why."""

from typing import Any

from prefect import flow
from prefect.input import RunInput
from prefect.states import Completed
from pydantic import Field

from flows.forms import Application
from tasks.register import promote
from tidemill.engines.mlflow import registry
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

    return f"approve {flow_run.parameters.get('application', '')} {flow_run.parameters.get('version', '')}".strip()


def held(application: str, version: str = "") -> str:
    """The version that waits: the one named, else the challenger."""
    number = version or registry.aliased(application, "challenger")
    if number is None:
        raise Refused(
            f"no version of {application} waits for approval; name one, as tidemill status lists them"
        )
    return number


@flow(name="approve", flow_run_name=run_name, persist_result=False)
def approve(application: Application, person: str, reason: str, version: str = "") -> Any:
    """Make a held version the champion; a person decides, and the ledger keeps who and why.

    Args:
        application: Which application; a file of conf/recipe.
        person: Who decides.
        reason: Why; kept in the ledger.
        version: Which version; empty for the one that waits.
    """
    if not person.strip() or not reason.strip():
        raise Refused("an approval needs a person and a reason; both are kept in the ledger")
    moved: Promoted = promote.submit(
        str(application), held(str(application), version), person.strip(), reason.strip(), ""
    ).result()
    words = f"version {moved.version} is @champion, before it was {moved.previous or 'none'}"
    return Completed(
        name="Promoted" if moved.moved else "Unchanged", message=words, data=moved.model_dump()
    )
