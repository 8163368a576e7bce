"""python -m tasks.judge.explain --run PATH: which inputs moved the answer.

Of the worst rows and of some others.
"""

import pandas as pd

from tidemill import contract
from tidemill.contract import Explainable
from tidemill.records import blobs
from tidemill.records.receipts import Explained, Exported, Scored, Trained
from tidemill.run import main, plan
from tidemill.runtime import paths
from tidemill.runtime.files import write_json
from tidemill.runtime.receipt import File

ROWS = 10
WORDS = 6


def explain(this: plan.Plan) -> Explained:
    scored, exported = plan.read("score", Scored, this), plan.read("export", Exported, this)
    package = paths.root() / exported.package
    application = contract.application(this.application)
    frame = pd.read_parquet(scored.frames["candidate"].open())
    examples = blobs.examples(this.splits / "test.parquet")
    rows = chosen(frame, examples)
    weights = plan.read("train", Trained, this).weights.open()
    told: list[list[tuple[str, float]]] = [[]] * len(rows)  # worth a look as they are
    if isinstance(application, Explainable):
        told = application.explain(package, weights, examples.loc[rows["place"]])
    found = [
        {
            "row": kind,
            "inputs": examples["inputs"][place][:500],
            "target": examples["target"][place],
            "answer": str(frame["answer"][place]) if "answer" in frame else "",
            "moved by": ", ".join(
                f"{part!r} {weight:+.3f}"
                for part, weight in sorted(parts, key=lambda pair: -abs(pair[1]))[:WORDS]
            ),
        }
        for kind, place, parts in zip(rows["kind"], rows["place"], told, strict=True)
    ]
    path = this.folder / "explained.json"
    write_json(path, found)
    return Explained(file=File.of(path), rows=len(found))


def chosen(frame: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """The ten rows of largest loss, and ten others: columns kind and place.

    The others are always the same ones.
    """
    worst = (
        frame["loss"].sort_values(ascending=False, kind="stable").head(ROWS).index
        if "loss" in frame
        else frame.index[:0]
    )
    others = examples.drop(index=worst).sort_values("example_id", kind="stable").head(ROWS).index
    return pd.DataFrame(
        {"kind": ["worst"] * len(worst) + ["any"] * len(others), "place": [*worst, *others]}
    )


if __name__ == "__main__":
    main.of_run(explain, "explain")
