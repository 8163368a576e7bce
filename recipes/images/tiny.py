"""The application in small; see tidemill/kit/drawn.py."""

import numpy as np
import pandas as pd

from tidemill.kit import pictures
from tidemill.kit.drawn import RecipeYaml, halves, row

FIELDS = {"width": 4, "stages": 2}
COUNT = 36


def splits() -> dict[str, pd.DataFrame]:
    """Bright bars on black, upright or across."""
    random, rows = np.random.default_rng(1), []
    for number in range(COUNT):
        pixels = np.zeros((28, 28), dtype=np.uint8)
        at, across = random.integers(8, 20), number % 2
        thick, long = slice(at, at + 3), slice(4, 24)
        pixels[long if across else thick, thick if across else long] = 255
        body = pictures.png(pixels)
        rows.append(row({"image": pictures.encoded(body)}, {"label": str(across)}, body))
    return halves(rows)


def small(conf: RecipeYaml) -> None:
    conf["model"] = {"width": 8, "stages": 2, "lr": 0.01, "svm_rows": 500}
    conf["trainer"].update(max_epochs=3)
    conf["sweep"].update(trials=0)
    conf["score"].update(resamples=400, perturbed_rows=200, requests=60)
    conf["export"].update(rows=200, requests=10)
