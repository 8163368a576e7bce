"""python -m tasks.export.measure_memory APPLICATION PACKAGE: MB of memory that a package takes.

It is opened and asked its golden questions.
"""

import sys
from pathlib import Path

import psutil

from tidemill import contract


def weigh(name: str, package: Path) -> float:
    application = contract.application(name)
    import onnxruntime  # noqa: F401  (what every package needs is not this one's weight)

    before = psutil.Process().memory_info().rss
    predictor = application.open(package)
    predictor.predict(contract.golden(application, predictor))
    return round((psutil.Process().memory_info().rss - before) / 1e6, 1)


if __name__ == "__main__":
    print(weigh(sys.argv[1], Path(sys.argv[2])))
