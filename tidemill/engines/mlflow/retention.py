"""What leaves MLflow: runs that ended long ago, with their artifacts, and versions of theirs that were never live."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tidemill.engines.mlflow import client, ledger, registry
from tidemill.runtime import addresses, paths
from tidemill.runtime.errors import Fault

PARENT = "mlflow.parentRunId"


def standing() -> dict[tuple[str, str], str]:
    """The versions that must stay, (application, number), each with the reason: live, waiting, or live once."""
    found: dict[tuple[str, str], str] = {}
    for name in registry.applications():
        found |= {(name, entry["version"]): "was live" for entry in ledger.ledger(name)}
        for alias in ("challenger", "champion"):
            if number := registry.aliased(name, alias):
                found[name, number] = f"is @{alias}"
    return found


def old(days: float) -> dict[str, str]:
    """Runs that may go, id to name: ended more than `days` ago, and neither they nor their parent made a version that must stay."""
    mlflow = client.connect()
    needed = {
        run
        for (name, number) in standing()
        if (found := registry.version(name, number)) and (run := found["run_id"])
    }
    before = int((time.time() - days * 86_400) * 1000)
    gone = {}
    for run in _runs(mlflow):
        ended = run.info.end_time
        if ended and ended < before and not {run.info.run_id, run.data.tags.get(PARENT)} & needed:
            gone[run.info.run_id] = run.data.tags.get("mlflow.runName", run.info.run_id)
    return gone


def _runs(mlflow: Any) -> Iterator[Any]:
    ids = [item.experiment_id for item in mlflow.search_experiments()]
    token = None
    while ids:
        page = mlflow.search_runs(ids, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def forget(runs: dict[str, str]) -> list[tuple[str, str]]:
    """Remove these runs, their artifacts and the versions they made, for good where the database is this project's own; gives those versions.

    A server elsewhere is told to delete them; its keeper frees the space (mlflow gc).
    """
    if not runs:
        return []
    mlflow = client.connect()
    versions = []
    for name in registry.applications():
        for version in mlflow.search_model_versions(f"name = '{name}'"):
            if version.run_id in runs:
                mlflow.delete_model_version(name, version.version)
                versions.append((name, str(version.version)))
    own = [run for run in runs if _inside(mlflow.get_run(run).info.artifact_uri)]
    for run in runs:
        mlflow.delete_run(run)
    if not own or client.uri() not in (
        paths.environment()["MLFLOW_TRACKING_URI"],
        os.environ.get("TIDEMILL_MLFLOW_URL"),
    ):
        return versions
    database = addresses.sqlite(paths.state("mlflow.db"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mlflow",
            "gc",
            "--backend-store-uri",
            database,
            "--artifacts-destination",
            paths.state("artifacts").as_uri(),
            "--run-ids",
            ",".join(own),
        ],
        env={**os.environ, **paths.environment(), "MLFLOW_TRACKING_URI": database},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Fault(
            f"mlflow gc: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}; the runs are marked deleted, tidemill clean goes on"
        )
    return versions


def _inside(artifacts: str) -> bool:
    """Whether `mlflow gc` removes a run's artifacts within this project's folder and nowhere else.

    It decodes a path a second time, so that of `50%25` it would remove `50%`, another folder. Such a run
    stays marked as deleted, and its files are removed by us.
    """
    folder = Path(unquote(urlsplit(artifacts).path)).resolve()
    own = folder.is_relative_to(paths.state("artifacts").resolve())
    return own and unquote(str(folder)) == str(folder)
