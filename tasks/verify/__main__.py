"""python -m tasks.verify RECIPE [VERSION]: train a version again, and compare.

From its pinned data, code and seed. On a processor with `deterministic: true` the weights must be
the same to the bit on the machine that made them; elsewhere their validation metrics must be within
TOLERANCE.
"""

import importlib.metadata
import math
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tidemill import contract
from tidemill.contract import Splits, WarmStartableByFields
from tidemill.engines import config
from tidemill.engines.config.schema import RecipeConfig, Trainer
from tidemill.engines.dvc.snapshots import restore
from tidemill.engines.mlflow import packages, registry, runs, tags
from tidemill.engines.mlflow.live import live
from tidemill.engines.mlflow.version import Version
from tidemill.package.package import described
from tidemill.records.receipts import Verified
from tidemill.run import code as run_code
from tidemill.run.code import PACKAGES
from tidemill.runtime import imports, paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import locked
from tidemill.runtime.rank import rank

if TYPE_CHECKING:
    from tasks.train.stages import Ended, Work

Verdict = Literal["identical", "within tolerance", "different"]
# Of a metric, relative to its size: what another processor's order of sums makes of a training
# (docs/train.md).
TOLERANCE = 0.02


def main(arguments: list[str]) -> Verified | None:
    application, number, version = asked(arguments)
    sys.argv[1:] = [application, number]  # what Lightning starts its other processes with
    logged = runs.data(version.run_id)
    refuse(application, number, logged)
    if rank():  # beside the process that writes
        trained_again(version, logged)
        return None
    with locked(paths.state("locks", f"train-{application}")):
        weights, metrics = again(version, logged)
    wanted = logged.tags[tags.WEIGHTS]
    verdict, because = judged(weights, wanted, metrics, made(logged.metrics))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    noted = {tags.VERIFIED: verdict, tags.VERIFIED_BECAUSE: because, tags.VERIFIED_AT: at}
    registry.tag_version(application, number, noted)
    return Verified(
        name=application,
        version=number,
        verdict=verdict,
        because=because,
        wanted=wanted,
        found=weights,
        metrics=metrics,
    )


def asked(arguments: list[str]) -> tuple[str, str, Version]:
    """The application and the version that are asked for, by default the live one."""
    if not arguments or arguments[0] not in contract.names():
        raise Refused(
            f"no recipe '{' '.join(arguments[:1])}'; recipes/ has {', '.join(contract.names())}"
        )
    application = arguments[0]
    number = (arguments[1] if len(arguments) > 1 else "") or live(application).version
    if number is None:
        raise Refused(
            f"{application} has no champion yet; name a version, or run: tidemill run {application}"
        )
    version = registry.version(application, number)
    if version is None:
        raise Refused(
            f"no version {number} of {application}; tidemill history {application} lists what was "
            f"live"
        )
    return application, number, version


def refuse(application: str, number: str, logged: Any) -> None:
    """Nothing is trained where the code or a package is another than the version's."""
    who = f"{application} version {number}"
    if tags.WEIGHTS not in logged.tags:
        raise Refused(
            f"{who} does not say what its weights were: it is older than this command; retrain it"
        )
    if tags.BUDGET in logged.tags:
        raise Refused(
            f"{who} was {logged.tags[tags.BUDGET]}: how far a training comes in a time is not "
            f"repeatable; verify one without trainer.budget_minutes"
        )
    code = imports.code_digest(run_code.of_key(application))
    if logged.tags[tags.CODE] != code:
        commit = logged.tags.get("mlflow.source.git.commit", "unknown")
        raise Refused(
            f"{who} was made by code {logged.tags[tags.CODE][:12]} (commit {commit[:12]}), here is "
            f"{code[:12]}; check that commit out and run again"
        )
    other = [
        f"{name} {made} and not {here}"
        for name in PACKAGES
        if (made := logged.tags.get(f"package.{name}"))
        and (here := importlib.metadata.version(name)) != made
    ]
    if other:
        raise Refused(
            f"{who} was made with {'; '.join(other)}; install that commit's requirements.lock and "
            f"run again"
        )


def again(version: Version, logged: Any) -> tuple[str, dict[str, float]]:
    """The digest of the weights and the metrics of a training in a clean folder.

    It is trained on the version's snapshot, with its configuration and seed.
    """
    from tasks.train.stages import signature

    folder = place(version)
    shutil.rmtree(folder, ignore_errors=True)
    process.progress(0, 3, "parts", part="snapshot")
    snapshot = logged.tags[tags.SNAPSHOT]
    restore(f"{version.application}-{snapshot[:16]}", folder / "splits")
    ended = trained_again(version, logged)
    path = folder / "weights.safetensors"
    ended.learner.save(path)
    digest = signature(path, ended.members)
    shutil.rmtree(folder, ignore_errors=True)
    return digest, ended.metrics


def place(version: Version) -> Path:
    return paths.state("verify", f"{version.application}-{version.number}")


def trained_again(version: Version, logged: Any) -> "Ended":
    """This process's part of the training."""
    from tasks.train.stages import trained

    return trained(work(version, logged, place(version)))


def work(version: Version, logged: Any, folder: Path) -> "Work":
    """The training that made a version, to be done in another folder."""
    from tasks.train.stages import Work
    from tasks.train.start import Start, weights_of
    from tidemill.learners.lightning.checkpoints import Checkpoints
    from tidemill.learners.lightning.loop import Kept
    from tidemill.learners.lightning.resume import Stop

    application, number = version.application, version.number
    judged = RecipeConfig.model_validate_json(runs.read_text(version.run_id, "config.json"))
    config.check_machine(judged)
    package = described(packages.fetch(application, number))
    recipe = contract.load(application)(**package.get("before", package["fields"]))
    warm = logged.tags.get(tags.START_VERSION)
    by_fields = isinstance(recipe, WarmStartableByFields)
    weights = weights_of(application, warm) if warm and not by_fields else None
    stop = Stop().listen()

    def keep(name: str) -> Kept:
        identity = {"version": f"{application} {number} {name}"}
        checkpoints = Checkpoints(folder / f"checkpoints-{name}", identity)
        return Kept(checkpoints, stop, int(logged.tags.get(tags.PARTS, "1")))

    data = Splits(folder / "splits", judged.seed)
    start = Start(recipe, settings(judged, logged), data, weights, "", 0)
    members = package.get("members", {})
    others = [members[name] for name in sorted(members, key=lambda one: int(one.split("-")[1]))]
    teacher = logged.tags.get(tags.TAUGHT_VERSION, "")
    return Work(
        application, judged, folder / "splits", folder, start, keep, others, teacher, "verify"
    )


def settings(judged: RecipeConfig, logged: Any) -> Trainer:
    """The trainer's settings, with the learning rate that was found."""
    if judged.trainer.lr == "recipe":
        return judged.trainer
    rate = float(logged.params.get("model.lr") or logged.tags[tags.RATE])
    return judged.trainer.model_copy(update={"lr": rate})


def made(metrics: dict[str, float]) -> dict[str, float]:
    """The training's own last metrics among a run's."""
    return {
        name.removeprefix("final."): value
        for name, value in metrics.items()
        if name.startswith("final.")
    }


def judged(
    found: str, wanted: str, metrics: dict[str, float], before: dict[str, float]
) -> tuple[Verdict, str]:
    """The verdict and its reason."""
    if found == wanted:
        return "identical", f"the same weights to the bit, {found[:16]}"
    other = f"other weights ({found[:16]} and not {wanted[:16]})"
    far = {
        name: (metrics.get(name, math.nan), value)
        for name, value in before.items()
        if not abs(metrics.get(name, math.nan) - value) <= TOLERANCE * max(1.0, abs(value))
    }
    if not before or far:
        words = [f"{name} {now:.4g} and not {then:.4g}" for name, (now, then) in far.items()]
        return "different", f"{other}, and {', '.join(words) or 'no metrics to compare'}"
    figures = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    return "within tolerance", f"{other}; every metric within {TOLERANCE:g}: {figures}"


if __name__ == "__main__":
    process.main(main, "python -m tasks.verify RECIPE [VERSION]", all_ranks=True)
