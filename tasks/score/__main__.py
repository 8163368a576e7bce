"""python -m tasks.score --run PATH, or RECIPE [key=value ...]: all models on the same rows."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.score.baselines import baselines, save
from tasks.score.drift import drift
from tidemill import contract
from tidemill.contract import Application, Robust
from tidemill.engines.mlflow import ledger, packages, registry, reuse, tags
from tidemill.engines.mlflow.live import live
from tidemill.package.latency import measured, rss_mb
from tidemill.package.package import verify
from tidemill.records import blobs
from tidemill.records.receipts import Exported, Scored
from tidemill.run import main, plan
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault


def score(this: plan.Plan) -> Scored:
    exported = plan.read("export", Exported, this)
    now = live(this.application)
    champion = now.version
    anchor = anchored(this, champion)
    before = still_holds(this, champion, anchor)
    if before is not None and before.unclear == now.difference:
        return before
    # What was concluded from older rows does not hold beside these.
    for step in ("judge", "explain", "register"):
        (this.folder / f"{step}.json").unlink(missing_ok=True)
    package = paths.root() / exported.package
    verify(package, exported.digest, f"the candidate of {this.application}")
    asked = Asked(this, blobs.examples(this.splits / "test.parquet"))
    asked.models(package, champion, anchor)
    moved = drift(this.application, champion, this.snapshot, this.splits) if champion else {}
    process.progress(2, 4, "parts", part="latency")
    latency = asked.timed()
    asked.trained_on()
    missed = asked.golden()
    batch, batch_differs = asked.batched()
    process.progress(3, 4, "parts", part="baselines")
    frames = asked.frames | baselines(this).frames
    process.progress(4, 4, "parts")
    return Scored(
        frames=frames,
        champion=champion,
        anchor=anchor,
        rows=len(asked.examples),
        skipped=asked.skipped,
        golden=len(this.recipe.score.golden),
        missed=missed,
        batch=batch,
        batch_differs=batch_differs,
        latency=latency,
        drift=moved,
        reuse=reuse.note(this.application, exported.digest, asked.examples["example_id"]),
        unclear=now.difference,
    )


def anchored(this: plan.Plan, champion: str | None) -> str | None:
    """The best version of the ledger, where it is another one than the champion."""
    if champion is None:
        return None
    name, metric = next(iter(contract.application(this.application).metrics.items()))
    days = this.recipe.score.anchor.days
    best = ledger.anchor(this.application, name, metric.better, days)
    return None if best == champion else best


def still_holds(this: plan.Plan, champion: str | None, anchor: str | None) -> Scored | None:
    """The receipt that is there, where it was made beside today's champion and anchor."""
    before = plan.whole("score", Scored, this)
    if before is None or before.skipped:
        return None
    if (before.champion, before.anchor) == (champion, anchor):
        return before
    # This run's own version went live, and its end was not noted.
    own = champion is not None and (registry.tag(this.application, champion, tags.KEY) == this.key)
    return before if own else None


class Asked:
    """Models that were asked the test rows, and their answers' frames."""

    def __init__(self, this: plan.Plan, examples: pd.DataFrame) -> None:
        self.plan, self.examples = this, examples
        self.settings, self.seed = this.recipe.score, this.recipe.seed
        self.frames = {"rows": save(this, "rows", rows(examples, self.settings.slices))}
        self.skipped: dict[str, str] = {}
        self.memory_mb: dict[str, float] = {}
        self.application = contract.application(this.application)
        self.predictors: dict[str, Any] = {}

    def models(self, candidate: Path, champion: str | None, anchor: str | None) -> None:
        """The candidate, and the versions that it is judged beside."""
        process.progress(0, 4, "parts", part="candidate")
        self.whole("candidate", candidate)
        process.progress(1, 4, "parts", part="champion")
        if champion is not None:
            self.version("champion", champion, self.whole)
        if anchor is not None:
            self.version("anchor", anchor, self.rows_alone)

    def whole(self, model: str, folder: Path) -> None:
        """The rows as they are and perturbed; the predictor stays open, to be timed."""
        before = rss_mb()
        predictor = self._opened(folder)
        self.memory_mb[model] = round(rss_mb() - before, 1)
        self._save(model, judged(self.application, predictor, self.examples))
        count = self.settings.perturbed_rows
        for name, frame in perturbed(self.application, predictor, self.examples, count, self.seed):
            self._save(f"{model}~{name}", frame)
        self.predictors[model] = predictor

    def rows_alone(self, model: str, folder: Path) -> None:
        """The rows as they are, and nothing else."""
        predictor = self._opened(folder)
        self._save(model, judged(self.application, predictor, self.examples))

    def version(self, model: str, number: str, ask: Callable[[str, Path], None]) -> None:
        """A registered version; one that cannot answer is a finding, not the candidate's fault."""
        try:
            ask(model, packages.fetch(self.plan.application, number))
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            self.skipped[model] = f"version {number}: {why}"
            print(f"{model} version {number} cannot be scored: {why}")

    def timed(self) -> dict[str, dict[str, float]]:
        """How fast the open models answer, in turn."""
        count = self.settings.requests
        kind = self.application.Input
        inputs = sample(self.examples, count)["inputs"]
        questions = [kind.model_validate_json(item) for item in inputs]
        figures, times = measured(self.predictors, questions, count)
        self._save("times", times)
        return {
            name: {**found, "memory_mb": self.memory_mb[name]} for name, found in figures.items()
        }

    def trained_on(self) -> None:
        """Some of the rows that the candidate was trained on."""
        count = self.settings.train_rows
        if not count:
            return
        seen = sample(blobs.examples(self.plan.splits / "train.parquet"), count)
        self._save("train rows", rows(seen, self.settings.slices))
        self._save("train", judged(self.application, self.predictors["candidate"], seen))

    def golden(self) -> list[str]:
        """The golden rows that the candidate answers otherwise, in words."""
        rows = self.settings.golden
        if not rows:
            return []
        questions = [self.application.Input.model_validate(row.inputs) for row in rows]
        wanted = [self.application.Output.model_validate(row.answer) for row in rows]
        given = self.predictors["candidate"].predict(questions)
        return [
            f"{short(row.inputs)} is to be {short(row.answer)} and is {short(answer.model_dump())}"
            for row, want, answer in zip(rows, wanted, given, strict=True)
            if not self.application.same(answer, want)
        ]

    def batched(self) -> tuple[int, int]:
        """How many rows were asked alone and in one batch, and how many answers differ."""
        chosen = sample(self.examples, self.settings.batch_rows)["inputs"]
        questions = [self.application.Input.model_validate_json(item) for item in chosen]
        if not questions:
            return 0, 0
        predictor = self.predictors["candidate"]
        together = predictor.predict(questions)
        alone = [predictor.predict([question])[0] for question in questions]
        pairs = zip(together, alone, strict=True)
        return len(questions), sum(not self.application.same(one, two) for one, two in pairs)

    def _opened(self, folder: Path) -> Any:
        predictor = self.application.open(folder)
        predictor.predict(contract.golden(self.application, predictor)[:1])
        return predictor

    def _save(self, name: str, frame: pd.DataFrame) -> None:
        self.frames[name] = save(self.plan, name, frame)


def short(value: dict[str, object]) -> str:
    """A question or an answer in one short line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


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
    """Frames as `score` gives them, of some rows with their questions perturbed.

    The other rows are left out (NaN).
    """
    chosen = sample(examples, count).sort_index()
    if chosen.empty or not isinstance(application, Robust):
        return
    questions = [application.Input.model_validate_json(item) for item in chosen["inputs"]]
    for name, changed in application.perturbations(questions, seed).items():
        if len(changed) != len(questions):
            raise Fault(
                f"the perturbation {name} gave {len(changed)} questions for {len(questions)}; "
                "correct the application's perturbations"
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
