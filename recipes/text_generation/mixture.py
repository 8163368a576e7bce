"""How much of a training each source is, and what a night's new rows are beside those of before.

A group is the rows of one source that the start was trained on, or those that it was not. Each has
its rows in a random order, pass after pass, and an epoch takes the next ones of each, as many
tokens as the group's share says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recipes.text_generation.corpus import Corpus
from recipes.text_generation.size import UnusableStart
from tidemill.runtime.errors import Refused

ROWS = "rows.npz"  # what a package says of the rows that it was trained on


class UnusableMixture(Refused, ValueError):
    """A mixture that no training can have."""


@dataclass(frozen=True)
class SourceGroup:
    """Some rows of a corpus that are drawn by one share."""

    name: str
    weight: float
    rows: np.ndarray  # their places in the corpus
    tokens: int  # that they ask for, all together


def grouped(
    corpus: Corpus, mixture: Mapping[str, float], replay: float, before: np.ndarray | None
) -> list[SourceGroup]:
    """The groups of a training.

    `before` has the hashes of the rows that the start was trained on, sorted; None: it does not
    say. Rows among them are `replay` of the training, the others the rest; within both sources
    have the shares of the mixture. Raises UnusableMixture.
    """
    refuse_unknown(corpus, mixture)
    again = np.zeros(len(corpus), bool)
    if before is not None and replay:
        again = np.isin(corpus.hashes[:], before)
    if again.all() or not again.any():
        return _non_empty(_by_source(corpus, mixture, np.ones(len(corpus), bool), 1.0, ""), corpus)
    groups = [
        *_by_source(corpus, mixture, again, replay, " again"),
        *_by_source(corpus, mixture, ~again, 1 - replay, ""),
    ]
    return _non_empty(groups, corpus)


def _by_source(
    corpus: Corpus, mixture: Mapping[str, float], chosen: np.ndarray, share: float, more: str
) -> list[SourceGroup]:
    """The chosen rows by their sources, whose weights are `share` together."""
    places, sizes = corpus.groups[:], corpus.sizes()
    groups = []
    for number, source in enumerate(corpus.sources):
        rows = np.flatnonzero((places == number) & chosen)
        tokens = int(sizes[rows].sum())
        weight = mixture[source] if mixture else float(tokens)
        if weight and tokens:
            groups.append(SourceGroup(source + more, weight, rows, tokens))
    total = sum(group.weight for group in groups)
    return [replace(group, weight=share * group.weight / total) for group in groups]


def _non_empty(groups: list[SourceGroup], corpus: Corpus) -> list[SourceGroup]:
    if not groups:
        raise UnusableMixture(
            "model.mixture: no source with a weight has training rows; there are rows of "
            f"{', '.join(corpus.sources)}"
        )
    return groups


def refuse_unknown(corpus: Corpus, mixture: Mapping[str, float]) -> None:
    """Raise UnusableMixture where it names other sources than those of the training rows."""
    there = ", ".join(corpus.sources)
    for source in mixture:
        if source not in corpus.sources:
            raise UnusableMixture(
                f"model.mixture: no training row is of source '{source}'; there are rows of {there}"
            )
    for source in corpus.sources:
        if mixture and source not in mixture:
            raise UnusableMixture(
                f"model.mixture says nothing of source '{source}', which has training rows; "
                "give it a weight (0 leaves it out)"
            )


def quotas(groups: Sequence[SourceGroup], budget: float, left: Sequence[float]) -> list[float]:
    """How many tokens of a budget each group gives: by its weight, and at most what is left of it.

    What a group cannot give the others do, by their weights. Raises UnusableMixture where all of
    them together cannot.
    """
    given = [0.0] * len(groups)
    while (rest := budget - sum(given)) > 0.5:
        able = [at for at in range(len(groups)) if left[at] - given[at] > 0.5]
        if not able:
            raise UnusableMixture("model.max_repetition: no source has tokens left; raise it")
        weights = sum(groups[at].weight for at in able)
        for at in able:
            share = rest * groups[at].weight / weights
            given[at] += min(share, left[at] - given[at])
    return given


class Mixed:
    """Which rows each epoch of a training has, by the shares of their groups."""

    def __init__(
        self, corpus: Corpus, groups: Sequence[SourceGroup], budget: int, most: float, seed: int
    ) -> None:
        """`budget` is an epoch's tokens; no group is gone through more than `most` times."""
        self.sizes, self.groups, self.seed = corpus.sizes(), groups, seed
        self.budget, self.most = budget, most

    def spans(self, epoch: int) -> list[tuple[float, float]]:
        """Where an epoch begins and ends in each group's passes, in tokens."""
        at = [0.0] * len(self.groups)
        for _ in range(epoch + 1):
            left = [
                self.most * group.tokens - used for group, used in zip(self.groups, at, strict=True)
            ]
            before = at
            given = quotas(self.groups, self.budget, left)
            at = [used + more for used, more in zip(before, given, strict=True)]
        return list(zip(before, at, strict=True))

    def refuse_too_long(self, epochs: int) -> None:
        """Raise UnusableMixture where the groups cannot give what so many epochs take."""
        asked = self.budget * max(1, epochs)
        there = self.most * sum(group.tokens for group in self.groups)
        if asked > there:
            raise UnusableMixture(
                f"the training takes {asked:,} tokens, and the sources of model.mixture have "
                f"{there:,.0f} in model.max_repetition={self.most:g} passes; raise it, or lower "
                "model.steps"
            )

    def rows(self, epoch: int) -> np.ndarray:
        """The rows of an epoch, mixed; one that is gone through again comes again."""
        spans = zip(self.groups, self.spans(epoch), strict=True)
        drawn = [self.drawn(number, *span) for number, span in enumerate(spans)]
        return np.random.default_rng([self.seed, epoch, 1]).permutation(np.concatenate(drawn))

    def drawn(self, number: int, group: SourceGroup, span: tuple[float, float]) -> np.ndarray:
        """A group's rows that begin within a span of its passes."""
        first, last = (math.floor(place / group.tokens) for place in span)
        parts = []
        for once in range(first, last + 1):
            order = np.random.default_rng([self.seed, number, once, 2]).permutation(group.rows)
            sizes = self.sizes[order]
            begins = once * group.tokens + np.cumsum(sizes) - sizes
            parts.append(order[(begins >= span[0]) & (begins < span[1])])
        return np.concatenate(parts)

    def shares(self, rows: np.ndarray) -> dict[str, float]:
        """Each group's share of these rows' tokens."""
        owner = np.zeros(len(self.sizes), np.int64)
        for number, group in enumerate(self.groups):
            owner[group.rows] = number
        tokens = np.bincount(owner[rows], self.sizes[rows], len(self.groups))
        return {
            group.name: float(share)
            for group, share in zip(self.groups, tokens / tokens.sum(), strict=True)
        }


def trained_on(start: Path) -> np.ndarray | None:
    """The hashes of the rows that a package was trained on, sorted; None where it does not say."""
    path = start / ROWS
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            hashes: np.ndarray = kept["hashes"]
    except (OSError, ValueError, KeyError) as error:
        raise UnusableStart(
            f"start '{start}': {ROWS} cannot be read ({error}); leave it out of the folder"
        ) from None
    return hashes
