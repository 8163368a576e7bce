"""python -m tasks.register RECIPE [key=value ...]: the judged run and its package to MLflow."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import recipes
from tasks import places, plan, process, signing, trace, tracking
from tasks.export import described, verify
from tasks.receipts import Explained, Exported, Judged, Registered, Scored, Swept, Trained
from tasks.register.card import dumped, render, told
from tasks.register.figures import draw
from tasks.tracking.story import begin


def register(this: plan.Plan) -> Registered:
    exported, judged = plan.read("export", Exported, this), plan.read("judge", Judged, this)
    scored, swept = plan.read("score", Scored, this), plan.read("sweep", Swept, this)
    package = places.root() / exported.package
    verify(package, exported.digest, f"the candidate of {this.application}")
    signing.sign(package)
    recipe = recipes.load(this.application)(**described(package)["fields"])
    run_id = begin(this)
    page = tracking.page(run_id, tracking.experiment(this.application))
    process.progress(0, 3, "parts", part="findings")
    tracking.log_table(run_id, [finding.model_dump() for finding in judged.findings], "gates.json")
    tracking.log_table(run_id, [dict(row) for row in judged.table], "slices.json")
    if exported.forms:
        tracking.log_table(run_id, [dict(row) for row in exported.forms], "forms.json")
    card = told(this, plan.read("train", Trained, this), exported, judged)
    tracking.log_text(run_id, dumped(card), "card.json")
    tracking.log_text(run_id, render(card), "card.md")
    if explained := Explained.load(this.folder / "explain.json"):
        tracking.log_table(
            run_id, json.loads(explained.file.open().read_text()), "explanations.json"
        )
    tracking.log_text(run_id, json.dumps(swept.model_dump(), indent=1), "sweep.json")
    whole = next((row for row in judged.table if row["slice"] == "all"), {})
    name = next(iter(recipe.metrics))
    tracking.log(
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
        tracking.log_files(run_id, pictures, "figures")
        if judged.verdict == "REJECT":
            tracking.end(run_id, "Rejected", judged.because)
            if earlier := tracking.version_of(this.application, exported.digest):
                # Judged again beside another champion: what it was registered with no longer holds.
                tracking.register(
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
        version = tracking.version_of(this.application, exported.digest)
        if version is None:
            model = Path(temporary) / "model"
            tracking.save_model(package, model, example(recipe, package))
            tracking.log_files(run_id, model, "model")
            shutil.rmtree(model)
            tracking.log_files(run_id, package, "package")
    process.progress(2, 3, "parts", part="version")
    version = tracking.register(
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
        tracking.move(this.application, "challenger", version)
        tracking.end(run_id, "Held", judged.because)
    tracking.finish(run_id)
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
    plan.main("register", register)
