"""Which parameters a trial tries, and whether it may go on.

Functions of what is known, the slot's number and the seed. A slot is a planned trial. A trial that
died is tried again in its slot, with the same parameters and seed, so what comes later does not
depend on what died.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from scipy.stats import qmc

from tidemill.engines.config.schema import Dimension

Params = dict[str, Any]


def quasi(
    space: Mapping[str, Dimension], whole: frozenset[str], count: int, seed: int
) -> list[Params]:
    """Points of a scrambled Sobol sequence (Owen 1998).

    They are spread evenly, and the same for the same seed. `whole` are integers.
    """
    if not count:
        return []
    sequence = qmc.Sobol(len(space), scramble=True, rng=seed)
    points = sequence.random_base2(max(1, math.ceil(math.log2(count))))[:count]
    return [
        {
            name: placed(dimension, float(at), name in whole)
            for (name, dimension), at in zip(space.items(), point, strict=True)
        }
        for point in points
    ]


def placed(dimension: Dimension, at: float, whole: bool) -> Any:
    """The value at a share 0 to 1 of a dimension."""
    if dimension.choices:
        return dimension.choices[min(int(at * len(dimension.choices)), len(dimension.choices) - 1)]
    low, high = float(dimension.low or 0), float(dimension.high or 0)
    if dimension.log:
        value = math.exp(math.log(low) + at * (math.log(high) - math.log(low)))
    else:
        value = low + at * (high - low)
    return min(int(high), max(int(low), round(value))) if whole else min(high, max(low, value))


def inside(params: Params, space: Mapping[str, Dimension]) -> Params | None:
    """The parameters that the space names; None where one is missing or outside of it."""
    found = {}
    for name, dimension in space.items():
        value = params.get(name)
        if value is None or (
            value not in dimension.choices
            if dimension.choices
            else not float(dimension.low or 0) <= float(value) <= float(dimension.high or 0)
        ):
            return None
        found[name] = value
    return found


def suggested(trial: Any, space: Mapping[str, Dimension], whole: frozenset[str]) -> Params:
    """Optuna's word for each dimension."""
    return {
        name: _suggest(trial, name, dimension, name in whole) for name, dimension in space.items()
    }


def _suggest(trial: Any, name: str, dimension: Dimension, whole: bool) -> Any:
    if dimension.choices:
        return trial.suggest_categorical(name, list(dimension.choices))
    low, high = dimension.low, dimension.high
    assert low is not None and high is not None
    if whole:
        return trial.suggest_int(name, int(low), int(high), log=dimension.log)
    return trial.suggest_float(name, low, high, log=dimension.log)


def sampler(seed: int, slot: int, several: bool) -> Any:
    """TPE (Bergstra et al. 2011), seeded by the slot.

    Seeded once, a restarted sweep would propose the same points again.
    """
    return optuna.samplers.TPESampler(
        seed=(seed * 10_007 + slot) % 2**32, n_startup_trials=0, constant_liar=several
    )


def outside(value: float, others: Sequence[float], reduction: int) -> bool:
    """Whether a trial is outside the best 1/`reduction` of those that reached this rung.

    It is itself among them (ASHA, Li et al. 2020).
    """
    ranked = sorted([value, *others], reverse=True)
    return value < ranked[max(1, len(ranked) // reduction) - 1]
