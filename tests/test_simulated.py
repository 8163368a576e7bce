"""What a verdict claims, held against worlds of which the truth is known. Long:
benchmarks/judge.py.
"""

import numpy as np
import pytest

from tests.support.simulation import (
    ALARMS,
    ALPHA,
    CAUGHT,
    FALSE,
    TRUE,
    Share,
    World,
    promoted_among,
    promotions,
    rejections,
    slide,
)

TRIALS = 25
# Whose false promotions, before the tests were made honest, were found in so few trials.
SHORT = (
    "60 rows, accuracy .99",
    "60 rows, worse by .01",
    "60 rows, a disaster in 200",
    "60 rows, no range, a disaster in 200",
    "987 rows, error .03",
    "500 rows, error .1",
    "250 days, correlation .8",
    "10 units, equal",
    "300 units, worse by the margin",
)


def named(worlds: tuple[World, ...]) -> list[str]:
    return [world.name for world in worlds]


@pytest.mark.parametrize("world", [one for one in FALSE if one.name in SHORT], ids=lambda w: w.name)
def test_a_model_at_its_bound_is_promoted_one_time_in_twenty(world: World) -> None:
    found = promotions(world, TRIALS)
    assert found.at_most(ALPHA), f"{world.name}: {found}"


def test_a_label_that_is_worse_by_two_margins_holds() -> None:
    world = next(one for one in FALSE if one.name == "a label worse by two margins")
    assert promotions(world, 3).hits == 0


@pytest.mark.parametrize("name", ["500 rows, the same", "5,000 rows, honest"])
def test_a_good_model_is_promoted(name: str) -> None:
    world = next(one for one in TRUE if one.name == name)
    assert promotions(world, 4).value >= 0.7


@pytest.mark.system
@pytest.mark.parametrize("world", FALSE, ids=named(FALSE))
def test_a_model_at_its_bound_is_promoted_one_time_in_twenty_of_400(world: World) -> None:
    found = promotions(world, 20 if world.name.startswith("150 labels") else 400, seed=7)
    assert found.at_most(ALPHA), f"{world.name}: {found}"


@pytest.mark.system
@pytest.mark.parametrize("world", ALARMS, ids=named(ALARMS))
def test_a_model_within_its_bound_is_rejected_one_time_in_twenty(world: World) -> None:
    found = rejections(world, 200)
    assert found.at_most(ALPHA), f"{world.name}: {found}"


@pytest.mark.parametrize("world", CAUGHT, ids=named(CAUGHT))
def test_a_model_far_past_its_bound_is_rejected(world: World) -> None:
    trials = 1 if world.name.startswith("150 labels") else 4
    assert rejections(world, trials).value >= 0.75, world.name


def test_a_share_is_told_from_one_in_twenty_by_its_exact_interval() -> None:
    assert Share(5, 100).at_most(0.05) and Share(8, 100).at_most(0.05)
    assert not Share(15, 100).at_most(0.05)
    assert Share(0, 10).error == 0 and np.isclose(Share(5, 10).value, 0.5)


def test_nights_that_are_each_a_little_worse_do_not_add_up() -> None:
    margin, step = 0.01, 0.003
    slid = slide(12, 8000, margin, step, anchored=False)
    assert slid[0] - slid[-1] > 2 * margin, "without an anchor they do"
    kept = slide(20, 8000, margin, step, anchored=True)
    assert kept[0] - kept[-1] <= 2 * margin


@pytest.mark.system
def test_after_200_nights_quality_is_within_two_margins() -> None:
    kept = slide(200, 8000, 0.01, 0.003, anchored=True)
    assert kept[0] - kept[-1] <= 0.02


def test_of_many_candidates_no_better_than_the_champion_none_goes_live_by_luck() -> None:
    promoted = Share(sum(promoted_among(40, seed) for seed in range(6)), 6)
    assert promoted.at_most(ALPHA), f"{promoted}: one time in twenty each, six of seven together"


@pytest.mark.system
def test_of_200_candidates_no_better_than_the_champion_none_goes_live_by_luck() -> None:
    promoted = Share(sum(promoted_among(200, seed) for seed in range(100)), 100)
    assert promoted.at_most(ALPHA), str(promoted)
