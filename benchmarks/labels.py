"""python -m benchmarks.labels APPLICATION [key=value ...] [--share .1] [--rows N] [--seeds N]
[--json]: of wrong labels that were planted, how many are found.

Takes the labels as they lie in data/labels/APPLICATION, makes some of them wrong at random, and
asks tasks.label.issues. With --seeds, trains as often by each policy (report, weight, drop), on one
thread and with the settings of key=value, on the training rows with their planted labels, and
judges on the test rows with their given ones.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.label.doubts import LEAST_WEIGHT
from tasks.label.issues import issues
from tasks.label.people import field
from tidemill import contract
from tidemill.contract import Run, Splits
from tidemill.engines import config
from tidemill.records import blobs
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused


def learned(
    application: str, planted: pd.DataFrame, found: pd.DataFrame, seeds: int, overrides: list[str]
) -> dict[str, list[float]]:
    """sweep.metric of the test rows after a training by each policy, a figure a seed; test rows
    take the place of valid, so that the trainer measures it.
    """
    import torch

    torch.set_num_threads(1)
    judged, splits = config.recipe(application, overrides), paths.data("splits", application)
    recipe = contract.load(application)(**judged.model)
    targets = dict(zip(planted["example_id"], planted["target"], strict=True))
    doubtful = found[found["issue"]].set_index("example_id")["quality"].clip(lower=LEAST_WEIGHT)
    train = blobs.examples(splits / "train.parquet")
    train = train[train["example_id"].isin(targets)]
    train["target"] = train["example_id"].map(targets)
    told: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        test = blobs.examples(splits / "test.parquet")
        test.drop(columns="blob").to_parquet(Path(folder) / "valid.parquet")
        for policy, rows in {
            "report": train,
            "weight": train.assign(weight=train["example_id"].map(doubtful).fillna(1.0)),
            "drop": train[~train["example_id"].isin(doubtful.index)],
        }.items():
            rows.drop(columns="blob").to_parquet(Path(folder) / "train.parquet")
            told[policy] = [
                round(
                    recipe.learner(Splits(Path(folder), seed))
                    .fit(Run(judged.trainer, seed, judged.trainer.max_epochs, policy))
                    .metrics[judged.sweep.metric],
                    4,
                )
                for seed in range(1, seeds + 1)
            ]
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("application")
    parser.add_argument("overrides", nargs="*", help="key=value, for the trainings")
    parser.add_argument(
        "--share", type=float, default=0.1, help="of the labels that are made wrong"
    )
    parser.add_argument("--rows", type=int, default=20_000, help="at most")
    parser.add_argument("--seeds", type=int, default=0, help="trainings by each policy")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    path = paths.data("labels", given.application) / "examples.parquet"
    if not path.is_file():
        raise Refused(
            f"data/labels/{given.application} has no examples; run: tidemill run "
            f"{given.application}"
        )
    examples = blobs.examples(path).head(given.rows).reset_index(drop=True)
    name = field(examples, given.application)
    answers = sorted({json.loads(item)[name] for item in examples["target"]})
    random = np.random.default_rng(1)
    places_ = random.choice(len(examples), int(given.share * len(examples)), replace=False)
    targets = examples["target"].tolist()
    for place in places_:
        now = json.loads(targets[place])[name]
        targets[place] = json.dumps(
            {name: str(random.choice([answer for answer in answers if answer != now]))}
        )
    examples["target"] = targets
    began = time.process_time()
    found = issues(examples, name)
    flagged, wrong = (
        set(found.loc[found["issue"], "example_id"]),
        set(examples["example_id"].iloc[places_]),
    )
    told = {
        "application": given.application,
        "rows": len(examples),
        "answers": len(answers),
        "planted": len(wrong),
        "found": len(flagged & wrong),
        "flagged": len(flagged),
        "recall": round(len(flagged & wrong) / max(1, len(wrong)), 3),
        "precision": round(len(flagged & wrong) / max(1, len(flagged)), 3),
        "cpu_s": round(time.process_time() - began, 1),
    }
    if given.seeds:
        figures = learned(given.application, examples, found, given.seeds, given.overrides)
        told |= {
            f"{policy}_{kind}": value
            for policy, values in figures.items()
            for kind, value in (("mean", round(statistics.mean(values), 4)), ("each", values))
        }
    print(
        json.dumps(told)
        if given.json
        else ", ".join(f"{key} {value}" for key, value in told.items())
    )


if __name__ == "__main__":
    main()
