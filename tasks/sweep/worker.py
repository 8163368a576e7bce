"""python -m tasks.sweep.worker RECIPE [key=value ...]: take trials of the sweep until none is left."""

from tasks import plan, process
from tasks.tracking.story import begin


def main(arguments: list[str]) -> None:
    from tasks.sweep.study import Study
    from tasks.sweep.trial import work

    this = plan.of_child(arguments)
    parent = begin(this)
    work(Study(this), parent)


if __name__ == "__main__":
    process.main(main, "python -m tasks.sweep.worker RECIPE [key=value ...]")
