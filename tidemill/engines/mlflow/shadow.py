"""python -m tidemill.engines.mlflow.shadow JSON: what a champion and its challenger did on live questions, as a run of MLflow.

One run for each pair of versions; each report is a step of its metrics.
"""

import json
import time

from tidemill.engines.mlflow import runs
from tidemill.runtime import process
from tidemill.runtime.errors import Refused


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise Refused("python -m tidemill.engines.mlflow.shadow JSON")
    said = json.loads(arguments[0])
    name = f"{said['kind']} of {said['application']}: {said['champion']} and {said['challenger']}"
    run_id = runs.start(
        said["application"],
        name,
        name,
        {
            "tidemill.kind": "contest",
            "tidemill.application": said["application"],
            "tidemill.champion": said["champion"],
            "tidemill.challenger": said["challenger"],
        },
    )
    runs.log(run_id, metrics=said["figures"], step=int(time.time()))


if __name__ == "__main__":
    process.main(
        main,
        "python -m tidemill.engines.mlflow.shadow JSON: what a champion and its challenger did on live questions, as a run of MLflow.",
    )
