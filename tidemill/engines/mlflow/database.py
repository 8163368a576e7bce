"""MLflow's SQLite file, made whole before anybody sees it.

MLflow makes its tables in the file itself, unlocked, by dozens of migrations. Two steps that begin
together then trip over each other, and a kill in that second leaves a file that no later start can
read.
"""

from pathlib import Path

from tidemill.runtime import paths
from tidemill.runtime.files import locked

SQLITE = "sqlite:///"


def missing(uri: str) -> bool:
    """Whether the registry is a SQLite file that nothing has been written to yet."""
    return uri.startswith(SQLITE) and not _file(uri).exists()


def _file(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def create(uri: str) -> None:
    """Make the SQLite file of MLflow's address, beside its place and then moved there.

    Any other address is left alone.
    """
    if not missing(uri):
        return
    path = _file(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(
        path.with_name(f".{path.name}.lock")
    ):  # beside it: several projects may have one registry
        if path.exists():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        part = path.with_name(f".{path.name}.part")
        for left in (part, part.with_name(f"{part.name}-journal")):  # of a start that was killed
            left.unlink(missing_ok=True)
        SqlAlchemyStore(f"{SQLITE}{part}", f"file://{paths.state('artifacts')}").engine.dispose()
        part.replace(path)
