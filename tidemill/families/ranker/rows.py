"""The splits' rows as histories and what came after them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tidemill.families.ranker.catalogue import Catalogue
from tidemill.families.ranker.schema import UserHistory
from tidemill.runtime.errors import Refused

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

MOST_ITEMS = 20_000  # scores of all pairs are held: 3 GB of them


@dataclass(frozen=True)
class UserRow:
    """A user's history, and the items that came next, with their titles."""

    question: UserHistory
    next_items: list[str]
    next_titles: list[str]

    @property
    def titled(self) -> list[tuple[str, str]]:
        """All items of the row with their titles; an item without one is called by its id."""
        names = [*self.question.history, *self.next_items]
        seen, after = self.question.titles, self.next_titles
        titles = [*(seen or self.question.history), *(after or self.next_items)]
        return list(zip(names, titles, strict=True))


def user_rows(examples: pd.DataFrame) -> list[UserRow]:
    """Examples as histories and what came next."""
    pairs = zip(examples["inputs"], examples["target"], strict=True)
    return [_row(UserHistory.model_validate_json(asked), json.loads(told)) for asked, told in pairs]


def _row(question: UserHistory, target: dict[str, list[str]]) -> UserRow:
    return UserRow(question, target["items"], target.get("titles", []))


def rows_of(splits: Path, name: str) -> list[UserRow]:
    """The rows of train, valid or test."""
    import pandas as pd

    return user_rows(pd.read_parquet(splits / f"{name}.parquet", columns=["inputs", "target"]))


def catalogue_of(rows: list[UserRow], least: int) -> Catalogue:
    """The items that `least` users rated. Raises Refused where there are none, or too many."""
    titles = {item: title for row in rows for item, title in row.titled}
    counts = Counter(item for row in rows for item in {name for name, _ in row.titled})
    items = sorted(item for item, count in counts.items() if count >= least)
    if not items:
        raise Refused(
            f"model.least={least}: none of {len(counts):,} items was rated by so many of "
            f"{len(rows):,} training users; lower it"
        )
    if len(items) > MOST_ITEMS:
        raise Refused(
            f"model.least={least} leaves {len(items):,} items, and all pairs of at most "
            f"{MOST_ITEMS:,} are held; raise it"
        )
    ratings = [value for row in rows for value in row.question.ratings] or [0.0]
    return Catalogue(
        items=tuple(items),
        titles=tuple(titles[item] for item in items),
        users=tuple(counts[item] for item in items),
        of_users=len(rows),
        least_rating=min(ratings),
        most_rating=max(ratings),
    )


def interactions(rows: list[UserRow], catalogue: Catalogue) -> sparse.csr_matrix:
    """(users, items) of 0 and 1: who rated what, whenever."""
    from scipy import sparse

    ids = {item: at for at, item in enumerate(catalogue.items)}
    pairs = [
        (user, ids[item])
        for user, row in enumerate(rows)
        for item in sorted({name for name, _ in row.titled})
        if item in ids
    ]
    users, items = np.array(pairs, dtype=int).reshape(-1, 2).T
    shape = (len(rows), len(catalogue.items))
    return sparse.csr_matrix((np.ones(len(pairs)), (users, items)), shape=shape)
