"""What may go: runs, logs and copies that are old and not needed any more.

No live version, ledger or lineage needs them.
"""

import shutil
import time
from pathlib import Path

from tidemill.engines import config
from tidemill.engines.dvc import remote
from tidemill.engines.mlflow import registry, tags
from tidemill.engines.mlflow.retention import forget, old, standing
from tidemill.lineage import trace
from tidemill.records.outputs import OUTPUTS
from tidemill.runtime import paths
from tidemill.runtime.receipt import Receipt


class Gone(Receipt):
    """What was removed, or would be."""

    paths: dict[str, float]  # relative path to MB
    mb: float
    kept: dict[str, str]  # old, and yet kept: why
    mlflow_runs: int  # with their artifacts
    copies: int  # in DVC's cache, which the remote has


def needed() -> dict[str, str]:
    """The run folders that must stay, each with the reason.

    They made a version that is live, waits, or was live once.
    """
    found: dict[str, str] = {}
    for (name, number), why in standing().items():
        if key := registry.tag(name, number, tags.KEY):
            found[key[:16]] = f"{name} version {number} {why}"
    return found


def clean(days: float, really: bool) -> Gone:
    """Remove what is older than `days`; without `really` only say what that is.

    The DVC remote and raw data are not touched: the lineage of every version lies there. A copy in
    DVC's cache goes where today's data does not use it and the remote has it; so does what was made
    of raw data, packs of pictures among it, for a source or recipe that conf/ has no more.
    """
    gone, kept = _old_state(days)
    artifacts = paths.state("artifacts")
    runs = old(days)
    with_artifacts = [path for run in runs for path in artifacts.glob(f"*/{run}")]
    sizes = {_name(path): megabytes(path) for path in (*gone, *with_artifacts)}
    if really:
        for path in gone:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, number in forget(runs):
            trace.forget(name, number)
        for path in (path for run in runs for path in artifacts.glob(f"*/{run}")):
            shutil.rmtree(path)  # MLflow leaves the empty folder
    copies, mb = remote.spare(days, really)
    if copies:
        sizes[".dvc/cache"] = round(mb, 2)
    return Gone(
        paths=sizes,
        mb=round(sum(sizes.values()), 2),
        kept=kept,
        mlflow_runs=len(runs),
        copies=copies,
    )


def _old_state(days: float) -> tuple[list[Path], dict[str, str]]:
    """What in .tidemill is older than `days` and may go; what must stay, each with the reason."""
    limit = time.time() - days * 86_400
    stay = needed()
    gone: list[Path] = []
    kept: dict[str, str] = {}
    for kind in ("runs", "baselines", "states", "tokens", "snapshots", "logs", "alive"):
        base = paths.state(kind)
        for path in sorted(base.iterdir()) if base.is_dir() else []:
            if newest(path) > limit:
                continue
            if kind == "runs" and path.name in stay:
                kept[_name(path)] = stay[path.name]
            else:
                gone.append(path)
    return [*gone, *(path for path in _of_no_stage() if newest(path) <= limit)], kept


def _of_no_stage() -> list[Path]:
    """What data steps left of sources and recipes that conf/ has no more."""
    known = {"clean": config.files("source")}
    recipes = config.files("recipe")
    return [
        path
        for step, outputs in sorted(OUTPUTS.items())
        for kind in (outputs.folder, *outputs.folders)
        for path in sorted((paths.root() / "data" / kind).glob("*"))
        if path.is_dir() and path.name not in known.get(step, recipes)  # .gitignore stays
    ]


def _name(path: Path) -> str:
    return path.relative_to(paths.root()).as_posix()


def megabytes(path: Path) -> float:
    return round(size(path) / 1e6, 2)


def newest(path: Path) -> float:
    """When anything in it was last written."""
    inside = path.rglob("*") if path.is_dir() else ()
    return max((item.stat().st_mtime for item in (path, *inside)), default=0.0)


def size(path: Path) -> int:
    return (
        sum(item.stat().st_size for item in (path, *path.rglob("*")) if item.is_file())
        if path.is_dir()
        else path.stat().st_size
    )
