"""python -m tasks.register --run PATH, or RECIPE [key=value ...]: the judged run to MLflow.

Its package goes with it.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.register.card import described_by, dumped, render
from tasks.register.figures import draw
from tidemill import contract
from tidemill.contract import Application, Figured
from tidemill.engines.mlflow import packages, registry, runs, tags
from tidemill.engines.mlflow.live import CHALLENGER
from tidemill.kit.graphs import examples
from tidemill.kit.metrics.classes import right
from tidemill.lineage import trace
from tidemill.package import signing
from tidemill.package.package import verify
from tidemill.records.receipts import (
    Explained,
    Exported,
    Judged,
    Registered,
    Scored,
    Swept,
    Trained,
)
from tidemill.run import main, plan
from tidemill.run.tracked import begin
from tidemill.runtime import paths, process


def register(this: plan.Plan) -> Registered:
    """Log what the run found, and make its package a version unless it was rejected."""
    exported, judged = plan.read("export", Exported, this), plan.read("judge", Judged, this)
    package = paths.root() / exported.package
    verify(package, exported.digest, f"the candidate of {this.application}")
    signing.sign(package)
    application = contract.application(this.application)
    run_id = begin(this)
    process.progress(0, 3, "parts", part="findings")
    log_findings(this, run_id, exported, judged)
    log_metrics(run_id, next(iter(application.metrics)), judged)
    log_figures(this, run_id, application, judged)
    process.progress(1, 3, "parts", part="package")
    version = ""
    if judged.verdict == "REJECT":
        reject(this, run_id, exported.digest, judged)
    else:
        version = make_version(this, run_id, application, exported, judged)
        process.progress(2, 3, "parts", part="version")
        if judged.verdict == "HOLD" or this.recipe.approval:
            registry.move(this.application, CHALLENGER, version)
            runs.end(run_id, "Held", judged.because)
        runs.finish(run_id)
        trace.note(this.application, version, this.snapshot)
        process.progress(3, 3, "parts")
    return Registered(
        name=this.application,
        version=version,
        digest=exported.digest,
        run_id=run_id,
        page=runs.page(run_id, runs.experiment(this.application)),
    )


def log_findings(this: plan.Plan, run_id: str, exported: Exported, judged: Judged) -> None:
    """The tables and texts of a run: gates, slices, forms, card, explanations, sweep."""
    runs.log_table(run_id, [finding.model_dump() for finding in judged.findings], "gates.json")
    runs.log_table(run_id, [dict(row) for row in judged.table], "slices.json")
    if exported.forms:
        runs.log_table(run_id, [dict(row) for row in exported.forms], "forms.json")
    card = described_by(this, plan.read("train", Trained, this), exported, judged)
    runs.log_text(run_id, dumped(card), "card.json")
    runs.log_text(run_id, render(card), "card.md")
    if explained := Explained.load(this.folder / "explain.json"):
        runs.log_table(run_id, json.loads(explained.file.open().read_text()), "explanations.json")
    swept = plan.read("sweep", Swept, this)
    runs.log_text(run_id, json.dumps(swept.model_dump(), indent=1), "sweep.json")


def log_metrics(run_id: str, metric: str, judged: Judged) -> None:
    """Every model's first metric on all test rows, and the verdict."""
    whole = next((row for row in judged.table if row["slice"] == "all"), {})
    figures = {
        f"test.{metric}.{model.replace('.', '')}": value
        for model, value in whole.items()
        if isinstance(value, float) and model not in ("low", "high")
    }
    verdict = {tags.VERDICT: judged.verdict, tags.BECAUSE: judged.because}
    runs.log(run_id, metrics=figures, tags=verdict)


def log_figures(
    this: plan.Plan, run_id: str, application: Application[Any, Any, Any], judged: Judged
) -> None:
    """The application's own pictures, and those of the verdict."""
    frames = plan.read("score", Scored, this).frames
    candidate = pd.read_parquet(frames["candidate"].open())
    times = pd.read_parquet(frames["times"].open())
    with tempfile.TemporaryDirectory() as temporary:
        pictures = Path(temporary) / "figures"
        pictures.mkdir()
        if isinstance(application, Figured):
            application.figures(candidate, pictures)
        draw(pictures, judged.findings, candidate, right(candidate), times)
        runs.log_files(run_id, pictures, "figures")


def reject(this: plan.Plan, run_id: str, digest: str, judged: Judged) -> None:
    """End the run; a version of the same package is rejected too.

    It was judged again beside another champion, and what it was registered with no longer holds.
    """
    runs.end(run_id, "Rejected", judged.because)
    if earlier := registry.version_of(this.application, digest):
        registry.register(this.application, run_id, digest, verdict_tags(judged))
        print(f"version {earlier} of {this.application} is now rejected")


def make_version(
    this: plan.Plan,
    run_id: str,
    application: Application[Any, Any, Any],
    exported: Exported,
    judged: Judged,
) -> str:
    """The version of this package, its files logged where it is new."""
    package = paths.root() / exported.package
    if registry.version_of(this.application, exported.digest) is None:
        with tempfile.TemporaryDirectory() as temporary:
            model = Path(temporary) / "model"
            packages.save_model(package, model, *example(application, package))
            runs.log_files(run_id, model, "model")
        runs.log_files(run_id, package, packages.PACKAGE)
    origin = {tags.KEY: this.key, tags.SNAPSHOT: this.snapshot}
    return registry.register(
        this.application, run_id, exported.digest, {**origin, **verdict_tags(judged)}
    )


def verdict_tags(judged: Judged) -> dict[str, str]:
    """What a version says of how it was judged; sealed when it is registered."""
    return {
        tags.VERDICT: judged.verdict,
        tags.BESIDE: judged.champion or tags.NONE,
        tags.BECAUSE: judged.because,
    }


def example(
    application: Application[Any, Any, Any], package: Path
) -> tuple[str, dict[str, dict[str, np.ndarray]]]:
    """A graph's name, with real inputs and outputs: two rows or more, for one claims a fixed batch.

    The graph is `model` where there is one, else the first by name.
    """
    calls = examples(application, application.open(package))
    name = "model" if "model" in calls else min(calls)
    return name, {"inputs": calls[name].inputs, "outputs": calls[name].outputs}


if __name__ == "__main__":
    main.of_run(register, "register")
