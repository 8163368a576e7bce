"""What scoring costs over answering, by the same session on the same test rows.

python -m benchmarks.score [APPLICATION ...] [--json]: applications that have a champion, by default
all of them; `score` beside `predict`.
"""

import json
import sys
import time
from collections.abc import Callable

import pandas as pd

from tidemill import contract
from tidemill.engines.mlflow import packages
from tidemill.engines.mlflow.live import live
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused

ROWS = 2_000
ROUNDS = 5


def timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def row(application: str) -> dict[str, object]:
    """Processor seconds of both, in turn; the ratio of the medians."""
    number = live(application).version
    if number is None:
        raise Refused(f"{application} has no champion yet; run: tidemill run {application}")
    package = packages.fetch(application, number)
    question = contract.application(application)
    predictor = question.open(package)
    examples = (
        pd.read_parquet(paths.data("splits", application) / "test.parquet")
        .sort_values("example_id")
        .head(ROWS)
    )
    questions = [question.Input.model_validate_json(item) for item in examples["inputs"]]
    both: list[tuple[float, float]] = []
    for _ in range(ROUNDS + 1):
        both.append(
            (
                timed(lambda: question.evaluate(predictor, examples)),
                timed(lambda: predictor.predict(questions)),
            )
        )
    ours, peer = (pd.Series(part).median() for part in zip(*both[1:], strict=True))
    return {
        "name": f"score {application}, {len(examples)} rows",
        "ours": round(ours, 3),
        "peer": round(peer, 3),
        "ratio": round(ours / peer, 3),
        "goal": 1.1,
    }


def main() -> None:
    paths.settle()
    names = [item for item in sys.argv[1:] if not item.startswith("--")] or [
        name for name in contract.names() if live(name).version
    ]
    rows = [row(name) for name in names]
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=1))
        return
    for item in rows:
        print(
            f"{item['name']}: score {item['ours']} s of processor, predict {item['peer']} s, "
            f"ratio {item['ratio']} (goal {item['goal']})"
        )


if __name__ == "__main__":
    main()
