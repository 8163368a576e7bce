"""The previous champion again, from Prefect's form."""

from typing import Any

from prefect import flow
from prefect.states import Completed

from flows.forms import Application
from tasks.register import promote
from tasks.register.promote import before
from tidemill.engines.mlflow.live import live
from tidemill.records.receipts import Promoted
from tidemill.runtime.errors import Refused


@flow(name="rollback", flow_run_name="rollback {application}", persist_result=False)
def rollback(application: Application, person: str, reason: str, to: str = "") -> Any:
    """Make an earlier champion live again; the ledger keeps who and why.

    Args:
        application: Which application; a file of conf/recipe.
        person: Who decides.
        reason: Why; kept in the ledger.
        to: A version's number; empty for the champion before this one. A second rollback goes
            further back.
    """
    if not person.strip() or not reason.strip():
        raise Refused("a rollback needs a person and a reason; both are kept in the ledger")
    name = str(application)
    expected = live(name).version or ""
    moved: Promoted = promote.submit(
        name, before(name, to), person.strip(), reason.strip(), "", expected
    ).result()
    return Completed(
        name="RolledBack" if moved.moved else "Unchanged",
        message=f"version {moved.version} is @champion, before it was {moved.previous}",
        data=moved.model_dump(),
    )
