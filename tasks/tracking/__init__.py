"""Which models: runs, the registry and the ledger. The only door to MLflow.

Always the client with an explicit run id: the fluent interface is bound to a thread and writes to
the wrong run inside task threads. Whatever is created is searched for first, by a tag that is ours,
since a lost answer must not make a second run or version.
"""

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks import places
from tasks.tracking import database, light
from tasks.tracking.once import once

KEY = "tidemill.key"
LEDGER = "ledger."


def client() -> Any:
    """MLflow's client at MLFLOW_TRACKING_URI, by default the SQLite file of this project."""
    places.settle()
    database.create(uri())
    from mlflow import MlflowClient

    return MlflowClient()


def uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or places.environment()["MLFLOW_TRACKING_URI"]


def quick() -> light.Registry | None:
    """The registry without MLflow's import; None where only MLflow's client can ask it."""
    return light.at(uri())


def unborn() -> bool:
    """Whether the registry is a SQLite file that nothing has been written to yet."""
    return database.missing(uri())


# Runs -------------------------------------------------------------------------------------------


def experiment(name: str) -> str:
    mlflow = client()
    # The servers of `tidemill up` read the same folder; only another's keep artifacts where they like.
    local = uri() in (
        os.environ.get("TIDEMILL_MLFLOW_URL"),
        uri() if uri().startswith("sqlite") else None,
    )

    def find() -> list[str]:
        found = mlflow.get_experiment_by_name(name)
        return [found.experiment_id] if found else []

    return once(
        find,
        lambda: mlflow.create_experiment(
            name, artifact_location=f"file://{places.state('artifacts', name)}" if local else None
        ),
        lambda _: None,
    )


def run(
    application: str,
    key: str,
    name: str,
    tags: Mapping[str, str] | None = None,
    parent: str | None = None,
) -> str:
    """The run with this key, made where there is none; its id."""
    mlflow = client()
    where = experiment(application)
    own = {KEY: key, "mlflow.runName": name, **(tags or {})}
    if parent:
        own["mlflow.parentRunId"] = parent
    return once(
        lambda: _runs(where, key),
        lambda: mlflow.create_run(where, tags=own, run_name=name),
        mlflow.delete_run,
    )


def _runs(where: str, key: str) -> list[str]:
    """The runs with a key, the first one first: one, unless an answer was lost."""
    found = client().search_runs(
        [where], filter_string=f"tags.`{KEY}` = '{key}'", order_by=["attributes.start_time ASC"]
    )
    return [item.info.run_id for item in found]


def parent(application: str, key: str) -> str | None:
    """The id of a retraining's run, if it was begun."""
    mlflow = client()
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

    mlflow = client()
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


def told(run_id: str) -> Any:
    """What was logged with a run: params, metrics (the last of each) and tags."""
    return client().get_run(run_id).data


def log_curve(run_id: str, name: str, points: Iterable[tuple[int, float]]) -> None:
    """A whole curve at once: steps and values."""
    from mlflow.entities import Metric

    now = int(datetime.now(UTC).timestamp() * 1000)
    told = [Metric(name, float(value), now, step) for step, value in points if value == value]
    for start in range(0, len(told), 1000):  # MLflow takes a thousand at a time
        client().log_batch(run_id, metrics=told[start : start + 1000])


def looks(application: str, digest: str, run_id: str) -> int:
    """How many runs have looked at these test rows, this one included; notes that it does."""
    mlflow = client()
    mlflow.set_tag(run_id, "tidemill.test", digest)
    seen = mlflow.search_runs(
        [experiment(application)],
        filter_string=f"tags.`tidemill.test` = '{digest}'",
        max_results=1000,
    )
    return len(seen)


def log_files(run_id: str, folder: Path, to: str) -> None:
    client().log_artifacts(run_id, str(folder), to)


def log_text(run_id: str, text: str, name: str) -> None:
    client().log_text(run_id, text, name)


def read_text(run_id: str, name: str) -> str:
    """A text that was logged with a run."""
    import mlflow.artifacts

    client()
    return mlflow.artifacts.load_text(f"runs:/{run_id}/{name}")


def log_table(run_id: str, rows: list[dict[str, Any]], name: str) -> None:
    """A table that MLflow's page shows as one."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    client().log_dict(
        run_id,
        {"columns": columns, "data": [[row.get(key) for key in columns] for row in rows]},
        name,
    )


def log_dataset(run_id: str, name: str, digest: str, source: str, rows: Mapping[str, int]) -> None:
    """The snapshot as the run's dataset."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if client().get_run(run_id).inputs.dataset_inputs:
        return
    dataset = Dataset(
        name=name,
        digest=digest[:36],
        source_type="dvc",
        source=json.dumps({"uri": source}),
        profile=json.dumps(dict(rows)),
    )
    client().log_inputs(
        run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
    )


def finish(run_id: str, failed: bool = False) -> None:
    client().set_terminated(run_id, "FAILED" if failed else "FINISHED")


def end(run_id: str, state: str, because: str) -> None:
    """Close a run with the named state it ended in."""
    log(run_id, tags={"tidemill.state": state, "tidemill.because": because})
    finish(run_id, failed=state == "Failed")


def lightning_logger(run_id: str) -> Any:
    """Lightning's own MLflow logger, on a run that is there."""
    from lightning.pytorch.loggers import MLFlowLogger

    return MLFlowLogger(tracking_uri=uri(), run_id=run_id, log_model=False)


# The registry -----------------------------------------------------------------------------------


def save_model(package: Path, to: Path, example: dict[str, Any]) -> None:
    """An MLflow model in its ONNX form, without pickle: the package beside, signature and example in it."""
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import infer_signature

    graph = onnx.load(package / "model.onnx")
    arrays = {name: np.asarray(value) for name, value in example["inputs"].items()}
    signature = infer_signature(
        arrays, {name: np.asarray(value) for name, value in example["outputs"].items()}
    )
    mlflow.onnx.save_model(
        graph,
        str(to),
        signature=signature,
        input_example=arrays,
        pip_requirements=["onnxruntime", "numpy"],
        save_as_external_data=False,
    )


def version_of(application: str, digest: str) -> str | None:
    """The version whose package has this digest, if there is one."""
    return next(iter(_versions(application, digest)), None)


def _versions(application: str, digest: str) -> list[str]:
    found = client().search_model_versions(
        f"name = '{application}' and tags.`tidemill.digest` = '{digest}'"
    )
    return sorted((str(item.version) for item in found), key=int)


def register(application: str, run_id: str, digest: str, tags: Mapping[str, str]) -> str:
    """One version per package digest, whatever is lost on the way."""
    from mlflow.exceptions import MlflowException

    mlflow = client()

    def model() -> list[str]:
        try:
            return [mlflow.get_registered_model(application).name]
        except MlflowException:
            return []

    once(model, lambda: mlflow.create_registered_model(application), lambda _: None)
    # The tags travel with the creating call, so a version is never there without its digest.
    found = once(
        lambda: _versions(application, digest),
        lambda: mlflow.create_model_version(
            application,
            f"runs:/{run_id}/model",
            run_id=run_id,
            tags={"tidemill.digest": digest, **tags},
        ),
        lambda number: mlflow.delete_model_version(application, number),
    )
    for name, value in tags.items():
        mlflow.set_model_version_tag(application, found, name, value)
    return found


def version(application: str, number: str) -> dict[str, Any] | None:
    """A version's tags and origin; None where there is none."""
    if registry := quick():
        return registry.version(application, number)
    from mlflow.exceptions import MlflowException

    try:
        found = client().get_model_version(application, number)
    except MlflowException:
        return None
    return {
        "version": str(found.version),
        "run_id": found.run_id,
        "source": found.source,
        "tags": dict(found.tags),
        "created": found.creation_timestamp,
    }


def tag(application: str, number: str, name: str) -> str | None:
    """One tag of a version; None where there is no such version or tag."""
    found = version(application, number)
    return found["tags"].get(name) if found else None


def tag_version(application: str, number: str, tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        client().set_model_version_tag(application, number, name, value[:4000])


def aliased(application: str, alias: str = "champion") -> str | None:
    """The version an alias stands for; None where it stands for none."""
    if registry := quick():
        return registry.alias(application, alias)
    from mlflow.exceptions import MlflowException

    try:
        return str(client().get_model_version_by_alias(application, alias).version)
    except MlflowException:
        return None


def package(application: str, number: str) -> Path:
    """A version's package on this machine, each file found to be what was registered."""
    from tasks import signing
    from tasks.export import digests, verify

    found = version(application, number)
    if found is None:
        from tasks.errors import Refused

        raise Refused(f"no version {number} of {application}")
    here = places.state("packages", application, number)
    wanted = found["tags"]["tidemill.digest"]
    if not here.is_dir() or digests(here)[0] != wanted:
        here = brought(found["run_id"], here)
    verify(here, wanted, f"{application} version {number}")
    signing.check(here, f"{application} version {number}")
    return here


def brought(run_id: str, here: Path) -> Path:
    """A run's package: where the artifact store is on this machine, read where it lies; else copied to `here`."""
    import shutil
    import tempfile

    here.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=here.parent, prefix=".part-") as temporary:
        registry = quick()
        got = registry.fetch(run_id, "package", Path(temporary) / "package") if registry else None
        if got is None:
            import mlflow.artifacts

            client()
            got = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"runs:/{run_id}/package"))
            if not got.is_relative_to(places.state("artifacts")):
                got = Path(shutil.copytree(got, Path(temporary) / "copy"))
        if not got.is_relative_to(temporary):
            return got
        shutil.rmtree(here, ignore_errors=True)
        got.replace(here)
    return here


def move(application: str, alias: str, number: str) -> None:
    if registry := quick():
        registry.set_alias(application, alias, number)
        return
    client().set_registered_model_alias(application, alias, number)


def drop(application: str, alias: str) -> None:
    if registry := quick():
        registry.drop_alias(application, alias)
    elif aliased(application, alias) is not None:
        client().delete_registered_model_alias(application, alias)


# The ledger -------------------------------------------------------------------------------------


def ledger(application: str) -> list[dict[str, Any]]:
    """What was live, since when and why, oldest first. Each entry holds the digest of the one before."""
    from tasks.errors import Fault
    from tasks.files import digest

    tags = _tags(application)
    entries, before = [], ""
    for name in sorted(name for name in tags if name.startswith(LEDGER)):
        entry = json.loads(tags[name])
        if entry["before"] != before:
            raise Fault(
                f"the ledger of {application} is broken at {name}: an entry was changed or removed"
            )
        before = digest(entry)
        entries.append(entry)
    return entries


def _tags(application: str) -> Mapping[str, str]:
    if registry := quick():
        return registry.tags(application) or {}
    from mlflow.exceptions import MlflowException

    try:
        return client().get_registered_model(application).tags
    except MlflowException:
        return {}


def record(application: str, entry: Mapping[str, Any]) -> None:
    """Append to the ledger."""
    from tasks.files import canonical, digest

    entries = ledger(application)
    whole = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **entry,
        "before": digest(entries[-1]) if entries else "",
    }
    name = f"{LEDGER}{len(entries) + 1:06d}"
    if registry := quick():
        registry.set_tag(application, name, canonical(whole))
    else:
        client().set_registered_model_tag(application, name, canonical(whole))


def snapshots() -> list[tuple[str, str, str]]:
    """Every registered version with the snapshot it was made from: application, number, digest."""
    found = []
    for name in applications():
        for item in client().search_model_versions(f"name = '{name}'"):
            if snapshot := item.tags.get("tidemill.snapshot"):
                found.append((name, str(item.version), snapshot))
    return found


def applications() -> list[str]:
    if registry := quick():
        return sorted(registry.models())
    return sorted(model.name for model in client().search_registered_models())


def recent(names: Iterable[str], limit: int = 5) -> list[dict[str, Any]]:
    """The last runs, newest first, of these applications."""
    mlflow = client()
    ids = [found.experiment_id for name in names if (found := mlflow.get_experiment_by_name(name))]
    if not ids:
        return []
    runs = mlflow.search_runs(
        ids,
        filter_string="tags.`tidemill.kind` = 'retraining'",
        max_results=limit,
        order_by=["attributes.start_time DESC"],
    )
    return [
        {
            "application": item.data.tags.get("tidemill.application"),
            "state": item.data.tags.get("tidemill.state", item.info.status.title()),
            "because": item.data.tags.get("tidemill.because", ""),
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
