"""One run of the model half: what it is planned with, its key, and the receipts of its steps.

A run is planned once, when its snapshot is named, into .tidemill/runs/KEY/run.json. Its steps read
that file and resolve nothing again; their receipts lie beside it. A rerun reads those and does only
what is missing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from tidemill.engines import config
from tidemill.engines.config.schema import RecipeConfig
from tidemill.records.receipts import RunReceipt
from tidemill.run import code, start
from tidemill.run.start import Champion
from tidemill.runtime import imports, paths, process
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import digest, held
from tidemill.runtime.rank import rank
from tidemill.runtime.receipt import File, Receipt

R = TypeVar("R", bound=RunReceipt)

SCORING = (
    "export",
    "score.slices",
    "score.perturbed_rows",
    "score.requests",
    "score.golden",
    "score.batch_rows",
    "score.train_rows",
    "score.anchor.days",
)
JUDGING = ("export", "score", "gates")
READS: dict[str, tuple[str, ...]] = {
    "export": ("export",),
    "score": SCORING,
    "explain": SCORING,
    "judge": JUDGING,
    "register": (*JUDGING, "approval"),
    "end": (*JUDGING, "approval"),
}
"""The settings that a step reads beside those the weights depend on, which are in the run's key."""


class Plan(Receipt):
    application: str
    config: dict[str, Any]  # resolved
    snapshot: str
    code: str  # digest of the recipe's code, its learner's and what both import
    start: dict[str, str]  # weights to begin from, by name: digest of their bytes
    champion: (
        Champion | None
    )  # the application's own, where training begins from it or learns of it
    beside: dict[str, str]  # other code and libraries: file to digest, package to version
    trained_beside: dict[str, str]  # the same when the weights here were made; empty before
    key: str  # of the run: application, data, configuration of training, code and start weights
    digest: str  # of all above

    @property
    def recipe(self) -> RecipeConfig:
        return RecipeConfig.model_validate(self.config)

    @property
    def folder(self) -> Path:
        return paths.run(self.key)

    @property
    def path(self) -> str:
        """Where it lies, relative to the project's root."""
        return (self.folder / "run.json").relative_to(paths.root()).as_posix()

    @property
    def splits(self) -> Path:
        return paths.data("splits", self.application)

    @property
    def drift(self) -> str:
        """The digest of what lies beside the key: other code, and the libraries."""
        return digest(self.beside)

    def changed(self) -> list[str]:
        """What beside the recipe is not as it was when the weights were made, by name."""
        if not self.trained_beside:
            return []
        there, then = self.beside, self.trained_beside
        return sorted(name for name in {*there, *then} if there.get(name) != then.get(name))

    def reads(self, step: str) -> str:
        """The digest of all that a step reads: by it a receipt is known to hold."""
        return digest([self.key, {name: self._setting(name) for name in READS.get(step, ())}])

    def _setting(self, name: str) -> Any:
        value: Any = self.config
        for piece in name.split("."):
            value = value[piece]
        return value

    def sealed(self) -> Self:
        """The same plan with its digest."""
        return self.model_copy(update={"digest": self._digest()})

    def whole(self) -> bool:
        return self.digest == self._digest()

    def _digest(self) -> str:
        return digest(self.model_dump(mode="json", exclude={"digest"}))


def make(judged: RecipeConfig) -> Plan:
    """The plan of a resolved configuration, written down in its run's folder."""
    plan, before = _planned(judged)
    if plan != before:
        plan.save(plan.folder / "run.json")
    return plan


def by_hand(application: str, overrides: list[str]) -> Plan:
    """The plan of a step that a person starts alone; refused where it changed that of a run."""
    plan, before = _planned(config.recipe(application, overrides))
    if plan == before or rank():
        return plan
    if before and held(paths.state("locks", f"run-{application}")):
        raise Refused(f"a run of {application} is on, and conf/ or code changed since; wait for it")
    plan.save(plan.folder / "run.json")
    return plan


def _planned(judged: RecipeConfig) -> tuple[Plan, Plan | None]:
    """The plan as data and code stand now, and the one that its folder has."""
    name = judged.application
    report = paths.data("splits", name) / "report.json"
    if not report.is_file():
        raise Refused(f"data/splits/{name} is empty; run: dvc repro split@{name}")
    snapshot = json.loads(report.read_text())["snapshot"]
    own, beside = imports.code_digest(code.of_key(name)), code.beside(name)
    begun = start.weights(judged)
    parts = [name, snapshot, judged.training(), own, begun]
    key = digest([*parts, beside] if judged.retrain_on_code else parts)
    before = Plan.load(paths.run(key) / "run.json")
    plan = Plan(
        application=name,
        config=judged.model_dump(mode="json"),
        snapshot=snapshot,
        code=own,
        start=begun,
        champion=start.champion(judged, paths.run(key), before.champion if before else None),
        beside=beside,
        trained_beside=_trained_beside(before, beside),
        key=key,
        digest="",
    )
    return plan.sealed(), before


def _trained_beside(before: Plan | None, beside: dict[str, str]) -> dict[str, str]:
    """What lay beside when the weights were made, where that is known and other than today."""
    if before is None or not (before.folder / "train.json").is_file():
        return {}
    then = before.trained_beside or before.beside
    return then if then != beside else {}


def load(path: str) -> Plan:
    """A run's plan as it was written; a fault where it is another."""
    plan = Plan.load(paths.root() / path)
    if plan is None or not plan.whole():
        raise Fault(f"{path} is gone or not as it was planned; start the run again")
    return plan


def do(step: str, kind: type[R], plan: Plan, module: str | None = None, ask: bool = False) -> R:
    """A step's receipt: the one that is there, where it holds, else of a new child.

    With `ask` the child decides, since more than files tells whether the receipt still holds.
    """
    if not ask and (receipt := whole(step, kind, plan)):
        return receipt
    return process.answer(
        f"{step} {plan.application}",
        module or f"tasks.{step}",
        ["--run", plan.path],
        kind,
        plan.folder / f"{step}.json",
        config.general().step.timeout_minutes * 60,
    )


def whole(step: str, kind: type[R], plan: Plan) -> R | None:
    """A step's receipt, if it read what is planned and every file it names is as it was."""
    receipt = kind.load(plan.folder / f"{step}.json")
    if receipt is None or receipt.read != plan.reads(step):
        return None
    return receipt if all(file.intact() for file in _files(receipt.__dict__)) else None


def read(step: str, kind: type[R], plan: Plan) -> R:
    """The receipt of an earlier step, which a later one builds on."""
    receipt = kind.load(plan.folder / f"{step}.json")
    if receipt is None or receipt.read != plan.reads(step):
        name = plan.application
        raise Refused(f"{step} has not run for {name} yet; run python -m tasks.{step} {name}")
    return receipt


def _files(values: Mapping[str, object]) -> list[File]:
    files: list[File] = []
    for value in values.values():
        if isinstance(value, File):
            files.append(value)
        elif isinstance(value, dict):
            files += [item for item in value.values() if isinstance(item, File)]
    return files
