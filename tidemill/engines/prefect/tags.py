"""How a run ended, as a tag of it: Prefect colours by the kind of state, and a refusal is no fault.

A run whose model was rejected is Completed, or every automation on failures would fire. The tag is
what the list of runs shows and can be filtered by.
"""


def tag(end: str) -> None:
    """Add the named end to the tags of the run one is in; nothing outside of a run."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    if not flow_run.id:
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags=sorted({*flow_run.tags, end}))
