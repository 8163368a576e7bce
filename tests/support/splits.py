"""The data half of an application alone, and steps of a split over rows in memory."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from tasks.split.digest import Buckets
from tasks.split.facts import Compared, Question, facts
from tasks.split.leaks import leaks as find_leaks
from tasks.split.rules import SPLITS
from tests.conftest import Clone


def halved(clone: Clone, name: str) -> Path:
    """The splits of an application by its data half alone, without DVC."""
    for source in [
        use["name"]
        for use in yaml.safe_load((clone.folder / f"conf/recipe/{name}.yaml").read_text())[
            "sources"
        ]
    ]:
        for step in ("collect", "clean"):
            done = clone.run(f"tasks.{step}", source)
            assert done.returncode == 0, done.stderr[-2000:]
    for step in ("select", "label", "split"):
        done = clone.run(f"tasks.{step}", name)
        assert done.returncode == 0, done.stderr[-2000:]
    return clone.folder / "data" / "splits" / name


def leaks(
    examples: pd.DataFrame,
    where: pd.Series,
    threshold: float,
    ngram: int = 0,
    prose: tuple[str, ...] | None = None,
    many_answers: bool = False,
    at_once: int = 3,
) -> pd.Series:
    """Why rows are left out, or None, of examples that come some at a time."""
    compared = Compared(threshold, ngram, prose, many_answers)
    payloads = examples["payload"] if "payload" in examples else [None] * len(examples)
    rows = zip(examples["inputs"], examples["target"], payloads, strict=True)
    texts = [Question.of(*row, prose, many_answers).prose for row in rows]
    some = (examples.iloc[at : at + at_once] for at in range(0, len(examples), at_once))
    rank = np.array([SPLITS.index(part) for part in where], dtype=np.int8)
    with tempfile.TemporaryDirectory() as folder:
        why, reasons, _ = find_leaks(
            rank,
            (facts(compared, each) for each in some),
            lambda rows: [texts[row] for row in rows],
            compared,
            Path(folder),
        )
    names = [reasons[place] if place >= 0 else None for place in why]
    return pd.Series(names, index=examples.index, dtype=object)


def buckets(rows: pd.DataFrame) -> pa.Table:
    """The buckets of rows in any order, some at a time."""
    digests = Buckets()
    ordered = rows.sort_values("example_id", kind="stable")
    for at in range(0, len(ordered), 7):
        digests.add(ordered.iloc[at : at + 7])
    return digests.table()
