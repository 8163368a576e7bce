"""The trainings that one model may take: its teachers', its own, the one after pruning, those of an ensemble's other members.

Each has checkpoints in a folder of its own, and its weights lie beside once it has ended: killed at any moment, the same
command does not do again what ended, goes on with what did not, and ends with the same weights.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from tasks.train.start import Start, weights_of
from tidemill import contract
from tidemill.contract import Recipe
from tidemill.engines.config.schema import Recipe as Judged
from tidemill.engines.config.schema import Trainer
from tidemill.engines.mlflow import packages, tags
from tidemill.learners.lightning.distillation import Teacher, taught
from tidemill.learners.lightning.loop import Kept, fit, rank, save
from tidemill.package.package import described
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import digest, sha256, write

OWN = "the model itself"  # among its teachers, and the members of its ensemble


@dataclass
class Work:
    """What a model is trained from, in a run as in its verification."""

    application: str
    judged: Judged
    splits: Path
    folder: Path  # of what is kept on the way
    start: Start
    keep: Callable[[str], Kept]  # a training's name to how it is kept; "" is the model's own
    others: list[dict[str, Any]] = field(
        default_factory=list
    )  # an ensemble's further members: their fields
    teacher: str = ""  # the version that teaches
    what: str = "train"


@dataclass
class Ended:
    """What came of it."""

    module: Any
    recipe: Recipe  # its fields; other ones than it began with where it was pruned
    metrics: dict[str, float]
    steps: int
    members: dict[str, Path] = field(default_factory=dict)
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    more: dict[str, float] = field(default_factory=dict)  # metrics of the trainings beside its own
    kept: list[Kept] = field(default_factory=list)


def trained(work: Work, logger: Any = None) -> Ended:
    """The model, after everything its configuration asks for."""
    judged, start = work.judged, work.start
    if judged.prune.fraction and (why := start.recipe.unprunable()):
        raise Refused(f"prune.fraction={judged.prune.fraction:g}: {why}, or say prune.fraction=0")
    alone = not judged.prune.fraction and judged.ensemble.members == 1
    ended = Ended(None, start.recipe, {}, 0)
    teachers = teaching(work, ended)
    teach = taught(teachers, judged.teach.weight, judged.teach.temperature) if teachers else None
    if alone:
        kept = work.keep("")
        ended.kept.append(kept)
        ended.module, ended.metrics, ended.steps = fit(
            start.recipe,
            start.data,
            start.settings,
            judged.seed,
            start.settings.max_epochs,
            logger,
            f"{work.what} {work.application}" + (f": {OWN}" if teachers else ""),
            watch=judged.sweep.metric,
            kept=kept,
            begin=start.weights,
            taught=teach,
        )
        return ended
    ended.module, ended.metrics, ended.steps = stage(
        work,
        ended,
        "",
        start.recipe,
        start.data,
        start.settings,
        judged.seed,
        start.weights,
        teach,
        logger,
    )
    if judged.prune.fraction:
        smaller(work, ended, teach)
    for number, fields in enumerate(work.others, 1):
        name, seed = f"member-{number}", judged.seed + number
        recipe = type(start.recipe)(**fields)
        _, metrics, _ = stage(
            work, ended, name, recipe, recipe.datamodule(work.splits, seed), start.settings, seed
        )
        ended.members[name], ended.fields[name] = work.folder / f"{name}.safetensors", fields
        ended.more |= {f"{name}.{key}": value for key, value in metrics.items()}
    return ended


def stage(
    work: Work,
    ended: Ended,
    name: str,
    recipe: Recipe,
    data: Any,
    settings: Trainer,
    seed: int,
    begin: Path | None = None,
    taught: Any = None,
    logger: Any = None,
) -> tuple[Any, dict[str, float], int]:
    """One training, or what is there of it since it ended before."""
    label = name or "whole"
    noted, weights = work.folder / f"{label}.json", work.folder / f"{label}.safetensors"
    if (
        noted.is_file()
        and weights.is_file()
        and (told := json.loads(noted.read_text()))["weights"] == sha256(weights)
    ):
        module = recipe.module(data)
        module.load_state_dict(load_file(str(weights)))
        return module, told["metrics"], told["steps"]
    kept = work.keep(name)
    ended.kept.append(kept)
    what = f"{work.what} {work.application}: {name.replace('-', ' ') or OWN}"
    module, metrics, steps = fit(
        recipe,
        data,
        settings,
        seed,
        settings.max_epochs,
        logger,
        what,
        watch=work.judged.sweep.metric,
        kept=kept,
        begin=begin,
        taught=taught,
    )
    if not rank():
        save(module, weights)
        write(
            noted,
            json.dumps({"weights": sha256(weights), "metrics": metrics, "steps": steps}) + "\n",
        )
        kept.checkpoints.clear()
    return module, metrics, steps


def smaller(work: Work, ended: Ended, taught: Any) -> None:
    """Take the lightest inner channels out and train on; the whole network stays where that costs more than the margin."""
    prune, metric = work.judged.prune, work.judged.sweep.metric
    pruned, module = ended.recipe.pruned(ended.module, prune.fraction)
    begin = work.folder / "pruned-begin.safetensors"
    save(module, begin)
    rate = {"lr": pruned.lr * prune.rate} if "lr" in type(pruned).model_fields else {}  # type: ignore[attr-defined]
    settings = work.start.settings.model_copy(update={"max_epochs": prune.epochs})
    module, metrics, steps = stage(
        work,
        ended,
        "pruned",
        pruned.model_copy(update=rate),
        work.start.data,
        settings,
        work.judged.seed,
        begin,
        taught,
    )
    ended.more |= {f"whole.{name}": value for name, value in ended.metrics.items()} | {
        f"pruned.{name}": value for name, value in metrics.items()
    }
    lost = ended.metrics[metric] - metrics[metric]
    words = f"{prune.fraction:g} of the inner channels: {metric} {metrics[metric]:.4f}, whole {ended.metrics[metric]:.4f}"
    if not lost <= prune.margin:
        ended.tags[tags.PRUNED] = f"not taken, {words}; {prune.margin:g} may be lost"
        return
    ended.tags[tags.PRUNED] = words
    ended.module, ended.recipe, ended.metrics, ended.steps = (
        module,
        pruned,
        metrics,
        ended.steps + steps,
    )


# Teachers -----------------------------------------------------------------------------------------


def teaching(work: Work, ended: Ended) -> list[Teacher]:
    """Those who teach, trained or taken from the live version; nobody, most often."""
    teach, start = work.judged.teach, work.start
    if teach.by == "champion":
        return [champion(work, ended)]
    found = []
    for number in range(1, teach.members + 1 if teach.by == "ensemble" else 1):
        name, seed = f"teacher-{number}", work.judged.seed + number
        recipe = type(start.recipe)(**{**start.recipe.model_dump(), **teach.model})
        fits(start.recipe, recipe, "teach.model")
        module, metrics, _ = stage(
            work, ended, name, recipe, recipe.datamodule(work.splits, seed), start.settings, seed
        )
        ended.more |= {f"{name}.{key}": value for key, value in metrics.items()}
        found.append(Teacher(module))
    if found:
        ended.tags[tags.TAUGHT] = f"by an ensemble of {len(found)}"
    return found


def champion(work: Work, ended: Ended) -> Teacher:
    path = weights_of(work.application, work.teacher)
    package = packages.fetch(work.application, work.teacher)
    recipe = contract.load(work.application)(**described(package)["fields"])
    if why := work.start.recipe.strange(package, work.start.data):
        raise Refused(f"teach.by=champion: {why}; say teach.by=ensemble or nobody")
    fits(work.start.recipe, recipe, f"{work.application} version {work.teacher}")
    module: Any = recipe.module(work.start.data)
    module.load_state_dict(load_file(str(path)))
    ended.tags[tags.TAUGHT] = (
        f"by {work.application} version {work.teacher}, weights {sha256(path)[:16]}"
    )
    ended.tags[tags.TAUGHT_VERSION] = work.teacher
    return Teacher(module)


def fits(student: Recipe, teacher: Recipe, who: str) -> None:
    """A teacher is asked about the student's batches, so it must read them as the student does."""
    mine, its = student.batches(), teacher.batches()
    other = [
        f"{name} {value} and not {mine.get(name)}"
        for name, value in its.items()
        if value != mine.get(name)
    ]
    if other:
        raise Refused(
            f"teach: {who} reads its rows otherwise ({', '.join(other)}); give both the same"
        )


def signature(weights: Path, members: dict[str, Path]) -> str:
    """The digest of all weights a model has: of one network its file's own."""
    found = [sha256(path) for path in (weights, *(members[name] for name in sorted(members)))]
    return found[0] if len(found) == 1 else digest(found)
