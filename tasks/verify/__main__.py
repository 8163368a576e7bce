"""python -m tasks.verify RECIPE [VERSION]: train a version again from its pinned data, code and seed, and compare.

On a processor with `deterministic: true` the weights must be the same to the bit on the machine that made them;
elsewhere their validation metrics must be within TOLERANCE.
"""

import importlib.metadata
import math
import re
import shutil
from datetime import UTC, datetime
from typing import Any, Literal

from tidemill import contract
from tidemill.engines import config
from tidemill.engines.config.schema import Recipe
from tidemill.engines.dvc.snapshots import restore
from tidemill.engines.mlflow import packages, registry, runs
from tidemill.package.package import described
from tidemill.records.receipts import Verified
from tidemill.run import code as run_code
from tidemill.run.code import PACKAGES
from tidemill.runtime import imports, paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import locked

Verdict = Literal["identical", "within tolerance", "different"]
TOLERANCE = 0.02  # of a metric, relative to its size: what another processor's order of sums makes of a training (docs/train.md)


def main(arguments: list[str]) -> Verified:
    if not arguments or arguments[0] not in contract.names():
        raise Refused(
            f"no recipe '{' '.join(arguments[:1])}'; recipes/ has {', '.join(contract.names())}"
        )
    application = arguments[0]
    number = (arguments[1] if len(arguments) > 1 else "") or registry.aliased(application)
    if number is None:
        raise Refused(
            f"{application} has no champion yet; name a version, or run: tidemill run {application}"
        )
    version = registry.version(application, number)
    if version is None:
        raise Refused(
            f"no version {number} of {application}; tidemill history {application} lists what was live"
        )
    told = runs.data(version["run_id"])
    refuse(application, number, told)
    with locked(paths.state("locks", f"train-{application}")):
        weights, metrics = again(application, number, version, told)
    verdict, because = judged(weights, told.tags["tidemill.weights"], metrics, made(told.metrics))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    registry.tag_version(
        application,
        number,
        {
            "tidemill.verified": verdict,
            "tidemill.verified.because": because,
            "tidemill.verified.at": at,
        },
    )
    return Verified(
        name=application,
        version=number,
        verdict=verdict,
        because=because,
        wanted=told.tags["tidemill.weights"],
        found=weights,
        metrics=metrics,
    )


def refuse(application: str, number: str, told: Any) -> None:
    """Nothing is trained where the code or a package is another than the version's."""
    who = f"{application} version {number}"
    if "tidemill.weights" not in told.tags:
        raise Refused(
            f"{who} does not say what its weights were: it is older than this command; retrain it"
        )
    if "tidemill.budget" in told.tags:
        raise Refused(
            f"{who} was {told.tags['tidemill.budget']}: how far a training comes in a time is not repeatable; verify one without trainer.budget_minutes"
        )
    code = imports.code_digest(run_code.of_key(application))
    if told.tags["tidemill.code"] != code:
        raise Refused(
            f"{who} was made by code {told.tags['tidemill.code'][:12]} (commit {told.tags.get('mlflow.source.git.commit', 'unknown')[:12]}), here is {code[:12]}; check that commit out and run again"
        )
    other = [
        f"{name} {made} and not {here}"
        for name in PACKAGES
        if (made := told.tags.get(f"package.{name}"))
        and (here := importlib.metadata.version(name)) != made
    ]
    if other:
        raise Refused(
            f"{who} was made with {'; '.join(other)}; install that commit's requirements.lock and run again"
        )


def again(
    application: str, number: str, version: dict[str, Any], told: Any
) -> tuple[str, dict[str, float]]:
    """The digest of the weights and the metrics of a training in a clean folder, on the version's snapshot."""
    from tasks.train.stages import Work, signature, trained
    from tasks.train.start import Start, weights_of
    from tidemill.learners.lightning.checkpoints import Checkpoints
    from tidemill.learners.lightning.loop import Kept, save
    from tidemill.learners.lightning.resume import Stop

    folder = paths.state("verify", f"{application}-{number}")
    shutil.rmtree(folder, ignore_errors=True)
    process.progress(0, 3, "parts", part="snapshot")
    restore(f"{application}-{told.tags['tidemill.snapshot'][:16]}", folder / "splits")
    judged = Recipe.model_validate_json(runs.read_text(version["run_id"], "config.json"))
    config.check_hardware(judged)
    package = described(packages.fetch(application, number))
    recipe: Any = contract.load(application)(**package.get("before", package["fields"]))
    begun = re.search(r"version (\d+)", told.tags.get("tidemill.start", ""))
    begin = (
        weights_of(application, begun.group(1))
        if begun and not getattr(recipe, "start", "")
        else None
    )
    settings = judged.trainer
    if settings.lr != "recipe":
        settings = settings.model_copy(
            update={"lr": float(told.params.get("model.lr") or told.tags["tidemill.rate"])}
        )
    stop = Stop().listen()

    def keep(name: str) -> Kept:
        return Kept(
            Checkpoints(
                folder / f"checkpoints-{name}", {"version": f"{application} {number} {name}"}
            ),
            stop,
            int(told.tags.get("tidemill.parts", "1")),
        )

    taught = re.search(r"version (\d+)", told.tags.get("tidemill.taught", ""))
    start = Start(recipe, settings, recipe.datamodule(folder / "splits", judged.seed), begin, "", 0)
    others = package.get("members", {})
    ended = trained(
        Work(
            application,
            judged,
            folder / "splits",
            folder,
            start,
            keep,
            [others[name] for name in sorted(others, key=lambda one: int(one.split("-")[1]))],
            taught.group(1) if taught else "",
            "verify",
        )
    )
    path = folder / "weights.safetensors"
    save(ended.module, path)
    found = signature(path, ended.members)
    shutil.rmtree(folder, ignore_errors=True)
    return found, ended.metrics


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
    far = {
        name: (metrics.get(name, math.nan), value)
        for name, value in before.items()
        if not abs(metrics.get(name, math.nan) - value) <= TOLERANCE * max(1.0, abs(value))
    }
    if not before or far:
        words = ", ".join(
            f"{name} {now:.4g} and not {then:.4g}" for name, (now, then) in far.items()
        )
        return (
            "different",
            f"other weights ({found[:16]} and not {wanted[:16]}), and {words or 'no metrics to compare'}",
        )
    return (
        "within tolerance",
        f"other weights ({found[:16]} and not {wanted[:16]}); every metric within {TOLERANCE:g}: {', '.join(f'{name} {value:.4g}' for name, value in metrics.items())}",
    )


if __name__ == "__main__":
    process.main(main, "python -m tasks.verify RECIPE [VERSION]")
