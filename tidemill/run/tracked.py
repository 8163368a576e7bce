"""A retraining's run in MLflow: what it is, from its first step on."""

import importlib.metadata
import json
import subprocess

from tidemill.engines.dvc import command
from tidemill.engines.mlflow import runs, tags
from tidemill.run.code import PACKAGES
from tidemill.run.plan import Plan
from tidemill.runtime import paths


def begin(plan: Plan) -> str:
    """The retraining's run with configuration, data and code on it; its id.

    Calling it again with the same plan changes nothing.
    """
    if there := runs.parent(plan.application, plan.key):
        _planned_again(plan, there)
        return there
    run_id = runs.start(
        plan.application,
        plan.key,
        f"retrain {plan.application} {plan.key[:8]}",
        {
            tags.KIND: "retraining",
            tags.APPLICATION: plan.application,
            tags.SNAPSHOT: plan.snapshot,
            tags.CODE: plan.code,
            tags.DRIFT: plan.drift,
            tags.PLAN: plan.digest,
            "mlflow.source.git.commit": commit(),
            **{f"package.{name}": importlib.metadata.version(name) for name in PACKAGES},
        },
    )
    runs.log(run_id, params=dict(flat(plan.recipe.half())))
    runs.log_text(run_id, json.dumps(plan.config, indent=1, sort_keys=True), "config.json")
    lock = paths.root() / "dvc.lock"
    if lock.is_file():
        runs.log_text(run_id, lock.read_text(), "dvc.lock")
    rows = dict.fromkeys(("train", "valid", "test"), 0)
    report = json.loads((plan.splits / "report.json").read_text())
    runs.log_dataset(
        run_id,
        plan.application,
        plan.snapshot,
        f"{plan.application}-{plan.snapshot[:16]}",
        {**rows, **report["counts"]},
    )
    return run_id


def _planned_again(plan: Plan, run_id: str) -> None:
    """Note what a later plan of the same training changed: its gates and the like, other code."""
    if runs.data(run_id).tags.get(tags.PLAN) == plan.digest:
        return
    runs.log_text(run_id, json.dumps(plan.config, indent=1, sort_keys=True), "config.json")
    noted = {tags.DRIFT: plan.drift, tags.PLAN: plan.digest}
    if changed := plan.changed():
        noted[tags.CHANGED] = ", ".join(changed)
    runs.log(run_id, tags=noted)


def commit() -> str:
    """The git commit of the work tree, with a plus where it has changes; unknown without git."""
    if not command.in_git():
        return "unknown"
    root = paths.root()
    head = subprocess.run(
        ["git", "rev-parse", "--verify", "-q", "HEAD"], cwd=root, capture_output=True, text=True
    ).stdout.strip()
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"],
        cwd=root,
        capture_output=True,
        text=True,
    ).stdout.strip()
    return (head or "unknown") + ("+" if dirty else "")


def flat(value: dict, before: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names; gates and the like as JSON."""
    found = []
    for name, item in value.items():
        if isinstance(item, dict) and item:
            found += flat(item, f"{before}{name}.")
        else:
            found.append(
                (before + name, json.dumps(item) if isinstance(item, list | dict) else str(item))
            )
    return found
