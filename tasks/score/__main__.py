"""python -m tasks.score --run PATH, or RECIPE [key=value ...]: every model on the same test rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.score.baselines import baselines, save
from tasks.score.drift import drift
from tidemill import contract
from tidemill.contract import Application, Robust
from tidemill.engines.mlflow import packages, registry, runs, tags
from tidemill.engines.mlflow.live import live
from tidemill.package.latency import measured, rss_mb
from tidemill.package.package import verify
from tidemill.records.receipts import Exported, Scored
from tidemill.run import main, plan
from tidemill.run.tracked import begin
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import digest


def score(this: plan.Plan) -> Scored:
    exported = plan.read("export", Exported, this)
    now = live(this.application)
    champion = now.version
    before = plan.whole("score", Scored, this)
    own = champion is not None and registry.tag(this.application, champion, tags.KEY) == this.key
    same = before and (before.champion == champion or own) and before.unclear == now.difference
    if before and same and "champion" not in before.skipped:
        # Scored beside today's champion already, which answered; or this run's own version went live and its end was not noted.
        return before
    # What was concluded from older rows does not hold beside these.
    for step in ("judge", "explain", "register"):
        (this.folder / f"{step}.json").unlink(missing_ok=True)
    package = paths.root() / exported.package
    verify(package, exported.digest, f"the candidate of {this.application}")
    examples = pd.read_parquet(this.splits / "test.parquet")
    settings, seed = this.recipe.score, this.recipe.seed
    application = contract.application(this.application)
    frames, skipped, predictors, memory = {}, {}, {}, {}
    frames["rows"] = save(this, "rows", rows(examples, settings.slices))
    process.progress(0, 4, "parts", part="candidate")

    def asked(model: str, folder: Path) -> None:
        before = rss_mb()
        predictor = application.open(folder)
        predictor.predict(application.golden()[:1])
        memory[model] = round(rss_mb() - before, 1)
        frames[model] = save(this, model, judged(application, predictor, examples))
        for name, frame in perturbed(
            application, predictor, examples, settings.perturbed_rows, seed
        ):
            frames[f"{model}~{name}"] = save(this, f"{model}~{name}", frame)
        predictors[model] = predictor

    asked("candidate", package)
    process.progress(1, 4, "parts", part="champion")
    moved: dict[str, float] = {}
    if champion is not None:
        try:
            asked("champion", packages.fetch(this.application, champion))
        except Exception as error:
            # A champion that cannot answer is a finding, not a fault of the candidate.
            skipped["champion"] = f"version {champion}: {type(error).__name__}: {error}"
            print(f"champion version {champion} cannot be scored: {type(error).__name__}: {error}")
        moved = drift(this.application, champion, this.snapshot, this.splits)
    process.progress(2, 4, "parts", part="latency")
    questions = [
        application.Input.model_validate_json(item)
        for item in sample(examples, settings.requests)["inputs"]
    ]
    figures, times = measured(predictors, questions, settings.requests)
    latency = {name: {**found, "memory_mb": memory[name]} for name, found in figures.items()}
    frames["times"] = save(this, "times", times)
    process.progress(3, 4, "parts", part="baselines")
    frames |= baselines(this).frames
    process.progress(4, 4, "parts")
    looks = runs.looks(this.application, digest(examples["example_id"].tolist()), begin(this))
    return Scored(
        frames=frames,
        champion=champion,
        unclear=now.difference,
        rows=len(examples),
        skipped=skipped,
        latency=latency,
        drift=moved,
        looks=looks,
    )


def sample(examples: pd.DataFrame, count: int) -> pd.DataFrame:
    """Some rows, always the same ones: ids are hashes, so their order is a random one."""
    return examples.sort_values("example_id", kind="stable").head(count)


def perturbed(
    application: Application[Any, Any, Any],
    predictor: Any,
    examples: pd.DataFrame,
    count: int,
    seed: int,
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Frames as `score` gives them, of some rows with their questions perturbed; the other rows are left out (NaN)."""
    chosen = sample(examples, count).sort_index()
    if chosen.empty or not isinstance(application, Robust):
        return
    questions = [application.Input.model_validate_json(item) for item in chosen["inputs"]]
    for name, changed in application.perturbations(questions, seed).items():
        if len(changed) != len(questions):
            raise Fault(
                f"the perturbation {name} gave {len(changed)} questions for {len(questions)}; correct the application's perturbations"
            )
        asked = chosen.assign(
            inputs=[question.model_dump_json(exclude_unset=True) for question in changed]
        )
        yield (
            name,
            judged(application, predictor, asked).set_axis(chosen.index).reindex(examples.index),
        )


def rows(examples: pd.DataFrame, slices: tuple[str, ...]) -> pd.DataFrame:
    """What the judge needs to know of each row: its unit and its slices."""
    told = [json.loads(item) for item in examples["slices"]]
    return pd.DataFrame(
        {
            "example_id": examples["example_id"],
            "unit": examples["unit"],
            **{name: [str(item.get(name, "")) for item in told] for name in slices},
        }
    )


def judged(
    application: Application[Any, Any, Any], predictor: Any, examples: pd.DataFrame
) -> pd.DataFrame:
    frame: pd.DataFrame = application.evaluate(predictor, examples)
    if len(frame) != len(examples):
        raise Fault(
            f"evaluate gave {len(frame)} rows for {len(examples)} examples; "
            "correct the application's evaluate"
        )
    return frame


if __name__ == "__main__":
    main.of_run(score, "score")
