"""The registry: models, versions, their tags and aliases.

Whatever is created is searched for first, since a lost answer must not make a second version."""

import re
from collections.abc import Mapping
from typing import Any

from tidemill.engines.mlflow import seal
from tidemill.engines.mlflow import tags as names
from tidemill.engines.mlflow.client import Missing, connect, quick
from tidemill.engines.mlflow.idempotent import once
from tidemill.engines.mlflow.version import Model, Version
from tidemill.runtime.errors import Fault

LONGEST = 4_000  # characters of a tag
NUMBER = re.compile(r"[1-9][0-9]{0,17}")


def models() -> dict[str, Model]:
    """Every registered model by its name."""
    if registry := quick():
        return registry.models()
    return {item.name: _model(item) for item in connect().search_registered_models()}


def model(application: str) -> Model | None:
    """An application's aliases and tags; None where nothing of it was registered."""
    if registry := quick():
        return registry.model(application)
    try:
        return _model(connect().get_registered_model(application))
    except Missing:
        return None


def _model(item: Any) -> Model:
    return Model({name: str(number) for name, number in item.aliases.items()}, dict(item.tags))


def applications() -> list[str]:
    return sorted(models())


def aliased(application: str, alias: str) -> str | None:
    """The version an alias stands for; None where it stands for none.

    Which version is live is a question to live.py, not to an alias.
    """
    there = model(application)
    return there.aliases.get(alias) if there else None


def version(application: str, number: str) -> Version | None:
    """A version's tags and origin; None where there is none, or `number` is not as it is written.

    A database would find version 1 by "01" as well, and the ledger compares what is written.
    """
    if not NUMBER.fullmatch(number):
        return None
    if registry := quick():
        return registry.version(application, number)
    try:
        return _version(connect().get_model_version(application, number))
    except Missing:
        return None


def _version(item: Any) -> Version:
    return Version(
        application=item.name,
        number=str(item.version),
        run_id=item.run_id or "",
        source=item.source or "",
        created_ms=item.creation_timestamp or 0,
        tags=dict(item.tags),
    )


def tag(application: str, number: str, name: str) -> str | None:
    """One tag of a version; None where there is no such version or tag."""
    there = version(application, number)
    return there.tags.get(name) if there else None


def version_of(application: str, digest: str) -> str | None:
    """The version whose package has this digest, if there is one."""
    return next(iter(_numbers(application, digest)), None)


def _numbers(application: str, digest: str) -> list[str]:
    items = connect().search_model_versions(
        f"name = '{application}' and tags.`{names.DIGEST}` = '{digest}'"
    )
    return sorted((str(item.version) for item in items), key=int)


def register(application: str, run_id: str, digest: str, tags: Mapping[str, str]) -> str:
    """One version per package digest, whatever is lost on the way; sealed with its verdict."""
    mlflow = connect()

    def there() -> list[str]:
        try:
            return [mlflow.get_registered_model(application).name]
        except Missing:
            return []

    once(there, lambda: mlflow.create_registered_model(application), lambda _: None)
    # The tags travel with the creating call, so a version is never there without its digest.
    number = once(
        lambda: _numbers(application, digest),
        lambda: mlflow.create_model_version(
            application,
            f"runs:/{run_id}/model",
            run_id=run_id,
            tags={names.DIGEST: digest, **tags},
        ),
        lambda more: mlflow.delete_model_version(application, more),
    )
    tag_version(application, number, tags)
    made = version(application, number)
    if made is None:
        raise Fault(f"version {number} of {application} was deleted while it was registered")
    # The seal comes last: a version whose tags are half written is one that nobody can promote.
    tag_version(application, number, {names.SEAL: seal.made(made)})
    return number


def tag_version(application: str, number: str, tags: Mapping[str, str]) -> None:
    mlflow = connect()
    for name, value in tags.items():
        mlflow.set_model_version_tag(application, number, name, value[:LONGEST])


def move(application: str, alias: str, number: str) -> None:
    connect().set_registered_model_alias(application, alias, number)


def drop(application: str, alias: str) -> None:
    if aliased(application, alias) is not None:
        connect().delete_registered_model_alias(application, alias)


def set_tag(application: str, name: str, value: str) -> None:
    """Set a tag of the application's registered model."""
    connect().set_registered_model_tag(application, name, value)


def drop_tag(application: str, name: str) -> None:
    """Remove a tag of the application's registered model, if it is there."""
    there = model(application)
    if there and name in there.tags:
        connect().delete_registered_model_tag(application, name)


def snapshots() -> list[tuple[str, str, str]]:
    """Every registered version with the snapshot it was made from: application, number, digest."""
    mlflow = connect()
    rows = []
    for name in applications():
        for item in mlflow.search_model_versions(f"name = '{name}'"):
            if snapshot := item.tags.get(names.SNAPSHOT):
                rows.append((name, str(item.version), snapshot))
    return rows
