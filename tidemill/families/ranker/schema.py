"""What a ranker is asked and what it answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue

Item = Annotated[str, Field(min_length=1, max_length=300)]
MOST_SEEN = 5_000
MOST_SHOWN = 100
SHOWN = 10  # items of an answer by default, and among which models are compared


class UserHistory(BaseModel):
    """What a user has seen, the oldest first; nothing of who they are."""

    model_config = ConfigDict(extra="forbid")
    history: list[Item] = Field(
        max_length=MOST_SEEN,
        description="the items that were seen, by id or title, the oldest first; empty: nothing "
        "is known of the user",
    )
    ratings: list[FiniteFloat] = Field(
        default=[],
        max_length=MOST_SEEN,
        description="how each of them was rated; none: all count alike",
    )
    titles: list[str] = Field(
        default=[],
        max_length=MOST_SEEN,
        description="what each of them is called; of training rows alone",
    )
    shown: int = Field(default=SHOWN, ge=1, le=MOST_SHOWN, description="how many to recommend")


# A list that says more of each of the items: the page to try shows them as a table.
BESIDE_ITEMS: dict[str, JsonValue] = {"beside": "items"}


class RankedItems(BaseModel):
    """Items that the user has not seen, the best guess first."""

    items: list[str] = Field(description="ids, the best guess first")
    titles: list[str] = Field(
        default=[], description="what each is called", json_schema_extra=BESIDE_ITEMS
    )
    scores: list[float] = Field(
        default=[],
        description="what the items are ranked by; where the basis is popularity, the share of "
        "users who rated it",
        json_schema_extra=BESIDE_ITEMS,
    )
    because: list[list[str]] = Field(
        default=[],
        description="for each item the seen ones that speak most for it",
        json_schema_extra=BESIDE_ITEMS,
    )
    basis: Literal["history", "popularity"] = Field(
        default="history",
        description="popularity: no item of the history is known, so this is what most users rated",
    )
    ignored: list[str] = Field(
        default=[], description="items of the history that this version does not know"
    )
