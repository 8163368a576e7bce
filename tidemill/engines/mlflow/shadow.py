"""python -m tidemill.engines.mlflow.shadow JSON: a champion and its challenger, as a run of MLflow.

One run for each pair of versions; each report is a step of its metrics.
"""

import json
import time

from tidemill.engines.mlflow import runs, tags
from tidemill.runtime import process
from tidemill.runtime.errors import Refused

USAGE = "python -m tidemill.engines.mlflow.shadow JSON"


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise Refused(USAGE)
    report = json.loads(arguments[0])
    application = report["application"]
    champion, challenger = report["champion"], report["challenger"]
    name = f"{report['kind']} of {application}: {champion} and {challenger}"
    run_id = runs.start(
        application,
        name,
        name,
        {
            tags.KIND: "contest",
            tags.APPLICATION: application,
            tags.CHAMPION: champion,
            tags.CHALLENGER: challenger,
        },
    )
    runs.log(run_id, metrics=report["figures"], step=int(time.time()))


if __name__ == "__main__":
    process.main(main, f"{USAGE}: what a champion and its challenger did on live questions.")
