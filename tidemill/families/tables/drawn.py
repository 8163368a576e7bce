"""A table in small, for the `tiny.py` of applications: two labels, of which numbers tell most."""

import numpy as np
import pandas as pd

from tidemill.families.tables.columns import Cell
from tidemill.kit.drawn import halves, row

FIELDS = {"rounds": 20, "learning_rate": 0.3, "min_data_in_leaf": 1, "lambda_l2": 0.0}
COUNT = 160


def splits() -> dict[str, pd.DataFrame]:
    """LabelledRows with a number, a category, a date and missing values."""
    random = np.random.default_rng(1)
    rows = []
    for number in range(COUNT):
        ill = number % 2
        ward = str(random.choice(["north", "south", "east"]))
        cells: dict[str, Cell] = {
            "size": None if number % 11 == 0 else round(float(random.normal(2 * ill)), 4),
            "age": float(random.integers(20, 80)),
            "ward": ward,
            "seen": f"2026-0{1 + number % 9}-1{number % 10}",
        }
        rows.append(row({"row": cells}, {"label": "ill" if ill else "well"}, ward=ward))
    return halves(rows)
