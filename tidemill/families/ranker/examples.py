"""Documents that are ratings, as examples: three a user, one for each split.

The options, under `label:` in conf/recipe/NAME.yaml:

user, item  the columns of who rated what, by id
rating      the column of the rating; none: what is there was seen, and that is all that is known
time        the column by which a user's ratings follow each other: numbers or ISO 8601
title       the column of what an item is called; none: its id
lowest, highest   the range of ratings; outside it a rating is dropped
tested      the share of a user's ratings, the last ones, that the test asks for
validated   the share before those that validation asks for
min_ratings users with fewer are dropped

A user's example of step 2 has all but the last ratings as history and those as target; the ones of
step 1 and 0 are the same, earlier. A split `by: last` of the column `unit` in the order `step`
makes them test, valid and train, so that nobody's future is trained on for them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
from pydantic import Field

from tidemill.kit.examples import ExampleRow
from tidemill.kit.label_options import LabelOptions, options_as
from tidemill.runtime.errors import Refused

STEPS = 3
LEAST_USERS = 2
ACTIVITY = ((50, "under 50 seen"), (200, "50 to 199 seen"))
MOST_ACTIVE = "200 seen or more"
AGAIN = "rated again later by the same user"
Cells = dict[str, str | float | int | bool | None]


class RatingOptions(LabelOptions):
    """The options of ratings, as the module's head says them."""

    user: str
    item: str
    time: str
    rating: str = ""
    title: str = ""
    lowest: float = float("-inf")
    highest: float = float("inf")
    tested: float = Field(default=0.2, gt=0, lt=1)
    validated: float = Field(default=0.1, gt=0, lt=1)
    min_ratings: int = Field(default=10, ge=10)


@dataclass(frozen=True)
class Rating:
    """One rating of a user."""

    doc_id: str
    item: str
    title: str
    value: float | None
    time: float


def label(documents: pd.DataFrame, given: dict[str, object]) -> pd.DataFrame:
    """Three examples a user, and a row for each rating that is in none, with its reason.

    Raises Refused where a column is missing, or too few users have enough ratings.
    """
    options = options_as(RatingOptions, given)
    if options.tested + options.validated >= 1:
        raise Refused("label.tested and label.validated leave nothing to train on; lower them")
    rows = [json.loads(payload) for payload in documents["payload"]]
    _check_columns(options, rows)
    by_user: dict[str, list[Rating]] = {}
    lost: list[ExampleRow] = []
    for doc_id, row in zip(documents["doc_id"], rows, strict=True):
        rating = _rating(options, doc_id, row)
        if isinstance(rating, str):
            lost.append(_lost(doc_id, rating))
        else:
            by_user.setdefault(str(row[options.user]).strip(), []).append(rating)
    examples: list[ExampleRow] = []
    for user, ratings in sorted(by_user.items()):
        kept, again = _latest(ratings)
        lost += [_lost(one.doc_id, AGAIN) for one in again]
        if len(kept) < options.min_ratings:
            reason = f"of a user with fewer than {options.min_ratings} ratings"
            lost += [_lost(one.doc_id, reason) for one in kept]
        else:
            examples += _of_user(options, user, kept)
    _check_users(options, len(by_user), len(examples) // STEPS)
    return pd.DataFrame([*examples, *lost]).astype({"dropped": object})


def _check_columns(options: RatingOptions, rows: list[Cells]) -> None:
    there = {name: None for row in rows for name in row}
    wanted = (options.user, options.item, options.time, options.rating, options.title)
    missing = [name for name in wanted if name and name not in there]
    if missing:
        raise Refused(
            f"no column {missing[0]!r} in today's ratings, which have {', '.join(there)[:200]}; "
            "correct `label` in conf/recipe, or the source"
        )


def _check_users(options: RatingOptions, users: int, enough: int) -> None:
    if enough < LEAST_USERS:
        raise Refused(
            f"{enough} of {users:,} users with {options.min_ratings} ratings or more: what others "
            f"rated is what a ranker learns; it takes {LEAST_USERS} users (label.min_ratings, or "
            "the source)"
        )


def _rating(options: RatingOptions, doc_id: str, row: Cells) -> Rating | str:
    """A row as a rating, or why it is none."""
    for what, name in (("user", options.user), ("item", options.item)):
        if row.get(name) is None or not str(row[name]).strip():
            return f"no {what}"
    item = str(row[options.item]).strip()
    time = _time(row.get(options.time))
    if time is None:
        return "its time is neither a number nor ISO 8601"
    value = None
    if options.rating:
        value = _number(row.get(options.rating))
        if value is None:
            return "its rating is no number"
        if not options.lowest <= value <= options.highest:
            return f"its rating is outside {options.lowest:g} to {options.highest:g}"
    title = str(row.get(options.title) or item) if options.title else item
    return Rating(doc_id, item, title, value, time)


def _number(cell: object) -> float | None:
    try:
        value = float(str(cell))
    except ValueError:
        return None
    return value if value - value == 0 else None  # neither NaN nor infinite


def _time(cell: object) -> float | None:
    """A number as it is, or the seconds since 1970 of a time; one without a zone is UTC."""
    value = _number(cell)
    if value is not None:
        return value
    try:
        moment = datetime.fromisoformat(str(cell).strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _latest(ratings: list[Rating]) -> tuple[list[Rating], list[Rating]]:
    """Each item's last rating in the order of time, and the earlier ones of the same item."""
    last: dict[str, Rating] = {}
    again = []
    for one in sorted(ratings, key=lambda each: (each.time, each.item, each.doc_id)):
        if one.item in last:
            again.append(last.pop(one.item))
        last[one.item] = one
    return list(last.values()), again


def _of_user(options: RatingOptions, user: str, ratings: list[Rating]) -> list[ExampleRow]:
    """The user's examples: what they rated until a time, and what they rated next."""
    count = len(ratings)
    shares = (options.validated + options.tested, options.tested, 0.0)
    ends = [count - round(share * count) for share in shares]
    begins = [max(1, ends[0] - max(1, round(options.validated * count))), *ends[:-1]]
    return [
        _example(user, step, ratings[:begin], ratings[begin:end])
        for step, (begin, end) in enumerate(zip(begins, ends, strict=True))
    ]


def _example(user: str, step: int, before: list[Rating], after: list[Rating]) -> ExampleRow:
    asked: dict[str, object] = {
        "history": [one.item for one in before],
        "titles": [one.title for one in before],
    }
    if before[0].value is not None:
        asked["ratings"] = [one.value for one in before]
    target = {"items": [one.item for one in after], "titles": [one.title for one in after]}
    slices = {"step": str(step), "activity": activity(len(before))}
    return {
        "doc_id": after[-1].doc_id,
        "inputs": json.dumps(asked, ensure_ascii=False),
        "target": json.dumps(target, ensure_ascii=False),
        "confidence": 1.0,
        "votes": "{}",
        "unit": user,
        "slices": json.dumps(slices),
        "dropped": None,
    }


def activity(seen: int) -> str:
    """How much a user has seen, as a slice."""
    return next((name for most, name in ACTIVITY if seen < most), MOST_ACTIVE)


def _lost(doc_id: str, reason: str) -> ExampleRow:
    return {
        "doc_id": doc_id,
        "inputs": "{}",
        "target": "{}",
        "confidence": 1.0,
        "votes": "{}",
        "unit": doc_id,
        "slices": "{}",
        "dropped": reason,
    }
