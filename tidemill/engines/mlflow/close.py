"""python -m tidemill.engines.mlflow.close RECIPE KEY STATE BECAUSE: close a retraining's run with how it ended."""

from tidemill.engines.mlflow import runs
from tidemill.runtime import process
from tidemill.runtime.errors import Refused


def main(arguments: list[str]) -> None:
    if len(arguments) != 4:
        raise Refused("python -m tidemill.engines.mlflow.close RECIPE KEY STATE BECAUSE")
    application, key, state, because = arguments
    run_id = runs.parent(application, key)
    if run_id:
        runs.end(run_id, state, because)


if __name__ == "__main__":
    process.main(
        main,
        "python -m tidemill.engines.mlflow.close RECIPE KEY STATE BECAUSE: close a retraining's run with how it ended.",
    )
