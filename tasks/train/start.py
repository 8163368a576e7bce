"""What a training needs to know before its first step: whether it makes sense, what it begins from, at which rate."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tidemill.contract import Recipe
from tidemill.engines.config.schema import Trainer
from tidemill.engines.mlflow import packages, registry, runs
from tidemill.run import plan
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import digest, sha256, write

CLASSES = ("pictures", "labelled texts")  # what a recipe `reads` where its answers are classes


@dataclass
class Start:
    """A training as it begins: its fields and settings resolved, its data loaded."""

    recipe: Recipe
    settings: Trainer
    data: Any
    weights: Path | None  # to begin from
    told: str  # what it begins from, in words
    tokens: int  # of a batch; 0 where the recipe counts none


def identity(this: plan.Plan, recipe: Recipe) -> dict[str, str]:
    """Which training a checkpoint belongs to."""
    return {
        "application": this.application,
        "data": this.snapshot,
        "configuration": digest([this.recipe.training(), recipe.model_dump()]),
        "code": this.code,
        "start": digest([this.start, this.champion and this.champion.weights]),
    }


def check(this: plan.Plan, recipe: Recipe) -> None:
    """Refuse what cannot be trained, before anything is spent."""
    rows = pd.read_parquet(this.splits / "train.parquet", columns=["target"])
    if not len(rows):
        raise Refused(
            f"{this.application} has no training row; see split.rules in conf/recipe/{this.application}.yaml and data/splits/{this.application}/report.json"
        )
    batch = getattr(recipe, "batch", None)
    if batch and batch > len(rows):
        raise Refused(
            f"model.batch is {batch} and {this.application} has {len(rows)} training rows; say model.batch={len(rows)} or less"
        )
    if recipe.reads in CLASSES:
        counts = Counter(next(iter(json.loads(target).values())) for target in rows["target"])
        alone = sorted(name for name, count in counts.items() if count == 1)
        if alone or len(counts) < 2:
            why = (
                f"one training row has {', '.join(map(repr, alone[:8]))}"
                if alone
                else f"all training rows have {next(iter(counts))!r}"
            )
            raise Refused(
                f"{this.application}: {why}, from which nothing can be learned; bring more rows of it, or leave the class out (label in conf/recipe/{this.application}.yaml)"
            )


def prepared(this: plan.Plan, recipe: Recipe) -> Start:
    settings = this.recipe.trainer
    weights, told = None, "scratch"
    package: Path | None = None
    if settings.start == "champion":
        told, number = champion(this)
        weights, package = (
            weights_of(this.application, number),
            packages.fetch(this.application, number),
        )
        begun = recipe.warmed(package)
        if begun is not recipe:  # the recipe itself begins from the package
            recipe, weights = begun, None
    data = recipe.datamodule(this.splits, this.recipe.seed)
    if package is not None and (why := recipe.strange(package, data)):
        raise Refused(f"trainer.start=champion: {why}; say trainer.start=scratch")
    if settings.lr != "recipe":
        if settings.optimiser == "recipe" and "lr" not in type(recipe).model_fields:
            raise Refused(
                f"trainer.lr: {this.application} has no field lr that its own optimiser reads; name one, as trainer.optimiser=adamw"
            )
        rate = found(this, recipe, data, settings) if settings.lr == "auto" else settings.lr
        settings = settings.model_copy(update={"lr": rate})
        if "lr" in type(recipe).model_fields:
            recipe = type(recipe)(**{**recipe.model_dump(), "lr": rate})
    return Start(
        recipe,
        settings,
        data,
        weights,
        told,
        int(
            recipe.plan(1, settings.devices, settings.strategy, settings.precision).get(
                "tokens_per_step", 0
            )
        ),
    )


def champion(this: plan.Plan) -> tuple[str, str]:
    """The live version that the run was planned with, in words and by its number."""
    assert this.champion is not None
    number = this.champion.version
    if sha256(weights_of(this.application, number)) != this.champion.weights:
        raise Refused(
            f"the weights of {this.application} version {number} are not those that the run was"
            f" planned with; run again"
        )
    return f"{this.application} version {number}, weights {this.champion.weights[:16]}", number


def weights_of(application: str, number: str) -> Path:
    """The trained weights of a version, found to be those that were trained."""
    version = registry.version(application, number)
    key = version["tags"].get("tidemill.key", "") if version else ""
    path = paths.run(key) / "weights.safetensors"
    if version is None or not key or not path.is_file():
        raise Refused(
            f"the weights of {application} version {number}, to begin from, are not on this machine; say trainer.start=scratch"
        )
    tags = runs.data(version["run_id"]).tags
    if "tidemill.members" in tags:
        raise Refused(
            f"{application} version {number} is an ensemble of {tags['tidemill.members']} networks, and one is needed; say trainer.start=scratch, teach.by=nobody"
        )
    wanted = tags.get("tidemill.weights")
    if wanted and sha256(path) != wanted:
        raise Refused(
            f"the weights of {application} version {number}, to begin from, are not those that were trained; say trainer.start=scratch"
        )
    return path


def found(this: plan.Plan, recipe: Recipe, data: Any, settings: Trainer) -> float:
    """The rate of a range test; found once in a run, so that a resumed training has the same."""
    import lightning

    from tidemill.learners.lightning.lr_range_test import find
    from tidemill.learners.lightning.optimisers import configure

    noted = this.folder / "rate.json"
    if not noted.is_file():
        lightning.seed_everything(this.recipe.seed, workers=True, verbose=False)
        module = recipe.module(data)
        if settings.optimiser != "recipe":
            module.configure_optimizers = configure(module, settings, 1.0)  # type: ignore[method-assign]
        write(noted, json.dumps({"rate": find(module, data)}) + "\n")
    return float(json.loads(noted.read_text())["rate"])


def resumes(folder: Path) -> int:
    """How often this training went on from a checkpoint, this time included."""
    noted = folder / "resumes.json"
    before = int(json.loads(noted.read_text())["resumes"]) if noted.is_file() else 0
    if not any(folder.glob("checkpoints*/step-*")):
        return before
    write(noted, json.dumps({"resumes": before + 1}) + "\n")
    return before + 1
