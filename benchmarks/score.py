"""What scoring costs over answering, by the same session on the same test rows.

python -m benchmarks.score [APPLICATION ...] [--json]: applications that have a champion, by default
all of them; `score` beside `predict`.
"""

import sys
import time
from collections.abc import Callable

import pandas as pd

from benchmarks.rows import Row, show
from tidemill import contract
from tidemill.engines.mlflow import packages
from tidemill.engines.mlflow.live import live
from tidemill.records import blobs
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused

ROWS = 2_000
ROUNDS = 5


def timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def row(application: str) -> Row:
    """Processor seconds of both, in turn; the ratio of the medians."""
    number = live(application).version
    if number is None:
        raise Refused(f"{application} has no champion yet; run: tidemill run {application}")
    package = packages.fetch(application, number)
    question = contract.application(application)
    predictor = question.open(package)
    examples = (
        blobs.examples(paths.data("splits", application) / "test.parquet")
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
    name = f"score {application}, {len(examples)} rows, processor s beside predict"
    return Row(name, ours, peer, "ratio <= 1.1")


def main() -> None:
    paths.settle()
    names = [item for item in sys.argv[1:] if not item.startswith("--")] or [
        name for name in contract.names() if live(name).version
    ]
    show(map(row, names), "--json" in sys.argv)


if __name__ == "__main__":
    main()
