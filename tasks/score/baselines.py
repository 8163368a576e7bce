"""python -m tasks.score.baselines --run PATH: the simpler models on the test rows.

Also which of those rows training saw. They depend on data, code and the recipe's `baseline_fields`,
so a changed learning rate makes none anew.
"""

import pandas as pd

from tasks.score.overlap import overlap
from tidemill import contract
from tidemill.contract import Baselined
from tidemill.records import blobs
from tidemill.records.receipts import Baselines
from tidemill.run import main, plan
from tidemill.runtime import paths
from tidemill.runtime.files import aside, digest, locked
from tidemill.runtime.receipt import File


def baselines(this: plan.Plan) -> Baselines:
    """Their frames, as `score` gives them; made where they are missing."""
    parts = [this.snapshot, this.code, fields(this), this.recipe.split.near_duplicates]
    folder = paths.state("baselines", f"{this.application}-{digest(parts)[:16]}")
    done = folder / "done.json"
    with locked(paths.state("locks", f"baselines-{this.application}")):
        found = Baselines.load(done)
        if found and all(file.intact() for file in found.frames.values()):
            return found
        application, options = contract.application(this.application), fields(this)
        test = blobs.examples(this.splits / "test.parquet")
        frames = {
            **(
                application.baselines(this.splits, test, options)
                if isinstance(application, Baselined)
                else {}
            ),
            "overlap": overlap(
                blobs.examples(this.splits / "train.parquet"),
                test,
                this.recipe.split.near_duplicates,
                application.prose,
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


def fields(this: plan.Plan) -> dict[str, str | float | bool | None]:
    """The recipe's fields that its baselines depend on."""
    kind = contract.load(this.application)
    return kind(**this.recipe.model).model_dump(include=set(kind.baseline_fields))


def save(this: plan.Plan, name: str, frame: pd.DataFrame) -> File:
    path = this.folder / "score" / f"{name}.parquet"
    with aside(path) as part:
        frame.to_parquet(part, index=False)
    return File.of(path)


if __name__ == "__main__":
    main.of_run(baselines, "baselines")
