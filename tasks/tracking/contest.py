"""python -m tasks.tracking.contest JSON: what a champion and its challenger did on live questions, as a run of MLflow.

One run for each pair of versions; each report is a step of its metrics.
"""

import json
import time

from tasks import process, tracking
from tasks.errors import Refused


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise Refused("python -m tasks.tracking.contest JSON")
    said = json.loads(arguments[0])
    name = f"{said['kind']} of {said['application']}: {said['champion']} and {said['challenger']}"
    run_id = tracking.run(
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
    tracking.log(run_id, metrics=said["figures"], step=int(time.time()))


if __name__ == "__main__":
    process.main(
        main,
        "python -m tasks.tracking.contest JSON: what a champion and its challenger did on live questions, as a run of MLflow.",
    )
