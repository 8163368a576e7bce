"""Rows that are drawn and not collected: an application in small, for tests and trials.

An application's `tiny.py` has three things. `FIELDS`: the recipe's fields of the smallest network
worth training. `splits()`: drawn train, valid and test rows. `small(conf)`: changes its YAML so
that a whole run over real data takes seconds.
"""

import hashlib
import json
from typing import Any

import pandas as pd

Example = dict[str, Any]


def row(
    inputs: dict[str, Any], target: dict[str, Any], payload: bytes | None = None, **slices: str
) -> Example:
    """One example as the split step leaves it."""
    asked = json.dumps(inputs, ensure_ascii=False)
    return {
        "example_id": hashlib.sha256((asked + str(target)).encode()).hexdigest(),
        "inputs": asked,
        "target": json.dumps(target, ensure_ascii=False),
        "unit": asked[:80],
        "slices": json.dumps(slices),
        "payload": payload,
    }


def halves(rows: list[Example]) -> dict[str, pd.DataFrame]:
    """Half of the rows to train, a quarter each to validate and test.

    Ids are hashes, so their order is a random one, and always the same.
    """
    frame = pd.DataFrame(rows).sort_values("example_id")
    return {"train": frame.iloc[::2], "valid": frame.iloc[1::4], "test": frame.iloc[3::4]}
