"""The registry read without MLflow's import, which costs two seconds and 300 MB.

It is asked by its REST API, or in its SQLite file. Nothing is written here: MLflow's own client
writes. A database of another schema than those named below is left to MLflow's client too: `at`
gives None for it.
"""

import base64
import json
import os
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypedDict
from urllib.parse import unquote, urlencode, urlsplit

from tidemill.engines.mlflow.version import Model, Version
from tidemill.runtime import addresses
from tidemill.runtime.errors import Fault

SCHEMAS = ("dc11669786a5",)  # of MLflow 3.17's database (alembic's revision)
WAIT_S = 10
CHUNK = 1 << 20
ACTIVE = "active"


class Away(Fault):
    """The registry does not answer; what was known before still holds."""

    def __init__(self, message: str) -> None:
        super().__init__(message, heals=True)


class RestTag(TypedDict):
    key: str
    value: NotRequired[str]  # an empty one is left out


class RestAlias(TypedDict):
    alias: str
    version: str


class RestModel(TypedDict, total=False):
    """What MLflow's REST API says of a model or a version, as far as it is read here."""

    aliases: list[RestAlias]
    tags: list[RestTag]


class Registry(Protocol):
    def models(self) -> dict[str, Model]:
        """Every registered model by its name."""

    def model(self, name: str) -> Model | None:
        """A model's aliases and tags; None where there is no such model."""

    def version(self, model: str, number: str) -> Version | None:
        """A version; None where there is none."""

    def experiment(self, name: str) -> tuple[str, bool] | None:
        """An experiment's id, and whether it is there and not deleted; None where there is none."""

    def run(self, run_id: str) -> bool | None:
        """Whether a run is there and not deleted; None where there is no trace of it."""

    def artifacts(self, run_id: str) -> str | None:
        """The address of a run's files; None where there is no such run."""

    def fetch(self, run_id: str, path: str, to: Path) -> Path | None:
        """A folder of a run's files: where it lies, else brought to `to`.

        None where only MLflow's client can bring it.
        """


def at(uri: str) -> Registry | None:
    """The registry at MLflow's address; None where MLflow's own client must be asked."""
    if os.environ.get("MLFLOW_REGISTRY_URI", uri) != uri:
        return None
    if uri.startswith(("http://", "https://")):
        return Served(uri.rstrip("/"))
    path = addresses.sqlite_path(uri)
    if path is None:
        return None
    stored = Stored(path)
    return stored if stored.known() else None


def local(uri: str) -> Path | None:
    """The folder of this machine that an address of artifacts names; None for any other store."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _there(uri: str, path: str) -> Path | None:
    """A folder below an address, if it is on this machine and there."""
    base = local(uri)
    return base / path if base and (base / path).is_dir() else None


class Stored:
    """MLflow's own SQLite file, read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def known(self) -> bool:
        """Whether the file is there and has a schema that we know."""
        if not self.path.is_file():
            return False
        try:
            revisions = self._rows("SELECT version_num FROM alembic_version")
        except Away:
            return False
        return [row[0] for row in revisions] in [[name] for name in SCHEMAS]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        address = f"{self.path.absolute().as_uri()}?mode=ro"
        try:
            connection = sqlite3.connect(address, uri=True, timeout=WAIT_S)
            try:
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise Away(f"the registry's file {self.path.name} cannot be read: {error}") from error

    def _rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        with self._open() as connection:
            return connection.execute(query, values).fetchall()

    def models(self) -> dict[str, Model]:
        names = self._rows("SELECT name FROM registered_models WHERE workspace = 'default'")
        aliases: dict[str, dict[str, str]] = {name: {} for (name,) in names}
        tags: dict[str, dict[str, str]] = {name: {} for (name,) in names}
        for name, alias, number in self._rows(
            "SELECT name, alias, version FROM registered_model_aliases WHERE workspace = 'default'"
        ):
            aliases.setdefault(name, {})[alias] = str(number)
        for name, key, value in self._rows(
            "SELECT name, key, value FROM registered_model_tags WHERE workspace = 'default'"
        ):
            tags.setdefault(name, {})[key] = value
        return {name: Model(aliases.get(name, {}), tags[name]) for name in tags}

    def model(self, name: str) -> Model | None:
        where = "WHERE workspace = 'default' AND name = ?"
        if not self._rows(f"SELECT 1 FROM registered_models {where}", name):
            return None
        aliases = self._rows(f"SELECT alias, version FROM registered_model_aliases {where}", name)
        tags = self._rows(f"SELECT key, value FROM registered_model_tags {where}", name)
        return Model({alias: str(number) for alias, number in aliases}, dict(tags))

    def version(self, model: str, number: str) -> Version | None:
        where = "WHERE workspace = 'default' AND name = ? AND version = ?"
        rows = self._rows(
            f"SELECT run_id, source, creation_time FROM model_versions {where} "
            "AND current_stage != 'Deleted_Internal'",
            model,
            number,
        )
        if not rows:
            return None
        run_id, source, created_ms = rows[0]
        tags = dict(self._rows(f"SELECT key, value FROM model_version_tags {where}", model, number))
        return Version(model, str(number), run_id or "", source or "", created_ms or 0, tags)

    def experiment(self, name: str) -> tuple[str, bool] | None:
        rows = self._rows(
            "SELECT experiment_id, lifecycle_stage FROM experiments "
            "WHERE workspace = 'default' AND name = ?",
            name,
        )
        return (str(rows[0][0]), rows[0][1] == ACTIVE) if rows else None

    def run(self, run_id: str) -> bool | None:
        rows = self._rows("SELECT lifecycle_stage FROM runs WHERE run_uuid = ?", run_id)
        return rows[0][0] == ACTIVE if rows else None

    def fetch(self, run_id: str, path: str, to: Path) -> Path | None:
        address = self.artifacts(run_id)
        return _there(address, path) if address else None

    def artifacts(self, run_id: str) -> str | None:
        rows = self._rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", run_id)
        return rows[0][0] if rows else None


class Served:
    """A server of MLflow, by its REST API."""

    def __init__(self, base: str) -> None:
        self.base = base

    def _send(self, path: str, values: dict[str, str | int]) -> Any:
        request = urllib.request.Request(
            f"{self.base}{path}?{urlencode(values)}",
            headers={"Content-Type": "application/json", **_login()},
        )
        return urllib.request.urlopen(request, timeout=WAIT_S)

    def _ask(self, call: str, **values: str | int) -> dict[str, Any] | None:
        """The answer; None where the server says that there is no such thing."""
        try:
            with self._send(f"/api/2.0/mlflow/{call}", values) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise Away(f"the registry at {self.base} answers {error.code} to {call}") from error
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or error
            raise Away(f"the registry at {self.base} does not answer: {why}") from error

    def models(self) -> dict[str, Model]:
        models: dict[str, Model] = {}
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            page = self._ask("registered-models/search", max_results=1000, **more) or {}
            for item in page.get("registered_models", []):
                models[item["name"]] = _model(item)
            token = page.get("next_page_token", "")
            if not token:
                return models

    def model(self, name: str) -> Model | None:
        answer = self._ask("registered-models/get", name=name)
        return _model(answer["registered_model"]) if answer else None

    def version(self, model: str, number: str) -> Version | None:
        answer = self._ask("model-versions/get", name=model, version=number)
        if not answer:
            return None
        item = answer["model_version"]
        return Version(
            model,
            str(item["version"]),
            item.get("run_id") or "",
            item.get("source") or "",
            int(item.get("creation_timestamp") or 0),
            _tags(item),
        )

    def experiment(self, name: str) -> tuple[str, bool] | None:
        answer = self._ask("experiments/get-by-name", experiment_name=name)
        if not answer:
            return None
        item = answer["experiment"]
        return str(item["experiment_id"]), item.get("lifecycle_stage", ACTIVE) == ACTIVE

    def run(self, run_id: str) -> bool | None:
        answer = self._ask("runs/get", run_id=run_id)
        return answer["run"]["info"].get("lifecycle_stage", ACTIVE) == ACTIVE if answer else None

    def fetch(self, run_id: str, path: str, to: Path) -> Path | None:
        address = self.artifacts(run_id)
        if address is None:
            return None
        if folder := _there(address, path):
            return folder
        names = [path]
        while names:
            name = names.pop()
            listed = self._ask("artifacts/list", run_id=run_id, path=name) or {}
            for item in listed.get("files", []):
                if item.get("is_dir"):
                    names.append(item["path"])
                    continue
                inside = (to / Path(item["path"]).relative_to(path)).resolve()
                if not inside.is_relative_to(to.resolve()):
                    raise Fault(
                        f"the registry at {self.base} names a file outside its folder; it is "
                        f"refused"
                    )
                inside.parent.mkdir(parents=True, exist_ok=True)
                self._download(run_id, item["path"], inside)
        return to if to.is_dir() else None

    def artifacts(self, run_id: str) -> str | None:
        answer = self._ask("runs/get", run_id=run_id)
        return answer["run"]["info"].get("artifact_uri", "-:") if answer else None

    def _download(self, run_id: str, path: str, to: Path) -> None:
        try:
            with (
                self._send("/get-artifact", {"run_uuid": run_id, "path": path}) as answer,
                to.open("wb") as file,
            ):
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
        except OSError as error:
            raise Away(f"the registry at {self.base} does not give {path}: {error}") from error


def _model(item: RestModel) -> Model:
    aliases = {one["alias"]: str(one["version"]) for one in item.get("aliases", [])}
    return Model(aliases, _tags(item))


def _tags(item: RestModel) -> dict[str, str]:
    return {tag["key"]: tag.get("value", "") for tag in item.get("tags", [])}


def _login() -> dict[str, str]:
    """Who we are, by the variables that MLflow's own client reads."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not user:
        return {}
    pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
