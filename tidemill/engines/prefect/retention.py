"""Old runs leave Prefect's database; what a person may still ask for stays."""

from datetime import UTC, datetime, timedelta
from typing import Any


def forget(days: float, really: bool) -> int:
    """How many flow runs ended more than `days` ago; they are deleted where it is meant."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterEndTime

    before: Any = datetime.now(UTC) - timedelta(days=days)
    count = 0
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(
            flow_run_filter=FlowRunFilter(end_time=FlowRunFilterEndTime(before_=before)),
            limit=200,
            offset=0 if really else count,
        ):
            count += len(runs)
            for run in runs if really else ():
                client.delete_flow_run(run.id)
    return count
