"""python -m tasks.score RECIPE [key=value ...]: every model on the same test rows."""

import json
from pathlib import Path

import pandas as pd

import recipes
from recipes.base import Recipe
from tasks import places, plan, process, tracking
from tasks.errors import Fault
from tasks.export import described, verify
from tasks.receipts import Exported, Scored
from tasks.score.baselines import baselines, save


def score(this: plan.Plan) -> Scored:
    exported = plan.read("export", Exported, this)
    champion = tracking.aliased(this.application)
    before = plan.whole(Scored, this.folder / "score.json")
    own = champion is not None and tracking.tag(this.application, champion, "tidemill.key") == this.key
    if before and (before.champion == champion or own):
        # Scored beside today's champion already; or this run's own version went live and its end was not noted.
        return before
    # What was concluded from older rows does not hold beside these.
    for step in ("judge", "register"):
        (this.folder / f"{step}.json").unlink(missing_ok=True)
    package = places.root() / exported.package
    verify(package, exported.digest, f"the candidate of {this.application}")
    examples = pd.read_parquet(this.splits / "test.parquet")
    recipe = recipes.load(this.application)(**described(package)["fields"])
    frames, skipped = {}, {}
    frames["rows"] = save(this, "rows", rows(examples, this.recipe.score.slices))
    process.progress(0, 3, "models", model="candidate")
    frames["candidate"] = save(this, "candidate", judged(recipe, package, examples))
    process.progress(1, 3, "models", model="champion")
    if champion is not None:
        try:
            theirs = tracking.package(this.application, champion)
            other = recipes.load(this.application)(**described(theirs)["fields"])
            frames["champion"] = save(this, "champion", judged(other, theirs, examples))
        except Exception as error:
            # A champion that cannot answer is a finding, not a fault of the candidate.
            skipped["champion"] = 1
            print(f"champion version {champion} cannot be scored: {type(error).__name__}: {error}")
    process.progress(2, 3, "models", model="baselines")
    frames |= baselines(this).frames
    process.progress(3, 3, "models")
    return Scored(frames=frames, champion=champion, rows=len(examples), skipped=skipped)


def rows(examples: pd.DataFrame, slices: tuple[str, ...]) -> pd.DataFrame:
    """What the judge needs to know of each row: its unit and its slices."""
    told = [json.loads(item) for item in examples["slices"]]
    return pd.DataFrame({
        "example_id": examples["example_id"], "unit": examples["unit"],
        **{name: [str(item.get(name, "")) for item in told] for name in slices},
    })


def judged(recipe: Recipe, package: Path, examples: pd.DataFrame) -> pd.DataFrame:
    frame = recipe.score(recipe.open(package), examples)
    if len(frame) != len(examples):
        raise Fault(f"score gave {len(frame)} rows for {len(examples)} examples; correct the recipe's score")
    return frame


if __name__ == "__main__":
    plan.main("score", score)
