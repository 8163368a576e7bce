"""A data step runs as one stage of DVC, whoever asks for it."""

import json

from tidemill.engines.dvc.command import dvc, in_git, lock
from tidemill.engines.dvc.graph import refresh
from tidemill.records.outputs import OUTPUTS
from tidemill.records.receipts import Stage
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import digest, locked, sha256, write, write_json


def prepare() -> list[str]:
    """Make this folder one that DVC can work in; gives what is lost where there is no git."""
    root = paths.root()
    if not (root / ".dvc").is_dir():
        raise Fault(f"{root} has no .dvc folder; restore it from the repository")
    refresh()
    for name in ("people", "carried"):  # what label and split depend on
        (root / "data" / name).mkdir(parents=True, exist_ok=True)  # a copy of the code has no data/
    if in_git():
        return []
    local = root / ".dvc" / "config.local"
    wanted = "[core]\n    no_scm = true\n"
    if not local.is_file():
        write(local, wanted)
    return [
        "this is no git clone: snapshots are kept in the DVC "
        "remote, but get no tag in git's history"
    ]


def commit_raw(source: str, raw: str) -> bool:
    """Let DVC know a source's raw bytes, where it does not know these; True where it did not.

    `raw` is the manifest's digest. A mark remembers which entry of dvc.lock stands for it.
    """
    name = f"collect@{source}"
    mark = paths.state("collect", f"{source}.json")
    manifest = sha256(paths.data("raw", source) / "manifest.parquet")

    def state() -> dict[str, str]:
        return {"raw": raw, "manifest": manifest, "lock": digest(lock().get(name, {}))}

    if name in lock() and mark.is_file() and json.loads(mark.read_text()) == state():
        return False
    with locked(paths.state("locks", f"raw-{source}")):
        dvc("commit", "--force", name)
        write_json(mark, state())
    return True


def due(stages: list[str]) -> dict[str, bool]:
    """Which of these stages DVC would run, each by itself, as things stand. One call for all."""
    found = json.loads(dvc("status", "--json", *stages) or "{}")
    return {stage: stage in found or stage not in lock() or _unread(stage) for stage in stages}


def _unread(stage: str) -> bool:
    step, _, name = stage.partition("@")
    return step == "clean" and paths.unread(name).is_file()


def stage(step: str, name: str, run: bool) -> Stage:
    """Run one data stage, where DVC says that it must, and give its receipt."""
    label = f"{step} {name}"
    target = f"{step}@{name}"
    before = digest(lock().get(target, {}))
    if run:
        try:
            dvc(
                "repro",
                "--single-item",
                *(["--force"] if _unread(target) else []),
                target,
                step=label,
            )
        except Fault as fault:
            raise Fault(_own_words(label, fault), heals=fault.heals) from fault
    folder = paths.data(OUTPUTS[step].folder, name)
    try:
        report = json.loads((folder / "report.json").read_text())
    except FileNotFoundError as error:
        raise Fault(
            f"{label} left no {folder.relative_to(paths.root())}/report.json; run "
            f"dvc repro {target}"
        ) from error
    return Stage(
        stage=step,
        name=name,
        ran=run and before != digest(lock().get(target, {})),
        rows=report["rows"],
        dropped=report["dropped"],
        counts=report["counts"],
    )


def _own_words(label: str, fault: Fault) -> str:
    """What the stage said, rather than DVC's note that it failed."""
    text = str(fault)
    return (
        text
        if not text.startswith("failed to reproduce")
        else f"{label} failed; see .tidemill/logs/steps"
    )
