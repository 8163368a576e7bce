"""Histories in small, for the `tiny.py` of applications: two tastes, of ten items each."""

import numpy as np
import pandas as pd

from tidemill.kit.drawn import halves, row

FIELDS = {"least": 1, "l2": 1.0}
COUNT = 80
OF_A_TASTE = 10


def splits() -> dict[str, pd.DataFrame]:
    """Users who saw six items of their taste, and what they saw next."""
    random = np.random.default_rng(1)
    rows = []
    for user in range(COUNT):
        taste = "ab"[user % 2]
        seen = [f"{taste}{at}" for at in random.permutation(OF_A_TASTE)[:8]]
        titles = [f"The {item}" for item in seen]
        ratings = [float(value) for value in random.integers(1, 6, 6)]
        asked = {"history": seen[:6], "ratings": ratings, "titles": titles[:6]}
        rows.append(row(asked, {"items": seen[6:], "titles": titles[6:]}, activity="under 50 seen"))
    return halves(rows)
