"""What leaves MLflow: old runs, their artifacts, and versions of theirs that were never live."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tidemill.engines.mlflow import client, ledger, registry
from tidemill.engines.mlflow.live import CHALLENGER, CHAMPION
from tidemill.runtime import addresses, paths
from tidemill.runtime.errors import Fault

PARENT = "mlflow.parentRunId"


def standing() -> dict[tuple[str, str], str]:
    """The versions that must stay, (application, number), each with the reason.

    Those that are live, wait for a person, or were live once. Raises `chain.Broken`: where the
    ledger cannot be trusted nothing goes.
    """
    reasons: dict[tuple[str, str], str] = {}
    for name, model in registry.models().items():
        whole = ledger.read(name, model)
        reasons |= {(name, entry.version): "was live" for entry in whole.entries}
        for alias in (CHALLENGER, CHAMPION):
            if number := model.aliases.get(alias):
                reasons[name, number] = f"is @{alias}"
        if whole.version:
            reasons[name, whole.version] = f"is @{CHAMPION} by the ledger"
    return reasons


def old(days: float) -> dict[str, str]:
    """Runs that may go, id to name.

    They ended more than `days` ago, and neither they nor their parent made a version that must
    stay.
    """
    mlflow = client.connect()
    needed = {
        version.run_id
        for name, number in standing()
        if (version := registry.version(name, number)) and version.run_id
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
    """Remove these runs, their artifacts and the versions they made; gives those versions.

    For good where the database is this project's own. A server elsewhere is told to delete them;
    its keeper frees the space (mlflow gc).
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
    inside = [run for run in runs if _inside(mlflow.get_run(run).info.artifact_uri)]
    for run in runs:
        mlflow.delete_run(run)
    if inside and client.own():
        _free(inside)
    return versions


def _free(runs: list[str]) -> None:
    """Remove deleted runs and their artifacts from this project's own database."""
    database = addresses.sqlite(paths.state("mlflow.db"))
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", database]
    command += ["--artifacts-destination", paths.state("artifacts").as_uri()]
    command += ["--run-ids", ",".join(runs)]
    env = {**os.environ, **paths.environment(), "MLFLOW_TRACKING_URI": database}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Fault(f"mlflow gc: {words}; the runs are marked deleted, run tidemill clean again")


def _inside(artifacts: str) -> bool:
    """Whether `mlflow gc` removes a run's artifacts within this project's folder and nowhere else.

    It decodes a path a second time, so that of `50%25` it would remove `50%`, another folder. Such
    a run stays marked as deleted, and its files are removed by us.
    """
    folder = Path(unquote(urlsplit(artifacts).path)).resolve()
    own = folder.is_relative_to(paths.state("artifacts").resolve())
    return own and unquote(str(folder)) == str(folder)
