"""The registry without MLflow's import, which costs two seconds and 300 MB: by its REST API, or its SQLite file.

Little is asked and written here: aliases, versions, tags, files. A database of another schema than those named
below is left to MLflow's own client: `at` gives None for it.
"""

import base64
import json
import os
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlencode, urlsplit

from tidemill.runtime import addresses
from tidemill.runtime.errors import Fault

SCHEMAS = ("dc11669786a5",)  # of MLflow 3.17's database (alembic's revision)
WAIT_S = 10
CHUNK = 1 << 20


class Away(Fault):
    """The registry does not answer; what was known before still holds."""

    def __init__(self, message: str) -> None:
        super().__init__(message, heals=True)


class Registry(Protocol):
    def models(self) -> dict[str, dict[str, str]]:
        """Every model's aliases: name to alias to version."""

    def tags(self, model: str) -> dict[str, str] | None:
        """A model's tags; None where there is no such model."""

    def version(self, model: str, number: str) -> dict[str, Any] | None:
        """A version's tags and origin; None where there is none."""

    def alias(self, model: str, alias: str) -> str | None:
        """The version an alias stands for; None where it stands for none."""

    def set_alias(self, model: str, alias: str, number: str) -> None: ...
    def drop_alias(self, model: str, alias: str) -> None: ...
    def set_tag(self, model: str, name: str, value: str) -> None: ...

    def fetch(self, run_id: str, path: str, to: Path) -> Path | None:
        """A folder of a run's files: where it lies, else brought to `to`; None where only MLflow's client can."""


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


def _local(uri: str, path: str) -> Path | None:
    """The folder that a run's address names on this machine, if it is there."""
    parts = urlsplit(uri)
    folder = Path(unquote(parts.path)) / path if parts.scheme in ("", "file") else None
    return folder if folder and folder.is_dir() else None


class Stored:
    """MLflow's own SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def known(self) -> bool:
        """Whether the file is there and has a schema that we know."""
        if not self.path.is_file():
            return False
        try:
            return [row[0] for row in self._rows("SELECT version_num FROM alembic_version")] in [
                [name] for name in SCHEMAS
            ]
        except Away:
            return False

    @contextmanager
    def _open(self, mode: str = "ro") -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=WAIT_S
            )
            try:
                with connection:
                    yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise Away(f"the registry's file {self.path.name} cannot be read: {error}") from error

    def _rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        with self._open() as connection:
            return connection.execute(query, values).fetchall()

    def models(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {
            name: {}
            for (name,) in self._rows(
                "SELECT name FROM registered_models WHERE workspace = 'default'"
            )
        }
        for name, alias, number in self._rows(
            "SELECT name, alias, version FROM registered_model_aliases WHERE workspace = 'default'"
        ):
            found[name][alias] = str(number)
        return found

    def tags(self, model: str) -> dict[str, str] | None:
        if not self._rows(
            "SELECT 1 FROM registered_models WHERE workspace = 'default' AND name = ?", model
        ):
            return None
        return dict(
            self._rows(
                "SELECT key, value FROM registered_model_tags WHERE workspace = 'default' AND name = ?",
                model,
            )
        )

    def version(self, model: str, number: str) -> dict[str, Any] | None:
        where = "WHERE workspace = 'default' AND name = ? AND version = ?"
        found = self._rows(
            f"SELECT run_id, source, creation_time FROM model_versions {where} AND current_stage != 'Deleted_Internal'",
            model,
            number,
        )
        if not found:
            return None
        run_id, source, created = found[0]
        tags = dict(self._rows(f"SELECT key, value FROM model_version_tags {where}", model, number))
        return {
            "version": str(number),
            "run_id": run_id,
            "source": source,
            "tags": tags,
            "created": created,
        }

    def alias(self, model: str, alias: str) -> str | None:
        found = self._rows(
            "SELECT version FROM registered_model_aliases WHERE workspace = 'default' AND name = ? AND alias = ?",
            model,
            alias,
        )
        return str(found[0][0]) if found else None

    def set_alias(self, model: str, alias: str, number: str) -> None:
        with self._open("rw") as connection:
            connection.execute(
                "INSERT INTO registered_model_aliases (alias, version, name, workspace) VALUES (?, ?, ?, 'default') "
                "ON CONFLICT (workspace, name, alias) DO UPDATE SET version = excluded.version",
                (alias, int(number), model),
            )
            self._touch(connection, model)

    def drop_alias(self, model: str, alias: str) -> None:
        with self._open("rw") as connection:
            connection.execute(
                "DELETE FROM registered_model_aliases WHERE workspace = 'default' AND name = ? AND alias = ?",
                (model, alias),
            )
            self._touch(connection, model)

    def set_tag(self, model: str, name: str, value: str) -> None:
        with self._open("rw") as connection:
            connection.execute(
                "INSERT INTO registered_model_tags (key, value, name, workspace) VALUES (?, ?, ?, 'default') "
                "ON CONFLICT (workspace, key, name) DO UPDATE SET value = excluded.value",
                (name, value, model),
            )
            self._touch(connection, model)

    def _touch(self, connection: sqlite3.Connection, model: str) -> None:
        connection.execute(
            "UPDATE registered_models SET last_updated_time = ? WHERE workspace = 'default' AND name = ?",
            (round(time.time() * 1000), model),
        )

    def fetch(self, run_id: str, path: str, to: Path) -> Path | None:
        found = self._rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", run_id)
        return _local(found[0][0], path) if found else None


class Served:
    """A server of MLflow, by its REST API."""

    def __init__(self, base: str) -> None:
        self.base = base

    def _send(self, method: str, path: str, values: dict[str, Any]) -> Any:
        query = f"?{urlencode(values)}" if method == "GET" else ""
        request = urllib.request.Request(
            f"{self.base}{path}{query}",
            method=method,
            data=None if method == "GET" else json.dumps(values).encode(),
            headers={"Content-Type": "application/json", **_login()},
        )
        return urllib.request.urlopen(request, timeout=WAIT_S)

    def _ask(self, method: str, call: str, **values: Any) -> dict[str, Any] | None:
        """The answer; None where the server says that there is no such thing."""
        try:
            with self._send(method, f"/api/2.0/mlflow/{call}", values) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            words = error.read(4000).decode(errors="replace")
            if error.code == 404 or ("INVALID_PARAMETER_VALUE" in words and "alias" in words):
                return None
            raise Away(f"the registry at {self.base} answers {error.code} to {call}") from error
        except (OSError, ValueError) as error:
            raise Away(
                f"the registry at {self.base} does not answer: {getattr(error, 'reason', None) or error}"
            ) from error

    def models(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        token = ""
        while True:
            page = (
                self._ask(
                    "GET",
                    "registered-models/search",
                    max_results=1000,
                    **({"page_token": token} if token else {}),
                )
                or {}
            )
            for item in page.get("registered_models", []):
                found[item["name"]] = {
                    one["alias"]: str(one["version"]) for one in item.get("aliases", [])
                }
            token = page.get("next_page_token", "")
            if not token:
                return found

    def tags(self, model: str) -> dict[str, str] | None:
        found = self._ask("GET", "registered-models/get", name=model)
        return (
            {
                item["key"]: item.get("value", "")
                for item in found["registered_model"].get("tags", [])
            }
            if found
            else None
        )

    def version(self, model: str, number: str) -> dict[str, Any] | None:
        found = self._ask("GET", "model-versions/get", name=model, version=number)
        if not found:
            return None
        told = found["model_version"]
        return {
            "version": str(told["version"]),
            "run_id": told.get("run_id"),
            "source": told.get("source"),
            "created": told.get("creation_timestamp"),
            "tags": {item["key"]: item.get("value", "") for item in told.get("tags", [])},
        }

    def alias(self, model: str, alias: str) -> str | None:
        found = self._ask("GET", "registered-models/alias", name=model, alias=alias)
        return str(found["model_version"]["version"]) if found else None

    def set_alias(self, model: str, alias: str, number: str) -> None:
        self._done(
            self._ask("POST", "registered-models/alias", name=model, alias=alias, version=number),
            model,
        )

    def drop_alias(self, model: str, alias: str) -> None:
        self._ask("DELETE", "registered-models/alias", name=model, alias=alias)

    def set_tag(self, model: str, name: str, value: str) -> None:
        self._done(
            self._ask("POST", "registered-models/set-tag", name=model, key=name, value=value), model
        )

    def _done(self, answer: dict[str, Any] | None, model: str) -> None:
        if answer is None:
            raise Fault(f"the registry at {self.base} knows no {model}, or not that version of it")

    def fetch(self, run_id: str, path: str, to: Path) -> Path | None:
        run = self._ask("GET", "runs/get", run_id=run_id)
        if run is None:
            return None
        if found := _local(run["run"]["info"].get("artifact_uri", "-:"), path):
            return found
        names = [path]
        while names:
            name = names.pop()
            listed = self._ask("GET", "artifacts/list", run_id=run_id, path=name) or {}
            for item in listed.get("files", []):
                if item.get("is_dir"):
                    names.append(item["path"])
                    continue
                inside = (to / Path(item["path"]).relative_to(path)).resolve()
                if not inside.is_relative_to(to.resolve()):
                    raise Fault(
                        f"the registry at {self.base} names a file outside its folder; it is refused"
                    )
                inside.parent.mkdir(parents=True, exist_ok=True)
                self._download(run_id, item["path"], inside)
        return to if to.is_dir() else None

    def _download(self, run_id: str, path: str, to: Path) -> None:
        try:
            with (
                self._send("GET", "/get-artifact", {"run_uuid": run_id, "path": path}) as answer,
                to.open("wb") as file,
            ):
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
        except OSError as error:
            raise Away(f"the registry at {self.base} does not give {path}: {error}") from error


def _login() -> dict[str, str]:
    """Who we are, by the variables that MLflow's own client reads."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not user:
        return {}
    pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
