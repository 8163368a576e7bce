"""How fast two models answer, measured in turn, so that a busy moment hits both alike."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import psutil
from pydantic import BaseModel
from scipy import stats

from tidemill.contract import Predictor

BATCH = 32
BATCHES = 10
ALPHA = 0.05


def rss_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


def measured(
    models: Mapping[str, Predictor[Any, Any]],
    questions: list[BaseModel],
    requests: int,
    batches: int = BATCHES,
) -> tuple[dict[str, dict[str, float]], pd.DataFrame]:
    """Each model's latency, and every time that was measured.

    p50, p95 and p99 of one request in ms, p95 with its interval, and requests a second in batches
    of 32.
    """
    if not requests or not questions:
        return {}, pd.DataFrame({"model": [], "ms": []})
    asked = [questions[place % len(questions)] for place in range(requests)]
    for predictor in models.values():  # the first calls allocate
        predictor.predict(asked[:BATCH])
        predictor.predict(asked[:1])
    single: dict[str, list[float]] = {name: [] for name in models}
    batched: dict[str, list[float]] = {name: [] for name in models}
    names = list(models)
    for place, question in enumerate(asked):
        for name in names if place % 2 else names[::-1]:
            single[name].append(_timed(models[name], [question]))
    for place in range(batches):
        block = [asked[(place * BATCH + at) % len(asked)] for at in range(BATCH)]
        for name in names if place % 2 else names[::-1]:
            batched[name].append(_timed(models[name], block))
    found = {
        name: {
            **quantiles(np.array(single[name]) * 1e3),
            "per_second": BATCH / float(np.median(batched[name])),
            "batch_p95_ms": float(np.quantile(batched[name], 0.95)) * 1e3,
        }
        for name in models
    }
    return found, pd.DataFrame(
        [(name, seconds * 1e3) for name in models for seconds in single[name]],
        columns=["model", "ms"],
    )


def quantiles(times_ms: np.ndarray) -> dict[str, float]:
    """p50, p95 and p99, and the ends of p95's interval by order statistics.

    They are binomial, and free of any distribution. Of fewer than 59 times there is no upper end at
    5 % (.95^59 is under .05), and `p95_high_ms` is left out.
    """
    ranked = np.sort(times_ms)
    count = len(ranked)
    low = int(stats.binom.ppf(ALPHA, count, 0.95))
    high = int(stats.binom.ppf(1 - ALPHA, count, 0.95))
    figures = {
        "p50_ms": float(np.quantile(ranked, 0.5)),
        "p95_ms": float(np.quantile(ranked, 0.95)),
        "p99_ms": float(np.quantile(ranked, 0.99)),
        "p95_low_ms": float(ranked[max(0, low - 1)]),
    }
    if high < count:
        figures["p95_high_ms"] = float(ranked[high])
    return figures


def _timed(predictor: Predictor[Any, Any], questions: list[BaseModel]) -> float:
    began = time.perf_counter()
    predictor.predict(questions)
    return time.perf_counter() - began
