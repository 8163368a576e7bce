"""The items that a ranker knows, and how a history weighs among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict


class Catalogue(BaseModel):
    """The items that can be recommended."""

    model_config = ConfigDict(frozen=True)
    items: tuple[str, ...]
    titles: tuple[str, ...]  # of each item
    users: tuple[int, ...]  # of the training rows who rated each item
    of_users: int  # training users
    least_rating: float  # of the training rows
    most_rating: float

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each item, by its id and by its title; of equal titles the most rated."""
        order = sorted(range(len(self.items)), key=lambda at: self.users[at])
        by_title = {self.titles[at].casefold().strip(): at for at in order}
        return {**by_title, **{item: at for at, item in enumerate(self.items)}}

    @cached_property
    def popularity(self) -> np.ndarray:
        """(items,): the share of training users who rated each."""
        share: np.ndarray = np.array(self.users, dtype=float) / max(1, self.of_users)
        return share

    def place(self, name: str) -> int | None:
        """The place of an item by its id or its title."""
        at = self.places.get(name)
        return self.places.get(name.casefold().strip()) if at is None else at


class Weighting(BaseModel):
    """How much a seen item counts: the latest ones most, badly rated ones less."""

    model_config = ConfigDict(frozen=True)
    memory: float  # items after which the weight has fallen to 1/e; 0: all count alike
    floor: float  # the weight of the oldest
    liked: float  # a rating from here on counts in full
    disliked: float  # what a lower one counts


@dataclass(frozen=True)
class KnownHistory:
    """The items of a history that the catalogue has, oldest first, and the names it has not."""

    places: np.ndarray  # (k,) each once
    weights: np.ndarray  # (k,)
    unknown: list[str]


def known_history(
    catalogue: Catalogue, weighting: Weighting, history: Sequence[str], ratings: Sequence[float]
) -> KnownHistory:
    """Weigh a history; of an item that is named twice the later time counts."""
    last: dict[int, float | None] = {}
    unknown = []
    for at, name in enumerate(history):
        place = catalogue.place(name)
        if place is None:
            unknown.append(name)
            continue
        last.pop(place, None)
        last[place] = ratings[at] if at < len(ratings) else None
    back = np.arange(len(last))[::-1]
    weights = np.ones(len(last))
    if weighting.memory > 0:
        weights = np.maximum(weighting.floor, np.exp(-back / weighting.memory))
    low = np.array([value is not None and value < weighting.liked for value in last.values()], bool)
    weights = np.where(low, weights * weighting.disliked, weights)
    return KnownHistory(np.array(list(last), dtype=int), weights, unknown)


def matrix(catalogue: Catalogue, histories: Sequence[KnownHistory]) -> np.ndarray:
    """Weights (n, items) float32 of histories."""
    weights = np.zeros((len(histories), len(catalogue.items)), dtype=np.float32)
    for row, history in zip(weights, histories, strict=True):
        row[history.places] = history.weights
    return weights


def ranked(scores: np.ndarray, history: KnownHistory, count: int) -> np.ndarray:
    """The places of the best `count` items that were not seen, by scores (items,)."""
    open_scores = scores.astype(float)
    open_scores[history.places] = -np.inf
    order = np.argsort(-open_scores, kind="stable")[:count]
    best: np.ndarray = order[np.isfinite(open_scores[order])]
    return best
