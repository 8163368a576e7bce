"""python -m tasks.export.measure_memory APPLICATION PACKAGE FIELDS: MB of memory that opening a package and asking it takes."""

import json
import sys
from pathlib import Path

import psutil

from tidemill import contract


def weigh(application: str, package: Path, fields: dict) -> float:
    recipe = contract.load(application)(**fields)
    questions = recipe.golden()
    import onnxruntime  # noqa: F401  (what every package needs is not this one's weight)

    before = psutil.Process().memory_info().rss
    recipe.predict(recipe.open(package), questions)
    return round((psutil.Process().memory_info().rss - before) / 1e6, 1)


if __name__ == "__main__":
    print(weigh(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])))
