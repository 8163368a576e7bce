"""The trainings that one model may take.

They are its teachers', its own, the one after pruning, and those of an ensemble's other members.
Each has checkpoints in a folder of its own, and its weights lie beside once it has ended: killed at
any moment, the same command does not repeat what ended, resumes what did not, and ends with the
same weights.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.train.start import Start, weights_of
from tidemill import contract
from tidemill.contract import (
    Fitted,
    Learner,
    Lessons,
    Prunable,
    Rated,
    Recipe,
    Run,
    Shrinks,
    Splits,
    Teachable,
)
from tidemill.engines.config.schema import RecipeConfig, Trainer
from tidemill.engines.mlflow import packages, tags
from tidemill.learners.lightning.loop import Kept
from tidemill.learners.lightning.whole_batch import wait
from tidemill.package.package import described
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import digest, sha256, write
from tidemill.runtime.rank import rank

OWN = "the model itself"  # among its teachers, and the members of its ensemble


@dataclass
class Work:
    """What a model is trained from, in a run as in its verification."""

    application: str
    judged: RecipeConfig
    splits: Path
    folder: Path  # of what is kept on the way
    start: Start
    keep: Callable[[str], Kept]  # a training's name to how it is kept; "" is the model's own
    # The fields of an ensemble's further members.
    others: list[dict[str, Any]] = field(default_factory=list)
    teacher: str = ""  # the version that teaches
    what: str = "train"


@dataclass
class Ended:
    """What came of it."""

    learner: Learner
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
    smaller = small_fields(work) if judged.prune.fraction else None
    alone = not judged.prune.fraction and judged.ensemble.members == 1
    learner = start.recipe.learner(start.splits)
    ended = Ended(learner, start.recipe, {}, 0)
    teachers = teaching(work, ended)
    lessons = Lessons(teachers, judged.teach.weight, judged.teach.temperature) if teachers else None
    run = Run(
        trainer=start.settings,
        seed=judged.seed,
        epochs=start.settings.max_epochs,
        what=f"{work.what} {work.application}" + (f": {OWN}" if teachers else ""),
        watch=contract.watch(work.application, judged.sweep.metric),
        begin=start.weights,
        logger=logger,
        lessons=lessons,
    )
    if alone:
        kept = work.keep("")
        ended.kept.append(kept)
        fitted = learner.fit(replace(run, kept=kept))
    else:
        fitted = stage(work, ended, "", learner, run)
    ended.metrics, ended.steps = fitted.metrics, fitted.steps
    if smaller is not None:
        prune(work, ended, smaller, run)
    for number, fields in enumerate(work.others, 1):
        name, seed = f"member-{number}", judged.seed + number
        member = type(start.recipe)(**fields).learner(Splits(work.splits, seed))
        fitted = stage(work, ended, name, member, beside(run, seed))
        ended.members[name], ended.fields[name] = work.folder / f"{name}.safetensors", fields
        ended.more |= {f"{name}.{key}": value for key, value in fitted.metrics.items()}
    return ended


def beside(run: Run, seed: int) -> Run:
    """The training of another network beside the model's own, from scratch."""
    return replace(run, seed=seed, begin=None, logger=None, lessons=None)


def small_fields(work: Work) -> Recipe:
    """The fields after pruning; Refused where these cannot be pruned although others can."""
    fraction, recipe = work.judged.prune.fraction, work.start.recipe
    assert isinstance(recipe, Prunable)  # the configuration was judged
    try:
        pruned = recipe.pruned(fraction)
    except ValueError as error:
        raise Refused(f"prune.fraction={fraction:g}: {error}, or say prune.fraction=0") from error
    assert isinstance(pruned, Recipe)
    return pruned


def stage(work: Work, ended: Ended, name: str, learner: Learner, run: Run) -> Fitted:
    """One training, or what is there of it since it ended before."""
    label = name or "whole"
    noted, weights = work.folder / f"{label}.json", work.folder / f"{label}.safetensors"
    if noted.is_file() and weights.is_file():
        told = json.loads(noted.read_text())
        if told["weights"] == sha256(weights):
            learner.load(weights)
            return Fitted(told["metrics"], told["steps"])
    kept = work.keep(name)
    ended.kept.append(kept)
    what = f"{work.what} {work.application}: {name.replace('-', ' ') or OWN}"
    fitted = learner.fit(replace(run, what=what, kept=kept))
    if not rank():
        learner.save(weights)
        told = {"weights": sha256(weights), "metrics": fitted.metrics, "steps": fitted.steps}
        write(noted, json.dumps(told) + "\n")
        kept.checkpoints.clear()
    return fitted


def prune(work: Work, ended: Ended, pruned: Recipe, run: Run) -> None:
    """Take the lightest inner channels out and train on.

    The whole network stays where that costs more than the margin.
    """
    prune, metric = work.judged.prune, work.judged.sweep.metric
    splits = work.start.splits
    shrunk, begin = pruned.learner(splits), work.folder / "pruned-begin.safetensors"
    assert isinstance(ended.learner, Shrinks)
    ended.learner.shrink(shrunk)
    if not rank():
        shrunk.save(begin)
    wait()
    slower = pruned
    if isinstance(pruned, Rated):
        slower = pruned.model_copy(update={"lr": pruned.lr * prune.rate})
    learner = slower.learner(splits)
    settings = slowed(work.start.settings, prune.rate).model_copy(
        update={"max_epochs": prune.epochs}
    )
    again = replace(run, trainer=settings, epochs=prune.epochs, begin=begin, logger=None)
    fitted = stage(work, ended, "pruned", learner, again)
    ended.more |= {f"whole.{name}": value for name, value in ended.metrics.items()} | {
        f"pruned.{name}": value for name, value in fitted.metrics.items()
    }
    assert run.watch is not None
    lost = run.watch.sign * (ended.metrics[metric] - fitted.metrics[metric])
    words = (
        f"{prune.fraction:g} of the inner channels: {metric} {fitted.metrics[metric]:.4f}, "
        f"whole {ended.metrics[metric]:.4f}"
    )
    if not lost <= prune.margin:
        ended.tags[tags.PRUNED] = f"not taken, {words}; {prune.margin:g} may be lost"
        return
    ended.tags[tags.PRUNED] = words
    ended.learner, ended.recipe, ended.metrics = learner, pruned, fitted.metrics
    ended.steps += fitted.steps


def slowed(settings: Trainer, rate: float) -> Trainer:
    """Settings with a share of their learning rate, where they have one of their own."""
    if not isinstance(settings.lr, float):
        return settings
    return settings.model_copy(update={"lr": settings.lr * rate})


# Teachers -----------------------------------------------------------------------------------------


def teaching(work: Work, ended: Ended) -> list[Learner]:
    """Those who teach, trained or taken from the live version; nobody, most often."""
    teach, start = work.judged.teach, work.start
    if teach.by == "champion":
        return [champion(work, ended)]
    found: list[Learner] = []
    for number in range(1, teach.members + 1 if teach.by == "ensemble" else 1):
        name, seed = f"teacher-{number}", work.judged.seed + number
        recipe = type(start.recipe)(**{**start.recipe.model_dump(), **teach.model})
        fits(start.recipe, recipe, "teach.model")
        learner = recipe.learner(Splits(work.splits, seed))
        run = Run(
            start.settings,
            seed,
            start.settings.max_epochs,
            name,
            contract.watch(work.application, work.judged.sweep.metric),
        )
        fitted = stage(work, ended, name, learner, run)
        ended.more |= {f"{name}.{key}": value for key, value in fitted.metrics.items()}
        found.append(learner)
    if found:
        ended.tags[tags.TAUGHT] = f"by an ensemble of {len(found)}"
    return found


def champion(work: Work, ended: Ended) -> Learner:
    path = weights_of(work.application, work.teacher)
    package = packages.fetch(work.application, work.teacher)
    recipe = contract.load(work.application)(**described(package)["fields"])
    if why := work.start.recipe.learner(work.start.splits).incompatible(package):
        raise Refused(f"teach.by=champion: {why}; say teach.by=ensemble or nobody")
    fits(work.start.recipe, recipe, f"{work.application} version {work.teacher}")
    learner = recipe.learner(work.start.splits)
    learner.load(path)
    ended.tags[tags.TAUGHT] = (
        f"by {work.application} version {work.teacher}, weights {sha256(path)[:16]}"
    )
    ended.tags[tags.TAUGHT_VERSION] = work.teacher
    return learner


def fits(student: Recipe, teacher: Recipe, who: str) -> None:
    """A teacher is asked about the student's batches, so it must read them as the student does."""
    assert isinstance(student, Teachable) and isinstance(teacher, Teachable)
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
