"""The split of the last rows of each group, and what a night moves in it."""

import json
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.split.rules import place
from tidemill.engines.config.schema import SplitRule
from tidemill.engines.dvc import snapshot_diff
from tidemill.runtime.errors import Refused

RULE: dict[str, Any] = {"source": "visits", "by": "last", "column": "unit", "order": "at"}


def visits(*rows: tuple[str, object]) -> pd.DataFrame:
    """Examples of a user and a time each; ids are numbered."""
    return pd.DataFrame(
        {
            "example_id": [f"e{number}" for number in range(len(rows))],
            "doc_id": [f"d{number}" for number in range(len(rows))],
            "source": "visits",
            "unit": [user for user, _ in rows],
            "target": "{}",
            "slices": [json.dumps({"at": at}) for _, at in rows],
        }
    )


def placed(rows: pd.DataFrame, **change: object) -> pd.Series:
    return place(SplitRule.model_validate({**RULE, **change}), rows)


GROUPS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-50, 50)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(rows=GROUPS.filter(bool), data=st.data())
def test_the_last_of_each_group_is_test_and_the_one_before_valid_in_any_order(
    rows: list[tuple[str, int]], data: st.DataObject
) -> None:
    frame = visits(*rows).assign(at=[at for _, at in rows])
    where = placed(frame)
    for _, group in frame.assign(where=where).groupby("unit"):
        if len(group) < 3:
            assert set(group["where"]) == {"train"}
            continue
        ordered = group.sort_values(["at", "example_id"])["where"].tolist()
        assert ordered == ["train"] * (len(group) - 2) + ["valid", "test"]
    mixed = data.draw(st.permutations(range(len(rows))))
    assert placed(frame.iloc[mixed]).sort_index().tolist() == where.tolist()


def test_times_are_ordered_by_all_their_digits_and_in_any_zone() -> None:
    times = [
        "2026-11-25T03:00:00.000000002Z",
        "2026-11-25T03:00:00.000000001Z",
        "2026-11-25T04:00:00.000000003+01:00",
        "2026-11-25T03:00:00",
    ]
    assert placed(visits(*(("a", at) for at in times))).tolist() == [
        "valid",
        "train",
        "test",
        "train",
    ]
    with pytest.raises(Refused, match="it must hold numbers alone"):
        placed(visits(("a", "1"), ("a", "1_0"), ("a", "2")))


@settings(max_examples=40, deadline=None)
@given(first=st.integers(2**53, 2**62), ids=st.permutations(range(4)))
def test_whole_numbers_longer_than_a_float_are_ordered_exactly(first: int, ids: list[int]) -> None:
    for at in (lambda number: first + number, lambda number: str(first + number)):
        where = placed(visits(*(("a", at(number)) for number in ids)))
        assert where.tolist() == [["train", "train", "valid", "test"][number] for number in ids]


@pytest.mark.parametrize(
    "times",
    [
        [9, 10, 100],
        ["9", "10.5", "1e2"],
        ["2026-11-25", "2026-11-25T03:00:00", "2026-11-26"],
        ["2026-11-25T03:00:00+02:00", "2026-11-25T02:00:00Z", "2026-11-25T03:00:00"],
    ],
)
def test_numbers_and_times_are_ordered_as_such_and_may_be_slices(times: list[object]) -> None:
    assert placed(visits(*(("a", at) for at in times))).tolist() == ["train", "valid", "test"]


def test_a_night_with_a_newer_row_moves_the_two_before_and_they_are_counted() -> None:
    before = visits(("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 3))
    now = visits(("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 3), ("a", 4))
    old, new = (frame.assign(split=placed(frame), language="") for frame in (before, now))
    assert new["split"].tolist() == ["train", "train", "valid", "train", "valid", "test", "test"]
    [row] = snapshot_diff.between(old, new)
    assert snapshot_diff.totals([row]) == {"added": 1, "changed": 0, "gone": 0, "moved": 2}


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (
            ["1", "later", "3"],
            "column 'at' has 'later' in row e1; it must hold numbers alone",
        ),
        ([1, "2026-11-25", 3], "column 'at' has '2026-11-25' in row e1"),
        (["2026-11-25", 1, 3], "column 'at' has '1' in row e1"),
        (["2026-11-25", "2026-11-31", "2026-12-01"], "has '2026-11-31' in row e1"),
        ([1, 2, float("inf")], "column 'at' has 'inf' in row e2"),
        ([1, None, 3], "by last: column 'at' is null in 1 rows, first in row e1"),
    ],
)
def test_an_order_that_orders_nothing_is_one_line_with_value_and_row(
    times: list[object], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        placed(visits(*(("a", at) for at in times)))


def test_a_column_that_is_none_names_those_that_are() -> None:
    with pytest.raises(Refused, match=r"no column 'when'; examples have .*unit.* slices at"):
        placed(visits(("a", 1)), order="when")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"order": ""}, "give `order`"),
        ({"test": 0.1}, "leave valid and test out"),
        ({"valid": ["a"]}, "leave valid and test out"),
        ({"column": ""}, "split by last needs a column"),
        ({"embargo": 3}, "an embargo is for split by time, not by last"),
        ({"by": "hash", "test": 0.1}, "an order is for split by last, not by hash"),
    ],
)
def test_a_rule_by_last_that_makes_no_sense_is_refused(change: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SplitRule.model_validate({**RULE, **change})
