"""What a training needs before its first step: sense, the weights it begins from, and its rate."""

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from tidemill.contract import (
    Batched,
    Budgeted,
    Classes,
    Learner,
    Recipe,
    Splits,
    WarmStartableByFields,
)
from tidemill.engines.config.schema import Trainer
from tidemill.engines.mlflow import packages, registry, runs, tags
from tidemill.learners.lightning.rate import by_range_test, resolved
from tidemill.run import plan
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import digest, sha256, write
from tidemill.runtime.rank import rank


@dataclass
class Start:
    """A training as it begins: its fields and settings resolved."""

    recipe: Recipe
    settings: Trainer
    splits: Splits
    weights: Path | None  # to begin from
    told: str  # what it begins from, in words
    tokens: int  # of a batch; 0 where the recipe counts none
    version: str = ""  # of the application that it begins from; empty where from none


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
    rows, counts = pd.read_parquet(this.splits / "train.parquet", columns=["target"]), {}
    for part in ("train", "valid", "test"):
        counts[part] = pq.read_metadata(this.splits / f"{part}.parquet").num_rows
    plan.refuse_empty(this.application, counts)
    # A budgeted recipe's batch is of blocks, of which rows of any length make many.
    batch = recipe.batch if isinstance(recipe, Batched) and not isinstance(recipe, Budgeted) else 0
    if batch > len(rows):
        raise Refused(
            f"model.batch is {batch} and {this.application} has {len(rows)} training rows; "
            f"say model.batch={len(rows)} or less"
        )
    if issubclass(recipe.application, Classes):
        counts = Counter(next(iter(json.loads(target).values())) for target in rows["target"])
        alone = sorted(name for name, count in counts.items() if count == 1)
        if alone or len(counts) < 2:
            why = (
                f"one training row has {', '.join(map(repr, alone[:8]))}"
                if alone
                else f"all training rows have {next(iter(counts))!r}"
            )
            raise Refused(
                f"{this.application}: {why}, from which nothing can be learned; bring more rows of "
                f"it, or leave the class out (label in conf/recipe/{this.application}.yaml)"
            )


def prepared(this: plan.Plan, recipe: Recipe) -> Start:
    settings = this.recipe.trainer
    weights, told, number = None, "scratch", ""
    package: Path | None = None
    if settings.start == "champion":
        told, number = champion(this)
        weights, package = (
            weights_of(this.application, number),
            packages.fetch(this.application, number),
        )
        if isinstance(recipe, WarmStartableByFields):
            recipe, weights = recipe.warmed(package), None
    splits = Splits(this.splits, this.recipe.seed)
    if package is not None and (why := recipe.learner(splits).incompatible(package)):
        raise Refused(f"trainer.start=champion: {why}; say trainer.start=scratch")
    recipe, settings = resolved(
        recipe, settings, lambda: found_rate(this, recipe.learner(splits), settings)
    )
    return Start(recipe, settings, splits, weights, told, tokens(recipe, settings), number)


def tokens(recipe: Recipe, settings: Trainer) -> int:
    """Of a step; 0 where the recipe counts none."""
    if not isinstance(recipe, Budgeted):
        return 0
    devices = settings.devices * settings.nodes
    told = recipe.plan(1, devices, settings.strategy, settings.precision)
    return int(told.get("tokens_per_step", 0))


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
    key = version.key if version else ""
    path = paths.run(key) / "weights.safetensors"
    if version is None or not key or not path.is_file():
        raise Refused(
            f"the weights of {application} version {number}, to begin from, are not on this "
            "machine; say trainer.start=scratch"
        )
    logged = runs.data(version.run_id).tags
    if tags.MEMBERS in logged:
        raise Refused(
            f"{application} version {number} is an ensemble of {logged[tags.MEMBERS]} networks, "
            "and one is needed; say trainer.start=scratch, teach.by=nobody"
        )
    wanted = logged.get(tags.WEIGHTS)
    if wanted and sha256(path) != wanted:
        raise Refused(
            f"the weights of {application} version {number}, to begin from, are not those that "
            "were trained; say trainer.start=scratch"
        )
    return path


def found_rate(this: plan.Plan, learner: Learner, settings: Trainer) -> float:
    """The rate of a range test; found once in a run, so that a resumed training has the same."""
    noted = this.folder / "rate.json"
    while rank() and not noted.is_file():
        time.sleep(0.2)  # the first process finds it for all; should it end, so does this one
    if not noted.is_file():
        rate = by_range_test(learner, settings, this.recipe.seed)
        write(noted, json.dumps({"rate": rate}) + "\n")
    return float(json.loads(noted.read_text())["rate"])


def resumes(folder: Path) -> int:
    """How often this training went on from a checkpoint, this time included."""
    noted = folder / "resumes.json"
    before = int(json.loads(noted.read_text())["resumes"]) if noted.is_file() else 0
    if not any(folder.glob("checkpoints*/step-*")):
        return before
    write(noted, json.dumps({"resumes": before + 1}) + "\n")
    return before + 1
