"""Runs: what one retraining logs, found again by a tag that is ours.

Whatever is created is searched for first, since a lost answer must not make a second run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from tidemill.engines.mlflow import tags as names
from tidemill.engines.mlflow.client import Missing, connect, errors, own, quick, uri
from tidemill.engines.mlflow.description import fields
from tidemill.engines.mlflow.direct import local
from tidemill.engines.mlflow.idempotent import once
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused
from tidemill.runtime.events import Cell

ACTIVE = "active"
BATCH = 900  # metrics in a request; MLflow takes a thousand, parameters and tags included


class RecentRun(TypedDict):
    """One of the last retrainings."""

    application: str | None
    state: str  # how it ended, or MLflow's status where it did not
    because: str
    run_id: str
    at: str  # when it started: UTC, ISO 8601


def experiment(name: str) -> str:
    """The id of an application's experiment, made where there is none.

    Raises `Refused` where it was deleted.
    """
    mlflow = connect()
    # The server of `tidemill up` reads the same folder; another's keeps artifacts where it likes.
    here = own() or uri().startswith("sqlite")
    where = paths.state("artifacts", name).as_uri() if here else None

    def find() -> list[str]:
        there = mlflow.get_experiment_by_name(name)
        if there and there.lifecycle_stage != ACTIVE:
            raise Refused(deleted_experiment(name, there.experiment_id))
        return [there.experiment_id] if there else []

    return once(
        find, lambda: mlflow.create_experiment(name, artifact_location=where), lambda _: None
    )


def find_experiment(name: str) -> tuple[str, bool] | None:
    """An experiment's id, and whether it was not deleted; None where there is none."""
    if registry := quick():
        return registry.experiment(name)
    there = connect().get_experiment_by_name(name)
    return (there.experiment_id, there.lifecycle_stage == ACTIVE) if there else None


def is_active(run_id: str) -> bool | None:
    """Whether a run is there and not deleted; None where there is no trace of it."""
    if registry := quick():
        return registry.run(run_id)
    try:
        return connect().get_run(run_id).info.lifecycle_stage == ACTIVE
    except Missing:
        return None


def artifacts(run_id: str) -> Path | None:
    """Where a run's files lie on this machine; None where they lie elsewhere.

    Raises `Missing` where there is no such run.
    """
    if registry := quick():
        address = registry.artifacts(run_id)
    else:
        address = connect().get_run(run_id).info.artifact_uri
    if address is None:
        raise Missing(f"MLflow at {uri()} has no run {run_id}")
    return local(address)


def deleted_experiment(name: str, experiment_id: str) -> str:
    """What to tell about an experiment that was deleted on MLflow's page."""
    return (
        f"the experiment {name} was deleted in MLflow; bring it back with: "
        f"MLFLOW_TRACKING_URI={uri()} mlflow experiments restore --experiment-id {experiment_id}"
    )


def start(
    application: str,
    key: str,
    name: str,
    tags: Mapping[str, str] | None = None,
    parent: str | None = None,
) -> str:
    """The run with this key, made where there is none; its id."""
    mlflow = connect()
    where = experiment(application)
    own_tags = {
        names.KEY: key,
        "mlflow.runName": name,
        **fields(application, name),
        **(tags or {}),
    }
    if parent:
        own_tags["mlflow.parentRunId"] = parent
    return once(
        lambda: _runs(where, key),
        lambda: mlflow.create_run(where, tags=own_tags, run_name=name),
        mlflow.delete_run,
    )


def _runs(where: str, key: str) -> list[str]:
    """The runs with a key, the first one first: one, unless an answer was lost."""
    found = connect().search_runs(
        [where],
        filter_string=f"tags.`{names.KEY}` = '{key}'",
        order_by=["attributes.start_time ASC"],
    )
    return [item.info.run_id for item in found]


def parent(application: str, key: str) -> str | None:
    """The id of a retraining's run, if it was begun."""
    mlflow = connect()
    found = mlflow.get_experiment_by_name(application)
    return next(iter(_runs(found.experiment_id, key)), None) if found else None


def log(
    run_id: str,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    step: int = 0,
) -> None:
    """Log at once; a parameter that is there with another value stays as it is."""
    from mlflow.entities import Metric, Param, RunTag

    mlflow = connect()
    there = mlflow.get_run(run_id).data.params if params else {}
    now = int(datetime.now(UTC).timestamp() * 1000)
    mlflow.log_batch(
        run_id,
        metrics=[
            Metric(name, float(value), now, step)
            for name, value in (metrics or {}).items()
            if value == value
        ],
        params=[
            Param(name, str(value)[:6000])
            for name, value in (params or {}).items()
            if name not in there
        ],
        tags=[RunTag(name, str(value)[:8000]) for name, value in (tags or {}).items()],
    )


def data(run_id: str) -> Any:
    """What was logged with a run: params, metrics (the last of each) and tags."""
    return connect().get_run(run_id).data


def log_curve(run_id: str, name: str, points: Iterable[tuple[int, float]]) -> None:
    """A whole curve at once: steps and values."""
    from mlflow.entities import Metric

    now = int(datetime.now(UTC).timestamp() * 1000)
    told = [Metric(name, float(value), now, step) for step, value in points if value == value]
    for start in range(0, len(told), BATCH):
        connect().log_batch(run_id, metrics=told[start : start + BATCH])


def log_all(
    run_id: str,
    params: Mapping[str, Any],
    curves: Mapping[str, Iterable[tuple[int, float]]],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> None:
    """Log what a short training has in as few requests as MLflow allows.

    `curves` are steps and values by name. A parameter that is there must have the same value.
    """
    from mlflow.entities import Metric, Param, RunTag

    now = int(datetime.now(UTC).timestamp() * 1000)
    points = [(name, 0, value) for name, value in metrics.items()]
    points += [(name, step, value) for name, curve in curves.items() for step, value in curve]
    figures = [Metric(name, float(value), now, step) for name, step, value in points]
    figures = [figure for figure in figures if figure.value == figure.value]
    connect().log_batch(
        run_id,
        metrics=figures[:BATCH],
        params=[Param(name, str(value)[:6000]) for name, value in params.items()],
        tags=[RunTag(name, str(value)[:8000]) for name, value in tags.items()],
    )
    for start in range(BATCH, len(figures), BATCH):
        connect().log_batch(run_id, metrics=figures[start : start + BATCH])


def log_files(run_id: str, folder: Path, to: str) -> None:
    connect().log_artifacts(run_id, str(folder), to)


def log_text(run_id: str, text: str, name: str) -> None:
    connect().log_text(run_id, text, name)


def read_text(run_id: str, name: str) -> str:
    """A text that was logged with a run."""
    import mlflow.artifacts

    connect()
    with errors():
        return mlflow.artifacts.load_text(f"runs:/{run_id}/{name}")


def log_table(run_id: str, rows: Sequence[Mapping[str, Cell]], name: str) -> None:
    """A table that MLflow's page shows as one."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    connect().log_dict(
        run_id,
        {"columns": columns, "data": [[row.get(key) for key in columns] for row in rows]},
        name,
    )


def log_dataset(run_id: str, name: str, digest: str, source: str, rows: Mapping[str, int]) -> None:
    """The snapshot as the run's dataset."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if connect().get_run(run_id).inputs.dataset_inputs:
        return
    dataset = Dataset(
        name=name,
        digest=digest[:36],
        source_type="dvc",
        source=json.dumps({"uri": source}),
        profile=json.dumps(dict(rows)),
    )
    connect().log_inputs(
        run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
    )


def finish(run_id: str, failed: bool = False) -> None:
    connect().set_terminated(run_id, "FAILED" if failed else "FINISHED")


def end(run_id: str, state: str, because: str) -> None:
    """Close a run with the named state it ended in."""
    log(run_id, tags={names.STATE: state, names.BECAUSE: because})
    finish(run_id, failed=state == "Failed")


def lightning_logger(run_id: str) -> Any:
    """Lightning's own MLflow logger, on a run that is there."""
    from lightning.pytorch.loggers import MLFlowLogger

    return MLFlowLogger(tracking_uri=uri(), run_id=run_id, log_model=False)


def recent(applications: Iterable[str], limit: int = 5) -> list[RecentRun]:
    """The last runs, newest first, of these applications."""
    mlflow = connect()
    experiments = [mlflow.get_experiment_by_name(name) for name in applications]
    ids = [experiment.experiment_id for experiment in experiments if experiment]
    if not ids:
        return []
    runs = mlflow.search_runs(
        ids,
        filter_string=f"tags.`{names.KIND}` = 'retraining'",
        max_results=limit,
        order_by=["attributes.start_time DESC"],
    )
    return [
        {
            "application": item.data.tags.get(names.APPLICATION),
            "state": item.data.tags.get(names.STATE, item.info.status.title()),
            "because": item.data.tags.get(names.BECAUSE, ""),
            "run_id": item.info.run_id,
            "at": datetime.fromtimestamp(item.info.start_time / 1000, UTC).isoformat(
                timespec="seconds"
            ),
        }
        for item in runs
    ]


def page(run_id: str, experiment_id: str) -> str:
    """The path of a run's page; MLflow opens in another mode without the query."""
    query = "workflowType=machine_learning"
    return f"/?{query}#/experiments/{experiment_id}/runs/{run_id}?{query}"
