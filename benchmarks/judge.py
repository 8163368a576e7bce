"""python -m benchmarks.judge [--json] [--trials N]: what a verdict costs, and whether it is right.

A verdict of 10,000 rows, 30 slices, 12 gates and 10,000 resamples, on one core; beside it the same
paired differences by scipy's bootstrap, the field's usual one, in the same run. Then simulated
worlds, through the gates themselves: how often a model at its bound is promoted, a good one is
rejected, and a good one is promoted (power), each with its Monte Carlo error.
"""

import argparse
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.rows import Row, show
from tasks.judge.comparison import Comparison
from tasks.judge.gates import ask
from tests.support.simulation import (
    ALARMS,
    ALPHA,
    CAUGHT,
    FALSE,
    TRUE,
    Measured,
    Share,
    World,
    promoted_among,
    promotions,
    rejections,
    rows_of,
    slide,
)
from tidemill.engines.config.schema import Gate, Score
from tidemill.records.receipts import Scored

ROWS, SLICES, GATES, RESAMPLES = 10_000, 30, 12, 10_000
GOAL_S, GOAL_MB = 3, 500


def data() -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Each row's slice, and both models' right answers and losses."""
    random = np.random.default_rng(1)
    models = {}
    for name, chance in (("candidate", 0.84), ("champion", 0.83)):
        right = (random.random(ROWS) < chance).astype(float)
        models[name] = (right, random.exponential(1.2 - right))
    return random.integers(SLICES, size=ROWS), models


def ours(slices: np.ndarray, models: dict[str, tuple[np.ndarray, np.ndarray]]) -> float:
    """Twelve gates: two metrics, on the whole and by slice, no worse and better, three margins."""
    began = time.perf_counter()
    frames = {
        name: pd.DataFrame({"right": right, "loss": loss}) for name, (right, loss) in models.items()
    }
    settings = Score(resamples=RESAMPLES, slices=("slice",), min_rows=100)
    comparison = Comparison(
        frames,
        rows_of(ROWS, slice=slices.astype(str)),
        settings,
        Measured(),
        scored=Scored(frames={}, rows=ROWS, champion="1"),
    )
    for number in range(GATES):
        question = {
            "metric": ("accuracy", "loss")[number % 2],
            "kind": ("no_worse", "better")[number // 2 % 2],
            "margin": (0.0, 0.005, 0.02)[number // 4],
        }
        for by in ((), ("slice",)):
            ask(Gate(name="g", why="w", by=by, **question), comparison)  # type: ignore[arg-type]
    return time.perf_counter() - began


def theirs(slices: np.ndarray, models: dict[str, tuple[np.ndarray, np.ndarray]]) -> float:
    """The paired differences of both metrics, on the whole and by slice, by
    scipy.stats.bootstrap (BCa), each once.
    """
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


def speed() -> list[Row]:
    slices, models = data()
    ours(slices, models)  # imports and caches
    mine = min(ours(slices, models) for _ in range(3))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        Row("verdict, s, beside scipy's bootstrap", mine, theirs(slices, models), f"<= {GOAL_S}"),
        Row("peak memory, MB", peak, goal=f"<= {GOAL_MB}"),
    ]


def fewer(world: World, trials: int) -> int:
    """A twentieth of the trials for a world of so many slices."""
    return max(5, trials // 20) if world.name.startswith("150 labels") else trials


@dataclass(frozen=True)
class Allowed(Row):
    """A share of trials that may be ALPHA; the goal is met where its 99 % interval reaches that."""

    reached: bool = False

    @property
    def holds(self) -> bool:
        return self.reached


def simulated(name: str, share: Share, least: float | None = None) -> Row:
    """A share of trials and its Monte Carlo error."""
    named = f"{name}, +- {share.error:.3f}"
    if least is not None:
        return Row(named, share.value, goal=f">= {least}")
    return Allowed(named, share.value, goal=f"<= {ALPHA}", reached=share.at_most(ALPHA))


def simulations(trials: int) -> Iterator[Row]:
    """False promotions at the bound, false alarms, power, and what 200 nights take."""
    for world in FALSE:
        yield simulated(f"false promotion: {world.name}", promotions(world, fewer(world, trials)))
    for world in ALARMS:
        yield simulated(f"false alarm: {world.name}", rejections(world, fewer(world, trials)))
    for world in TRUE:
        promoted = promotions(world, fewer(world, trials))
        yield simulated(f"power: {world.name}", promoted, 0.5)
    for world in CAUGHT:
        rejected = rejections(world, fewer(world, trials))
        yield simulated(f"caught: {world.name}", rejected, 0.5)
    sets = max(5, trials // 20)
    lucky = Share(sum(promoted_among(200, seed) for seed in range(sets)), sets)
    yield simulated("any of 200 candidates, equal, on the same 500 rows", lucky)
    live = slide(200, 8000, 0.01, 0.003, anchored=True)
    lost = (live[0] - live[-1]) / 0.01
    yield Row("200 nights, each worse by .3 margin: margins lost", lost, goal="<= 2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--trials", type=int, default=400, help="of each simulated world")
    chosen = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    show(chain(speed(), simulations(chosen.trials)), chosen.json)


if __name__ == "__main__":
    main()
