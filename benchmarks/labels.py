"""python -m benchmarks.labels APPLICATION [--share .1] [--rows N] [--json]: of wrong labels that were planted, how many are found.

Takes the labels as they lie in data/labels/APPLICATION, makes some of them wrong at random, and asks tasks.label.issues.
"""

import argparse
import json
import time

import numpy as np
import pandas as pd

from tasks import places
from tasks.errors import Refused
from tasks.label.issues import issues
from tasks.label.people import field


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("application")
    parser.add_argument("--share", type=float, default=0.1, help="of the labels that are made wrong")
    parser.add_argument("--rows", type=int, default=20_000, help="at most")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    path = places.data("labels", given.application) / "examples.parquet"
    if not path.is_file():
        raise Refused(f"data/labels/{given.application} has no examples; run: tidemill run {given.application}")
    examples = pd.read_parquet(path).head(given.rows).reset_index(drop=True)
    name = field(examples, given.application)
    answers = sorted({json.loads(item)[name] for item in examples["target"]})
    random = np.random.default_rng(1)
    places_ = random.choice(len(examples), int(given.share * len(examples)), replace=False)
    targets = examples["target"].tolist()
    for place in places_:
        now = json.loads(targets[place])[name]
        targets[place] = json.dumps({name: str(random.choice([answer for answer in answers if answer != now]))})
    examples["target"] = targets
    began = time.process_time()
    found = issues(examples, name)
    flagged, wrong = set(found.loc[found["issue"], "example_id"]), set(examples["example_id"].iloc[places_])
    told = {"application": given.application, "rows": len(examples), "answers": len(answers), "planted": len(wrong), "found": len(flagged & wrong), "flagged": len(flagged),
            "recall": round(len(flagged & wrong) / max(1, len(wrong)), 3), "precision": round(len(flagged & wrong) / max(1, len(flagged)), 3), "cpu_s": round(time.process_time() - began, 1)}
    print(json.dumps(told) if given.json else ", ".join(f"{key} {value}" for key, value in told.items()))


if __name__ == "__main__":
    main()
