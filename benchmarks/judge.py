"""python -m benchmarks.judge [--json]: a verdict of 10,000 rows, 30 slices, 12 gates and 10,000 resamples, on one core.

Beside it the same paired differences by scipy's bootstrap, the field's usual one, in the same run.
"""

import argparse
import json
import os
import resource
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
import pandas as pd
from scipy import stats

from tasks.judge.resample import Draws, Units
from tasks.judge.verdict import adjusted, answered

ROWS, SLICES, GATES, RESAMPLES = 10_000, 30, 12, 10_000
GOAL_S, GOAL_MB = 3.0, 500.0


def data() -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Each row's slice, and both models' right answers and losses."""
    random = np.random.default_rng(1)
    models = {}
    for name, chance in (("candidate", 0.84), ("champion", 0.83)):
        right = (random.random(ROWS) < chance).astype(float)
        models[name] = (right, random.exponential(1.2 - right))
    return random.integers(SLICES, size=ROWS), models


def ours(slices: np.ndarray, models: dict[str, tuple[np.ndarray, np.ndarray]]) -> float:
    """Twelve gates: two metrics, on the whole and by slice, no worse and better, against three margins."""
    began = time.perf_counter()
    ratios = {
        name: {"accuracy": (right, np.ones(ROWS)), "log_loss": (loss, np.ones(ROWS))}
        for name, (right, loss) in models.items()
    }
    places = [np.arange(ROWS), *(np.flatnonzero(slices == number) for number in range(SLICES))]
    measured = []
    for rows in places:
        part = {
            name: {metric: (top[rows], bottom[rows]) for metric, (top, bottom) in found.items()}
            for name, found in ratios.items()
        }
        measured.append(Draws(Units(pd.Series(rows)), RESAMPLES, 1).ratios(part))
    for gate in range(GATES):
        metric, kind, margin = (
            ("accuracy", "log_loss")[gate % 2],
            ("no_worse", "better")[gate // 2 % 2],
            (0.0, 0.005, 0.02)[gate // 4],
        )
        gaps = [found[metric]["candidate"] - found[metric]["champion"] for found in measured]
        bound = -margin if kind == "no_worse" else margin
        good, bad = adjusted(
            kind, [gap.p_at_most(bound) for gap in gaps], [gap.p_at_least(bound) for gap in gaps]
        )
        for gap, pair in zip(gaps, zip(good, bad, strict=True), strict=True):
            answered(*pair, 0.05)
            gap.interval(0.05)
    return time.perf_counter() - began


def theirs(slices: np.ndarray, models: dict[str, tuple[np.ndarray, np.ndarray]]) -> float:
    """The paired differences of both metrics, on the whole and by slice, by scipy.stats.bootstrap (BCa), each once."""
    began = time.perf_counter()
    for metric in range(2):
        gap = models["candidate"][metric] - models["champion"][metric]
        for rows in [
            np.arange(ROWS),
            *(np.flatnonzero(slices == number) for number in range(SLICES)),
        ]:
            stats.bootstrap(
                (gap[rows],),
                np.mean,
                n_resamples=RESAMPLES,
                confidence_level=0.9,
                method="BCa",
                batch=200,
                rng=1,
            )
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    slices, models = data()
    ours(slices, models)  # imports and caches
    mine = min(ours(slices, models) for _ in range(3))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peer = theirs(slices, models)
    rows = [
        {
            "name": "verdict, s",
            "ours": round(mine, 2),
            "peer": round(peer, 2),
            "ratio": round(peer / mine, 2),
            "goal": GOAL_S,
        },
        {
            "name": "peak memory, MB",
            "ours": round(peak),
            "peer": None,
            "ratio": None,
            "goal": GOAL_MB,
        },
    ]
    for row in rows:
        print(
            json.dumps(row)
            if as_json
            else f"{row['name']}: {row['ours']} (goal {row['goal']})"
            + (
                f", scipy's bootstrap alone {row['peer']}, ratio {row['ratio']}"
                if row["peer"]
                else ""
            )
        )


if __name__ == "__main__":
    main()
