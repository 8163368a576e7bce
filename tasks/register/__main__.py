"""python -m tasks.register --run PATH, or RECIPE [key=value ...]: the judged run and its package to MLflow."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.register.card import dumped, render, told
from tasks.register.figures import draw
from tidemill import contract
from tidemill.engines.mlflow import packages, registry, runs
from tidemill.lineage import trace
from tidemill.package import signing
from tidemill.package.package import described, verify
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
    exported, judged = plan.read("export", Exported, this), plan.read("judge", Judged, this)
    scored, swept = plan.read("score", Scored, this), plan.read("sweep", Swept, this)
    package = paths.root() / exported.package
    verify(package, exported.digest, f"the candidate of {this.application}")
    signing.sign(package)
    recipe = contract.load(this.application)(**described(package)["fields"])
    run_id = begin(this)
    page = runs.page(run_id, runs.experiment(this.application))
    process.progress(0, 3, "parts", part="findings")
    runs.log_table(run_id, [finding.model_dump() for finding in judged.findings], "gates.json")
    runs.log_table(run_id, [dict(row) for row in judged.table], "slices.json")
    if exported.forms:
        runs.log_table(run_id, [dict(row) for row in exported.forms], "forms.json")
    card = told(this, plan.read("train", Trained, this), exported, judged)
    runs.log_text(run_id, dumped(card), "card.json")
    runs.log_text(run_id, render(card), "card.md")
    if explained := Explained.load(this.folder / "explain.json"):
        runs.log_table(run_id, json.loads(explained.file.open().read_text()), "explanations.json")
    runs.log_text(run_id, json.dumps(swept.model_dump(), indent=1), "sweep.json")
    whole = next((row for row in judged.table if row["slice"] == "all"), {})
    name = next(iter(recipe.metrics))
    runs.log(
        run_id,
        metrics={
            f"test.{name}.{model.replace('.', '')}": float(value)
            for model, value in whole.items()
            if isinstance(value, float) and model not in ("low", "high")
        },
        tags={"tidemill.verdict": judged.verdict, "tidemill.because": judged.because},
    )
    with tempfile.TemporaryDirectory() as temporary:
        pictures = Path(temporary) / "figures"
        pictures.mkdir()
        candidate = pd.read_parquet(scored.frames["candidate"].open())
        recipe.figures(candidate, pictures)
        draw(
            pictures,
            judged.findings,
            candidate,
            recipe.right(candidate),
            pd.read_parquet(scored.frames["times"].open()),
        )
        runs.log_files(run_id, pictures, "figures")
        if judged.verdict == "REJECT":
            runs.end(run_id, "Rejected", judged.because)
            if earlier := registry.version_of(this.application, exported.digest):
                # Judged again beside another champion: what it was registered with no longer holds.
                registry.register(
                    this.application,
                    run_id,
                    exported.digest,
                    {"tidemill.verdict": "REJECT", "tidemill.because": judged.because[:4000]},
                )
                print(f"version {earlier} of {this.application} is now rejected")
            return Registered(
                name=this.application, version="", digest=exported.digest, run_id=run_id, page=page
            )
        process.progress(1, 3, "parts", part="package")
        version = registry.version_of(this.application, exported.digest)
        if version is None:
            model = Path(temporary) / "model"
            packages.save_model(package, model, example(recipe, package))
            runs.log_files(run_id, model, "model")
            shutil.rmtree(model)
            runs.log_files(run_id, package, "package")
    process.progress(2, 3, "parts", part="version")
    version = registry.register(
        this.application,
        run_id,
        exported.digest,
        {
            "tidemill.key": this.key,
            "tidemill.verdict": judged.verdict,
            "tidemill.because": judged.because[:4000],
            "tidemill.snapshot": this.snapshot,
        },
    )
    if judged.verdict == "HOLD" or this.recipe.approval:
        registry.move(this.application, "challenger", version)
        runs.end(run_id, "Held", judged.because)
    runs.finish(run_id)
    trace.note(this.application, version, this.snapshot)
    process.progress(3, 3, "parts")
    return Registered(
        name=this.application, version=version, digest=exported.digest, run_id=run_id, page=page
    )


def example(recipe: object, package: Path) -> dict[str, dict[str, np.ndarray]]:
    """Real inputs and outputs of the graph, two rows or more: one row would claim a fixed batch."""
    session = recipe.open(package)  # type: ignore[attr-defined]
    return recipe.example(session)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main.of_run(register, "register")
