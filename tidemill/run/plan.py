"""What one run of the model half is: its data, configuration, code and seed, and the key they make.

The receipts of its steps lie in .tidemill/runs/KEY/. A rerun reads them and does only what is missing.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from tidemill import contract
from tidemill.engines import config
from tidemill.engines.config.schema import Recipe as Judged
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import digest, tree_digest
from tidemill.runtime.receipt import File, Receipt

R = TypeVar("R", bound=Receipt)

STEPS = ("sweep", "train", "export", "score", "judge", "register")
CODE = (
    "tidemill/run/plan.py",
    *(f"tasks/{step}" for step in STEPS),
    "tidemill/package",
    "tidemill/learners",
    "tidemill/kit",
    "tidemill/families",
    "tidemill/contract.py",
    "tidemill/engines/optuna",
    "tidemill/text",
)


class Plan(Receipt):
    application: str
    config: dict[str, Any]
    snapshot: str
    code: str
    key: str

    @property
    def recipe(self) -> Judged:
        return Judged.model_validate(self.config)

    @property
    def folder(self) -> Path:
        return paths.run(self.key)

    @property
    def splits(self) -> Path:
        return paths.data("splits", self.application)


def make(application: str, overrides: list[str]) -> Plan:
    """The plan as data, conf/ and code stand now."""
    import json

    judged = config.recipe(application, overrides)
    report = paths.data("splits", application) / "report.json"
    if not report.is_file():
        raise Refused(f"data/splits/{application} is empty; run: dvc repro split@{application}")
    snapshot = json.loads(report.read_text())["snapshot"]
    code = code_digest(application)
    key = digest([snapshot, judged.digest(), code, judged.seed])
    return Plan(
        application=application,
        config=judged.model_dump(mode="json"),
        snapshot=snapshot,
        code=code,
        key=key,
    )


def code_digest(application: str) -> str:
    """The digest of the code that the model half runs."""
    root = paths.root()
    return digest(
        [tree_digest(root / path, (".py",)) for path in CODE if (root / path).exists()]
        + [tree_digest(path, (".py",)) for path in contract.code(application)]
    )


def of_child(arguments: list[str]) -> Plan:
    """The plan of a child that was called as `python -m tasks.STEP RECIPE [key=value ...]`."""
    if not arguments:
        raise Refused(f"name a recipe; conf/recipe has {', '.join(config.files('recipe'))}")
    plan = make(arguments[0], arguments[1:])
    wanted = os.environ.get("TIDEMILL_KEY")
    if wanted and wanted != plan.key:
        raise Refused("data, conf/ or code changed while the run was on; run again")
    return plan


def main(step: str, work: Callable[[Plan], Receipt | None], module: str | None = None) -> NoReturn:
    """The shell side of a step of the model half; its receipt lies with the run, whoever called it."""

    def child(arguments: list[str]) -> Receipt | None:
        plan = of_child(arguments)
        receipt = work(plan)
        if receipt is None:  # one of several processes, and not the one that writes
            return None
        receipt.save(plan.folder / f"{step}.json")
        return receipt

    process.main(child, f"python -m {module or 'tasks.' + step} RECIPE [key=value ...]")


def do(
    step: str,
    kind: type[R],
    plan: Plan,
    overrides: list[str],
    module: str | None = None,
    ask: bool = False,
) -> R:
    """A step's receipt: the one that is there, where its files are whole, else of a new child.

    With `ask` the child decides, since more than files tells whether the receipt still holds.
    """
    path = plan.folder / f"{step}.json"
    if not ask and (found := whole(kind, path)):
        return found
    timeout = config.general().step.timeout_minutes * 60
    return process.answer(
        f"{step} {plan.application}",
        module or f"tasks.{step}",
        [plan.application, *overrides],
        kind,
        path,
        timeout,
        {"TIDEMILL_KEY": plan.key},
    )


def whole(kind: type[R], path: Path) -> R | None:
    """The receipt at `path`, if every file it names is as it was."""
    found = kind.load(path)
    return found if found and all(file.intact() for file in _files(found)) else None


def read(step: str, kind: type[R], plan: Plan) -> R:
    """The receipt of an earlier step, which a later one builds on."""
    found = kind.load(plan.folder / f"{step}.json")
    if found is None:
        raise Refused(
            f"{step} has not run for {plan.application} yet; run python -m tasks.{step} {plan.application}"
        )
    return found


def _files(receipt: Receipt) -> list[File]:
    found = []
    for value in receipt.__dict__.values():
        if isinstance(value, File):
            found.append(value)
        elif isinstance(value, dict):
            found += [item for item in value.values() if isinstance(item, File)]
    return found
