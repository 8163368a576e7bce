"""python -m benchmarks.sweep [--trials N] [--json]: what a trial of a sweep costs beside training.

A sweep of trials that train nothing, in a project of its own: Optuna's storage and MLflow's runs,
in SQLite as on a person's machine. Seconds are of the processor, of one process, after the imports
and the databases' first tables.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, show
from tests.support.making import inside, splits

HERE = Path(__file__).resolve().parent.parent


def planned(trials: int) -> Any:
    from tidemill.engines import config
    from tidemill.run import plan

    report = splits("images") / "report.json"
    report.write_text(json.dumps({"snapshot": "5" * 64, "counts": {}}))
    given = [f"sweep.trials={trials}", f"sweep.quasi={trials // 2}"]
    return plan.make(config.recipe("images", given))


def untrained(number: int, rungs: Any) -> dict[str, float]:
    """What a training leaves: a curve of losses and validations, and its last metrics."""
    rungs.losses = [(step, 1 / step) for step in range(10, 60, 10)]
    rungs.curve = [(59, 0.9 + number / 1000)]
    return {"train_loss": 0.1, "valid_loss": 0.2, "valid_accuracy": 0.9 + number / 1000}


def measured(trials: int) -> float:
    """Seconds of the processor for each trial."""
    from tasks.sweep import trial
    from tidemill.engines.optuna.study import Study
    from tidemill.run.tracked import begin

    this = planned(trials)
    parent = begin(this)
    study = Study(this)
    numbers = iter(range(trials))

    def instead(study: Any, splits: Any, params: Any, seed: int, what: str, *rungs: Any) -> Any:
        return None, untrained(next(numbers), rungs[0])

    own, trial.trained = trial.trained, instead
    try:
        began = time.process_time()
        trial.work(study, parent)
        return (time.process_time() - began) / trials
    finally:
        trial.trained = own


def rows(trials: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        shutil.copytree(HERE / "conf", project / "conf")
        with inside(project):
            from tidemill.runtime import paths

            paths.settle()
            took = measured(trials)
    return [Row("orchestration of a trial, processor s", took, goal="<= 0.2")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    show(rows(given.trials), given.json)


if __name__ == "__main__":
    main()
