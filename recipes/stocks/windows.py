"""A series as examples, simpler forecasts of the same rows, and what may go wrong with a feed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recipes.stocks.examples import answers, tables
from recipes.stocks.features import (
    MOST_GAP_DAYS,
    QUANTILES,
    TARGETS,
    adjusted,
    fault,
    features,
)
from recipes.stocks.schema import Series
from tidemill.kit.examples import ExampleRow
from tidemill.kit.perturbations import generator

COLUMNS = {
    "date": "Date",
    "open": "Open",
    "high": "High",
    "low": "Low",
    "close": "Close",
    "volume": "Volume",
    "adjusted": "Adj Close",
}
# Of the window's mean range, in logarithms.
RANGES = ((0.015, "calm"), (0.03, "usual"), (9.9, "wild"))
SPIKE = 0.05


def read(payload: bytes, columns: dict[str, str]) -> tuple[list[date], np.ndarray, np.ndarray]:
    """A series' days, (n, 5) and adjusted closes (n,), sorted by day.

    ValueError where a row is not of a date and numbers.
    """
    found = {}
    for number, row in enumerate(csv.DictReader(io.StringIO(payload.decode())), 2):
        try:
            day = date.fromisoformat(row[columns["date"]])
            values = [float(row[columns[name]]) for name in (*TARGETS, "volume")]
            closing = float(row[columns["adjusted"]]) if columns.get("adjusted") else values[3]
        except KeyError as error:
            raise ValueError(
                f"no column {error}; label.columns of conf/recipe names them"
            ) from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"line {number} is not of a date and numbers") from error
        found[day] = (values, closing)
    days = sorted(found)
    return (
        days,
        np.array([found[day][0] for day in days]).reshape(-1, 5),
        np.array([found[day][1] for day in days]),
    )


def label(documents: pd.DataFrame, window: int, names: dict[str, str]) -> pd.DataFrame:
    """A row for each day that has `window` days before it.

    Nothing after the day before it is looked at for the question.

    Prices are relative to the last close (100), so an adjustment for what comes later, which scales
    all of the past alike, leaves no trace.
    """
    rows: list[ExampleRow] = []
    document: Any
    for document in documents.itertuples(index=False):
        try:
            days, table, closes = read(document.payload, COLUMNS | names)
        except ValueError as error:
            rows.append(_lost(document.doc_id, document.part, str(error)))
            continue
        if len(days) <= window:
            why = f"a series of no more than {window} days"
            rows.append(_lost(document.doc_id, document.part, why))
            continue
        rows += _series_rows(document, days, table, closes, window)
    return pd.DataFrame(rows)


def _series_rows(
    document: Any, days: list[date], table: np.ndarray, closes: np.ndarray, window: int
) -> list[ExampleRow]:
    """A series' rows; a day whose window has a wrong day or a gap has its reason."""
    wrong = np.array(
        [
            fault(table[at : at + 1], None, closes[at : at + 1]) is not None
            for at in range(len(days))
        ]
    )
    gaps = np.array([False, *((two - one).days > MOST_GAP_DAYS for one, two in pairwise(days))])
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = adjusted(table, closes)
    rows = []
    for at in range(window, len(days)):
        why = None
        if wrong[at - window : at + 1].any():
            why = "a day that cannot be"
        elif gaps[at - window + 1 : at + 1].any():
            why = f"a gap of more than {MOST_GAP_DAYS} days"
        rows.append(
            _lost(document.doc_id, days[at].isoformat(), why)
            if why
            else _example(document, days, whole, table[at - 1, 3], at, window)
        )
    return rows


def _example(
    document: Any, days: list[date], whole: np.ndarray, close: float, at: int, window: int
) -> ExampleRow:
    """The row of one day: `whole` (days, 5) is adjusted, `close` is the last close as it was."""
    before = slice(at - window, at)
    last = whole[at - 1, 3]
    returns = {
        name: round(float(whole[at, number] / last - 1), 6) for number, name in enumerate(TARGETS)
    }
    spread = float(np.log(whole[before, 1] / whole[before, 2]).mean())
    slices = {
        "series": document.part,
        "year": str(days[at].year),
        "range": next(title for edge, title in RANGES if spread < edge),
    }
    return {
        "doc_id": document.doc_id,
        "inputs": json.dumps(_question(days[before], whole[before], last, close)),
        "target": json.dumps({"returns": returns}),
        "confidence": 1.0,
        "votes": json.dumps({"next day": "given"}),
        "unit": days[at].isoformat(),
        "slices": json.dumps(slices),
        "dropped": None,
    }


def _question(
    days: list[date], whole: np.ndarray, last: float, close: float
) -> dict[str, list[Any]]:
    """The window (T, 5) with its last close at 100, and volumes scaled by what the close was."""
    prices, volume = whole[:, :4] * (100 / last), whole[:, 4] * (last / close)
    question: dict[str, list[Any]] = {
        name: [float(f"{value:.6g}") for value in prices[:, number]]
        for number, name in enumerate(TARGETS)
    }
    question["volume"] = [float(f"{value:.5g}") for value in volume]
    question["dates"] = [day.isoformat() for day in days]
    return question


def _lost(doc_id: str, day: str, why: str) -> ExampleRow:
    return {
        "doc_id": doc_id,
        "inputs": json.dumps({"day": day}),
        "target": "{}",
        "confidence": 0.0,
        "votes": "{}",
        "unit": day,
        "slices": "{}",
        "dropped": why,
    }


def simpler(splits: Path, examples: pd.DataFrame) -> dict[str, np.ndarray]:
    """Quantiles of returns (n, 4, 3) by simpler means.

    trivial: every price is the last close, and the band is that of all training days. baseline: the
    quantiles of the window's own days, each against the close before it. linear: least squares on
    what the network sees, with the band of its own training errors.
    """
    from sklearn.linear_model import Ridge

    days = tables(examples)
    window = max(len(table) for table in days)
    train = pd.concat(
        [
            pd.read_parquet(splits / f"{part}.parquet", columns=["inputs", "target"])
            for part in ("train", "valid")
        ]
    )
    seen = answers(train)
    trivial = np.broadcast_to(
        np.quantile(seen, QUANTILES, axis=0).T, (len(examples), len(TARGETS), len(QUANTILES))
    ).copy()
    trivial[:, :, 1] = 0.0
    steps, start, scale = features(days, window)
    own = np.expm1(start * scale[:, None, None])
    known, begin, size = features(tables(train), window)

    def flat(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        return np.hstack([one.reshape(len(one), -1), two.reshape(len(two), -1)])

    wanted = np.log1p(seen) / size[:, None]
    model = Ridge(alpha=len(wanted) / 100).fit(flat(known, begin), wanted)
    left = np.quantile(wanted - model.predict(flat(known, begin)), QUANTILES, axis=0).T  # (4, 3)
    linear = np.expm1((model.predict(flat(steps, start))[:, :, None] + left) * scale[:, None, None])
    return {"baseline": own, "trivial": np.sort(trivial, axis=2), "linear": linear}


def harmed(inputs: Sequence[Series], seed: int) -> dict[str, list[Series]]:
    """A day is missing, one day's high is wrong by a twentieth, or nobody told the volume."""
    found: dict[str, list[Series]] = {"gap": [], "outlier": [], "no volume": []}
    for item in inputs:
        random = generator(seed, "series", item.model_dump_json())
        middle = int(random.integers(1, len(item.close) - 1))
        columns = item.model_dump(exclude_none=True)
        short = (
            {name: column[:middle] + column[middle + 1 :] for name, column in columns.items()}
            if len(item.close) > 8
            else columns
        )
        # A gap that is refused is no question; around a long holiday the row stays.
        near = short.get("dates") and any(
            (two - one).days > MOST_GAP_DAYS for one, two in pairwise(short["dates"])
        )
        found["gap"].append(type(item)(**(columns if near else short)))
        high = [*columns["high"]]
        high[middle] *= 1 + SPIKE
        found["outlier"].append(type(item)(**columns | {"high": high}))
        found["no volume"].append(type(item)(**columns | {"volume": [0.0] * len(item.close)}))
    return found
