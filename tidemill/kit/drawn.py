"""Rows that are drawn and not collected: an application in small, for tests and trials.

An application's `tiny.py` has three things. `FIELDS`: the recipe's fields of the smallest network
worth training. `splits()`: drawn train, valid and test rows. `small(conf)`: changes its YAML so
that a whole run over real data takes seconds.
"""

import hashlib
import json
from typing import Any, TypedDict

import pandas as pd


class DrawnRow(TypedDict):
    """An example as the split step leaves it."""

    example_id: str
    inputs: str  # JSON
    target: str  # JSON
    unit: str
    slices: str  # JSON
    payload: bytes | None


class RecipeYaml(TypedDict):
    """The parts of conf/recipe/NAME.yaml that `small` changes, as they were parsed."""

    model: dict[str, int | float | str]
    trainer: dict[str, int]
    sweep: dict[str, int]
    score: dict[str, int]
    export: dict[str, int]
    gates: list[dict[str, Any]]  # each a gate of the schema `Gate`


def row(
    inputs: dict[str, object],
    target: dict[str, object],
    payload: bytes | None = None,
    **slices: str,
) -> DrawnRow:
    asked = json.dumps(inputs, ensure_ascii=False)
    return {
        "example_id": hashlib.sha256((asked + str(target)).encode()).hexdigest(),
        "inputs": asked,
        "target": json.dumps(target, ensure_ascii=False),
        "unit": asked[:80],
        "slices": json.dumps(slices),
        "payload": payload,
    }


def halves(rows: list[DrawnRow]) -> dict[str, pd.DataFrame]:
    """Half of the rows to train, a quarter each to validate and test.

    Ids are hashes, so their order is a random one, and always the same.
    """
    frame = pd.DataFrame(rows).sort_values("example_id")
    return {"train": frame.iloc[::2], "valid": frame.iloc[1::4], "test": frame.iloc[3::4]}
