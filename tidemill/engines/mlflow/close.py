"""python -m tidemill.engines.mlflow.close RECIPE KEY STATE BECAUSE: note how a run ended."""

from tidemill.engines.mlflow import runs
from tidemill.runtime import process
from tidemill.runtime.errors import Refused

USAGE = "python -m tidemill.engines.mlflow.close RECIPE KEY STATE BECAUSE"


def main(arguments: list[str]) -> None:
    if len(arguments) != 4:
        raise Refused(USAGE)
    application, key, state, because = arguments
    run_id = runs.parent(application, key)
    if run_id:
        runs.end(run_id, state, because)


if __name__ == "__main__":
    process.main(main, f"{USAGE}: close a retraining's run with how it ended.")
