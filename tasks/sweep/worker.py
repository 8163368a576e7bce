"""python -m tasks.sweep.worker --run PATH: take trials of the sweep until none is left."""

from tidemill.run import main, plan
from tidemill.run.tracked import begin


def take(this: plan.Plan) -> None:
    from tasks.sweep.trial import work
    from tidemill.engines.optuna.study import Study

    parent = begin(this)
    work(Study(this), parent)


if __name__ == "__main__":
    main.of_run(take)
