"""python -m tasks.score.baselines --run PATH: the simpler models on the test rows, and which of
those training saw.

They depend on data, code and the model's fields before a sweep.
"""

import pandas as pd

from tasks.score.overlap import overlap
from tidemill import contract
from tidemill.records.receipts import Baselines
from tidemill.run import main, plan
from tidemill.runtime import paths
from tidemill.runtime.files import aside, digest, locked
from tidemill.runtime.receipt import File


def baselines(this: plan.Plan) -> Baselines:
    """Their frames, as `score` gives them; made where they are missing."""
    recipe = contract.load(this.application)(**this.recipe.model)
    parts = [this.snapshot, this.code, recipe.model_dump(), this.recipe.split.near_duplicates]
    folder = paths.state("baselines", f"{this.application}-{digest(parts)[:16]}")
    done = folder / "done.json"
    with locked(paths.state("locks", f"baselines-{this.application}")):
        found = Baselines.load(done)
        if found and all(file.intact() for file in found.frames.values()):
            return found
        test = pd.read_parquet(this.splits / "test.parquet")
        frames = {
            **recipe.baselines(this.splits, test),
            "overlap": overlap(
                pd.read_parquet(this.splits / "train.parquet"),
                test,
                this.recipe.split.near_duplicates,
            ),
        }
        files = {}
        for name, frame in frames.items():
            with aside(folder / f"{name}.parquet") as part:
                frame.to_parquet(part, index=False)
            files[name] = File.of(folder / f"{name}.parquet")
        made = Baselines(frames=files)
        made.save(done)
        return made


def save(this: plan.Plan, name: str, frame: pd.DataFrame) -> File:
    path = this.folder / "score" / f"{name}.parquet"
    with aside(path) as part:
        frame.to_parquet(part, index=False)
    return File.of(path)


if __name__ == "__main__":
    main.of_run(baselines, "baselines")
