"""Train a version again and compare, from Prefect's form."""

from typing import Any

from prefect import flow
from prefect.states import Completed

from flows.forms import Application
from tasks.verify import verify as verifying
from tidemill.engines.prefect.names import hour, named
from tidemill.engines.prefect.reap import register_alive
from tidemill.records.receipts import Verified
from tidemill.runtime.errors import Fault


@flow(
    name="verify",
    flow_run_name=named(lambda given: f"verify {given.get('application', '')}, {hour()}"),
    persist_result=False,
)
def verify(application: Application, version: str = "") -> Any:
    """Train a version again from its pinned data, code and seed, and compare its weights.

    The verdict stands on the version.

    Args:
        application: Which application; a file of conf/recipe.
        version: A version's number; empty for the champion.
    """
    register_alive()
    found: Verified = verifying.submit(str(application), version).result()
    if found.verdict == "different":
        raise Fault(f"{application} version {found.version}: {found.because}")
    return Completed(
        name="Verified",
        message=f"version {found.version} is {found.verdict}: {found.because}",
        data=found.model_dump(),
    )
