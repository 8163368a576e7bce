"""Which split a row is in: by itself, or by its group where a rule is `last`."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import partial

import numpy as np
import pandas as pd

from tasks.split.last import last, named_column, row_name
from tidemill.engines.config.schema import SplitRule
from tidemill.records import carried
from tidemill.records.groups import Grouped, RowGroup
from tidemill.runtime import parts
from tidemill.runtime.errors import Refused

SPLITS = ("train", "valid", "test")
EMBARGO = "in the embargo before "
PLACES = (*SPLITS, f"{EMBARGO}valid", f"{EMBARGO}test")
OWN = ("example_id", "doc_id", "source", "unit")  # what a rule may need of a row beside its column
LONG = ("payload", "blob", "inputs", "target", "votes")  # read where a rule names them alone


def assigned(
    rules: Sequence[SplitRule], examples: Grouped, first: Mapping[str, str], processes: int = 0
) -> np.ndarray:
    """(N,): the place in `PLACES` of each row, by the ids by which its document was split first.

    Raises Refused where a column is missing or a value is null.
    """
    columns = _columns(rules, examples.names)
    by_row = [rule for rule in rules if rule.by != "last"]
    work = partial(_assigned, by_row, columns, dict(first))
    groups = parts.mapped(work, examples.groups, "row group of examples", processes)
    places = np.concatenate([np.zeros(0, np.int8), *groups])
    for rule in rules:
        if rule.by == "last":
            mine, where = _last(rule, examples, columns, first)
            places[mine] = _numbers(where)
    return places


def _columns(rules: Sequence[SplitRule], names: Sequence[str]) -> list[str]:
    """What rules need of the table: a column that it has not is a slice, or is nowhere."""
    asked = [name for rule in rules for name in (rule.column, rule.order) if name]
    own = [name for name in asked if name in names]
    slices = [name for name in names if name not in LONG] if len(own) < len(asked) else []
    return [*dict.fromkeys([*OWN, *own, *slices])]


def _assigned(
    rules: Sequence[SplitRule], columns: Sequence[str], first: dict[str, str], group: RowGroup
) -> np.ndarray:
    read = [*dict.fromkeys([*columns, "inputs"])] if first else columns
    frames = (by_first_ids(frame, first) for frame in group.frames(read))
    return np.concatenate(
        [np.zeros(0, np.int8), *(_numbers(assign(rules, each)) for each in frames)]
    )


def _numbers(where: pd.Series) -> np.ndarray:
    return np.array([PLACES.index(name) for name in where], dtype=np.int8)


def _last(
    rule: SplitRule, examples: Grouped, columns: Sequence[str], first: Mapping[str, str]
) -> tuple[np.ndarray, pd.Series]:
    """The rows of a rule's source, and the split of each; what the rule needs is in memory."""
    read = [*dict.fromkeys([*columns, "inputs"])] if first else columns
    mine, frames = [np.zeros(0, np.int64)], []
    for group in examples.groups:
        row = group.start
        for frame in group.frames(read):
            is_mine = (frame["source"] == rule.source).to_numpy(bool)
            mine.append(row + np.flatnonzero(is_mine))
            frames.append(
                by_first_ids(frame[is_mine], first).drop(columns="inputs", errors="ignore")
            )
            row += len(frame)
    rows = np.concatenate(mine)
    if not len(rows):
        return rows, pd.Series([], dtype=object)
    return rows, place(rule, pd.concat(frames, ignore_index=True))


def by_first_ids(examples: pd.DataFrame, first: Mapping[str, str]) -> pd.DataFrame:
    """The examples under the ids by which their documents were split first."""
    if not first:
        return examples
    ids = examples["doc_id"].map(lambda doc_id: first.get(doc_id, doc_id))
    pairs = zip(ids, examples["inputs"], strict=True)
    return examples.assign(
        doc_id=ids,
        unit=examples["unit"].map(lambda unit: first.get(unit, unit)),
        example_id=[carried.example_id(*pair) for pair in pairs],
    )


def share(value: str) -> float:
    """A number in [0, 1) that a value always has."""
    return int(hashlib.sha256(value.encode()).hexdigest()[:13], 16) / 16**13


def assign(rules: Sequence[SplitRule], examples: pd.DataFrame) -> pd.Series:
    """The split of every example, by the rule of its source."""
    where = pd.Series("train", index=examples.index, dtype=object)
    for rule in rules:
        mine = examples["source"] == rule.source
        if mine.any():
            where[mine] = place(rule, examples[mine])
    return where


def place(rule: SplitRule, rows: pd.DataFrame) -> pd.Series:
    """The split of each row of a rule's source.

    Raises Refused where a column is missing or a value is null.
    """
    if rule.by == "test":
        return pd.Series("test", index=rows.index, dtype=object)
    values = named_column(rule, rule.column, rows)
    if rule.by == "values":
        return _by_values(rule, rows, values)
    if rule.by == "time":
        return timed(rule, rows, values)
    if rule.by == "last":
        return last(rule, rows, values)
    test, valid = float(rule.test), float(rule.valid)  # type: ignore[arg-type]
    shares = values.astype(str).map(share)
    return shares.map(
        lambda value: "test" if value < test else "valid" if value < test + valid else "train"
    )


def _by_values(rule: SplitRule, rows: pd.DataFrame, values: pd.Series) -> pd.Series:
    named = {
        value: part
        for part in ("valid", "test")
        if not isinstance(getattr(rule, part), float)
        for value in getattr(rule, part)
    }
    where = values.astype(str).map(lambda value: named.get(value, "train"))
    if isinstance(rule.valid, float):
        where[(where == "train") & (rows["doc_id"].map(share) < rule.valid)] = "valid"
    return where


def timed(rule: SplitRule, rows: pd.DataFrame, dates: pd.Series) -> pd.Series:
    """Train before `valid` begins, valid before `test` begins.

    Days of the embargo before either belong to neither.
    """
    wrong = dates[~dates.map(_is_date)]
    if len(wrong):
        raise Refused(
            f"split rule of {rule.source}: column '{rule.column}' has {wrong.iloc[0]!r}, which is "
            f"no date, in row {row_name(rows, wrong.index[0])}; it must hold YYYY-MM-DD"
        )
    assert isinstance(rule.valid, date) and isinstance(rule.test, date)
    before = timedelta(days=rule.embargo)
    edges = [
        ((rule.valid - before).isoformat(), "train"),
        (rule.valid.isoformat(), f"{EMBARGO}valid"),
        ((rule.test - before).isoformat(), "valid"),
        (rule.test.isoformat(), f"{EMBARGO}test"),
    ]
    return dates.map(lambda day: next((part for edge, part in edges if day < edge), "test"))


def _is_date(value: object) -> bool:
    """Whether it is a day of the calendar, as YYYY-MM-DD; 2025-02-30 is none."""
    try:
        return date.fromisoformat(str(value)).isoformat() == value
    except ValueError:
        return False
