"""The registry: versions, their tags and aliases.

Whatever is created is searched for first, since a lost answer must not make a second version."""

from collections.abc import Mapping
from typing import Any

from tidemill.engines.mlflow.client import connect, quick
from tidemill.engines.mlflow.idempotent import once


def version_of(application: str, digest: str) -> str | None:
    """The version whose package has this digest, if there is one."""
    return next(iter(_versions(application, digest)), None)


def _versions(application: str, digest: str) -> list[str]:
    found = connect().search_model_versions(
        f"name = '{application}' and tags.`tidemill.digest` = '{digest}'"
    )
    return sorted((str(item.version) for item in found), key=int)


def register(application: str, run_id: str, digest: str, tags: Mapping[str, str]) -> str:
    """One version per package digest, whatever is lost on the way."""
    from mlflow.exceptions import MlflowException

    mlflow = connect()

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
        found = connect().get_model_version(application, number)
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
        connect().set_model_version_tag(application, number, name, value[:4000])


def aliased(application: str, alias: str = "champion") -> str | None:
    """The version an alias stands for; None where it stands for none."""
    if registry := quick():
        return registry.alias(application, alias)
    from mlflow.exceptions import MlflowException

    try:
        return str(connect().get_model_version_by_alias(application, alias).version)
    except MlflowException:
        return None


def move(application: str, alias: str, number: str) -> None:
    if registry := quick():
        registry.set_alias(application, alias, number)
        return
    connect().set_registered_model_alias(application, alias, number)


def drop(application: str, alias: str) -> None:
    if registry := quick():
        registry.drop_alias(application, alias)
    elif aliased(application, alias) is not None:
        connect().delete_registered_model_alias(application, alias)


def snapshots() -> list[tuple[str, str, str]]:
    """Every registered version with the snapshot it was made from: application, number, digest."""
    found = []
    for name in applications():
        for item in connect().search_model_versions(f"name = '{name}'"):
            if snapshot := item.tags.get("tidemill.snapshot"):
                found.append((name, str(item.version), snapshot))
    return found


def applications() -> list[str]:
    if registry := quick():
        return sorted(registry.models())
    return sorted(model.name for model in connect().search_registered_models())
