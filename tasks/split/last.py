"""The split of the last rows of each group: the one exception, beside time, to a row by itself."""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import pandas as pd

from tidemill.engines.config.schema import SplitRule
from tidemill.runtime.errors import Refused

FRACTION = re.compile(r"(.*:\d\d)[.,](\d+)(.*)")  # of a second: datetime keeps six digits
LEAST = 3  # rows of a group: of fewer, nothing of it would be trained on


def named_column(rule: SplitRule, name: str, rows: pd.DataFrame) -> pd.Series:
    """A column that a rule names: one of the examples, or one of their slices.

    Raises Refused where there is none or a value is null.
    """
    if name in rows:
        values = rows[name]
    else:
        slices = [json.loads(item) for item in rows["slices"]] if "slices" in rows else []
        if not any(name in item for item in slices):
            raise Refused(
                f"split rule of {rule.source}: no column '{name}'; examples have "
                f"{', '.join(rows.columns)}, and their slices "
                f"{', '.join(sorted({key for item in slices for key in item})) or 'none'}"
            )
        values = pd.Series([item.get(name) for item in slices], index=rows.index, dtype=object)
    if values.isna().any():
        row = values.index[values.isna()][0]
        raise Refused(
            f"split rule of {rule.source} by {rule.by}: column '{name}' is null in "
            f"{int(values.isna().sum()):,} rows, first in row {row_name(rows, row)}; fill it in "
            "label or drop the rows"
        )
    return values


def row_name(rows: pd.DataFrame, row: Any) -> Any:
    """How a message names a row."""
    return rows["example_id"][row] if "example_id" in rows else row


def last(rule: SplitRule, rows: pd.DataFrame, groups: pd.Series) -> pd.Series:
    """The split of each row: the last of its group is test, the one before it valid.

    A group of fewer than `LEAST` rows is train. Of equal places in the order the later id is last.
    Raises Refused where an order is neither of numbers nor of times.
    """
    frame = pd.DataFrame(
        {
            "group": groups.astype(str),
            "order": _ordered(rule, rows, named_column(rule, rule.order, rows)),
            "id": rows["example_id"],
        }
    ).sort_values(["group", "order", "id"], kind="stable")
    from_end = frame.groupby("group").cumcount(ascending=False)
    size = frame.groupby("group")["id"].transform("size")
    where = pd.Series("train", index=frame.index, dtype=object)
    where[(from_end == 1) & (size >= LEAST)] = "valid"
    where[(from_end == 0) & (size >= LEAST)] = "test"
    return where.reindex(rows.index)


def _ordered(rule: SplitRule, rows: pd.DataFrame, values: pd.Series) -> list[Decimal]:
    """The place of each value: numbers as they are, or times in seconds. Raises Refused."""
    texts = values.astype(str).tolist()
    read = _seconds if texts and _number(texts[0]) is None else _number
    places = [read(text) for text in texts]
    known = [place for place in places if place is not None]
    if len(known) < len(places):
        at = places.index(None)
        raise Refused(
            f"split rule of {rule.source}: column '{rule.order}' has {texts[at]!r} in row "
            f"{row_name(rows, rows.index[at])}; it must hold numbers alone, or times in ISO 8601 "
            "alone, as 2026-11-25 or 2026-11-25T03:00:00Z"
        )
    return known


def _number(text: str) -> Decimal | None:
    """Exactly, since ids and nanoseconds have more digits than a float."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() and "_" not in text else None


def _seconds(text: str) -> Decimal | None:
    """A time in seconds since 1970, as exactly as it is given; one without a zone is UTC."""
    parts = FRACTION.fullmatch(text)
    whole, fraction, zone = parts.groups() if parts else (text, "0", "")
    try:
        time = datetime.fromisoformat(whole + zone)
    except ValueError:
        return None
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
    return since // timedelta(seconds=1) + Decimal(f"0.{fraction}")
