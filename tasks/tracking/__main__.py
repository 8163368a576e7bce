"""python -m tasks.tracking RECIPE KEY STATE BECAUSE: close a retraining's run with how it ended."""

from tasks import process, tracking
from tasks.errors import Refused


def main(arguments: list[str]) -> None:
    if len(arguments) != 4:
        raise Refused("python -m tasks.tracking RECIPE KEY STATE BECAUSE")
    application, key, state, because = arguments
    run_id = tracking.parent(application, key)
    if run_id:
        tracking.end(run_id, state, because)


if __name__ == "__main__":
    process.main(
        main,
        "python -m tasks.tracking RECIPE KEY STATE BECAUSE: close a retraining's run with how it ended.",
    )
