"""MLflow's SQLite file: made whole before anybody sees it, right again after a project was moved.

MLflow makes its tables in the file itself, unlocked, by dozens of migrations. Two steps that begin
together then trip over each other, and a kill in that second leaves a file that no later start can
read.

MLflow stores absolute addresses of artifacts and offers no other kind on a local file system. In a
project that was moved, copied or renamed they are put right before anything reads them: a copy must
never write into, or remove from, the project it was made from.
"""

import sqlite3
from contextlib import closing
from functools import lru_cache
from pathlib import Path

from tidemill.runtime import addresses, paths
from tidemill.runtime.files import locked

ARTIFACTS = "/.tidemill/artifacts"
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
WAIT_S = 60


def missing(uri: str) -> bool:
    """Whether the registry is a SQLite file that nothing has been written to yet."""
    path = addresses.sqlite_path(uri)
    return path is not None and not path.exists()


def create(uri: str) -> None:
    """Make the SQLite file of MLflow's address, beside its place and then moved there.

    Any other address is left alone. Where the file is there and is this project's own, its
    artifacts' addresses are those of this folder afterwards.
    """
    path = addresses.sqlite_path(uri)
    if path is None:
        return
    if path.exists():
        settle(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # The lock lies beside it: several projects may have one registry.
    with locked(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        part = path.with_name(f".{path.name}.part")
        for left in (part, part.with_name(f"{part.name}-journal")):  # of a start that was killed
            left.unlink(missing_ok=True)
        location = paths.state("artifacts").as_uri()
        SqlAlchemyStore(addresses.sqlite(part), location).engine.dispose()
        part.replace(path)


def settle(path: Path) -> None:
    """Put the artifacts' addresses right, where the file is this project's own; once a process."""
    if path == paths.state("mlflow.db") and path.is_file():
        _settle(path, paths.root().as_uri())


@lru_cache
def _settle(path: Path, root: str) -> None:
    here = f"{root}{ARTIFACTS}"
    with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as connection:
        if _columns(connection, "experiments") and _strangers(connection, here):
            relocate(connection, here)


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}


def _strangers(connection: sqlite3.Connection, here: str) -> bool:
    """Whether an experiment keeps its artifacts in another project's folder: one was moved."""
    rows = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    return any(moved(location, here) != location for (location,) in rows)


def moved(address: str | None, here: str) -> str | None:
    """An artifact's address in this project, where it names another project's; else itself."""
    if address is None or not address.startswith("file:"):
        return address
    _, mark, rest = address.rpartition(ARTIFACTS)
    return f"{here}{rest}" if mark and rest[:1] in ("", "/") else address


def relocate(connection: sqlite3.Connection, here: str) -> None:
    """All addresses in one transaction, so that a kill leaves the old ones or the new ones."""
    connection.create_function("moved", 1, lambda address: moved(address, here))
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table, column in COLUMNS:
            if column in _columns(connection, table):
                connection.execute(
                    f"UPDATE {table} SET {column} = moved({column}) "
                    f"WHERE {column} LIKE 'file:%' AND {column} != moved({column})"
                )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
