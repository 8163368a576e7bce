"""python -m tasks.sweep.worker RECIPE [key=value ...]: take trials of the sweep until none is left."""

from tidemill.run import plan
from tidemill.run.tracked import begin
from tidemill.runtime import process


def main(arguments: list[str]) -> None:
    from tasks.sweep.trial import work
    from tidemill.engines.optuna.study import Study

    this = plan.of_child(arguments)
    parent = begin(this)
    work(Study(this), parent)


if __name__ == "__main__":
    process.main(main, "python -m tasks.sweep.worker RECIPE [key=value ...]")
