"""What several voters say of one thing, and which of two ways makes the better label of it.

A vote is an answer (a word or a number), a yes or no about the answer that is given, or nothing.
Votes that are answers are counted against each other; yes and no are checks. Shapes: N rows, V
voters, K answers.
"""

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from tidemill.records.reports import VoterRow

NOTHING = -1
ROUNDS, ENOUGH = 100, 1e-6
LEAST_TRUE = 30  # rows with a known answer, below which nothing is said to validate better


class Votes:
    """Votes as a table.

    `said` (N, V) holds places in `answers`, or NOTHING; `checks` holds each checker's yes (1), no
    (0) or nothing (-1).
    """

    def __init__(self, rows: Sequence[str]) -> None:
        votes: list[dict[str, Any]] = [json.loads(row) for row in rows]
        names = list(dict.fromkeys(name for row in votes for name in row))
        checkers = [name for name in names if _is_checker([row.get(name) for row in votes])]
        self.voters = [name for name in names if name not in checkers]
        given = (row.get(name) for row in votes for name in self.voters)
        self.answers = sorted({str(vote) for vote in given if vote is not None})
        place = {answer: number for number, answer in enumerate(self.answers)}
        self.said = np.full((len(votes), len(self.voters)), NOTHING, dtype=np.int64)
        for number, name in enumerate(self.voters):
            column = [row.get(name) for row in votes]
            self.said[:, number] = [
                NOTHING if vote is None else place[str(vote)] for vote in column
            ]
        self.checks = {name: _checks([row.get(name) for row in votes]) for name in checkers}

    def taken(self, rows: np.ndarray) -> Self:
        """The votes of these rows, in this order; a row may come several times."""
        some = copy(self)
        some.said = self.said[rows]
        some.checks = {name: checks[rows] for name, checks in self.checks.items()}
        return some

    def places(self, wanted: Sequence[str | None]) -> np.ndarray:
        """(N,): where these answers stand; NOTHING for one that nobody names."""
        place = {answer: number for number, answer in enumerate(self.answers)}
        return np.array(
            [
                place.get(str(answer), NOTHING) if answer is not None else NOTHING
                for answer in wanted
            ],
            dtype=np.int64,
        )


def _is_checker(votes: list[Any]) -> bool:
    """Whether a voter says yes or no alone."""
    given = [vote for vote in votes if vote is not None]
    return bool(given) and all(isinstance(vote, bool) for vote in given)


def _checks(votes: list[Any]) -> np.ndarray:
    return np.array([NOTHING if vote is None else int(vote) for vote in votes])


def figures(
    votes: Votes, given: Sequence[str | None], true: Sequence[str | None], measured_on: str
) -> list[VoterRow]:
    """A row a voter: coverage, overlap, conflict and accuracy.

    Overlap is who else voted too, conflict who else said otherwise; accuracy is where the answer is
    known.

    A checker's accuracy is how often it said yes to an answer that is known to be right, or no to
    one that is wrong.
    """
    known = np.array([answer is not None for answer in true], dtype=bool)
    right = np.array([one == other for one, other in zip(given, true, strict=True)], dtype=bool)
    truth = votes.places(true)
    rows = []
    for number, name in enumerate(votes.voters):
        mine, others = votes.said[:, number], np.delete(votes.said, number, axis=1)
        voted, others_voted = mine != NOTHING, others != NOTHING
        beside = voted & others_voted.any(axis=1)
        against = beside & (others_voted & (others != mine[:, None])).any(axis=1)
        good = Seen(voted, beside, against, voted & known, mine == truth)
        rows.append(_row(name, "answers", good, measured_on))
    for name, checks in votes.checks.items():
        voted = checks != NOTHING
        beside = voted & (votes.said != NOTHING).any(axis=1)
        good = Seen(voted, beside, voted & (checks == 0), voted & known, (checks == 1) == right)
        rows.append(_row(name, "checks", good, measured_on))
    return rows


@dataclass(frozen=True)
class Seen:
    """Of each row (N,) whether a voter voted, others did, said otherwise, is judged, is right."""

    voted: np.ndarray
    beside: np.ndarray
    against: np.ndarray
    judged: np.ndarray
    good: np.ndarray


def _row(name: str, kind: str, seen: Seen, measured_on: str) -> VoterRow:
    def share(part: np.ndarray) -> float:
        return round(float(part.sum()) / max(1, len(part)), 4)

    right = seen.good[seen.judged]
    return {
        "voter": name,
        "kind": kind,
        "coverage": share(seen.voted),
        "overlap": share(seen.beside),
        "conflict": share(seen.against),
        "accuracy": round(float(right.mean()), 4) if len(right) else None,
        "rows": len(right),
        "measured_on": measured_on,
    }


def majority(votes: Votes) -> tuple[np.ndarray, np.ndarray]:
    """Most votes win, an earlier voter's in a tie; answers (N,) and their share of votes (N,)."""
    rows, voters = votes.said.shape
    best, share = np.full(rows, NOTHING), np.zeros(rows)
    counts = (votes.said[:, :, None] == votes.said[:, None, :]).sum(axis=2) * (
        votes.said != NOTHING
    )
    if voters and rows:
        first = counts.argmax(axis=1)
        some = (votes.said != NOTHING).any(axis=1)
        best[some] = votes.said[np.arange(rows), first][some]
        share[some] = counts.max(axis=1)[some] / (votes.said != NOTHING).sum(axis=1)[some]
    return best, share


def dawid_skene(votes: Votes) -> tuple[np.ndarray, np.ndarray]:
    """Answers (N,) and their probability (N,), with each voter's own confusions.

    They are estimated with the answers (Dawid and Skene 1979, by EM from majority's answers).

    Only answers somebody gave are considered for a row, so memory grows with the votes and not with
    N times K.
    """
    rows, voters = votes.said.shape
    if not rows or not voters or not votes.answers:
        return np.full(rows, NOTHING), np.zeros(rows)
    # A row's candidates (N, V) are what was said of it: at most V of them.
    candidates = np.sort(votes.said, axis=1)
    candidates[:, 1:][candidates[:, 1:] == candidates[:, :-1]] = NOTHING
    there = candidates != NOTHING
    agreed, _ = majority(votes)
    even = 0.2 / np.maximum(1, there.sum(axis=1, keepdims=True))
    chance = _shares(np.where(there, even + 0.8 * (candidates == agreed[:, None]), 0.0))
    for _ in range(ROUNDS):
        likely = _likelihood(votes, candidates, there, chance)
        likely -= likely.max(axis=1, keepdims=True, initial=-1e300)
        after = _shares(np.where(there, np.exp(likely), 0.0))
        moved, chance = np.abs(after - chance).max(initial=0.0), after
        if moved < ENOUGH:
            break
    best = chance.argmax(axis=1)
    answers = np.where(there.any(axis=1), candidates[np.arange(rows), best], NOTHING)
    return answers, chance[np.arange(rows), best]


def _shares(chance: np.ndarray) -> np.ndarray:
    shares: np.ndarray = chance / np.maximum(chance.sum(axis=1, keepdims=True), 1e-300)
    return shares


def _likelihood(
    votes: Votes, candidates: np.ndarray, there: np.ndarray, chance: np.ndarray
) -> np.ndarray:
    """(N, V): the logarithm of each candidate's likelihood, by how right voters are."""
    kinds = len(votes.answers)
    prior = np.bincount(candidates[there], weights=chance[there], minlength=kinds) + 1.0
    prior /= prior.sum()
    likely = np.where(there, np.log(prior)[candidates], -np.inf)
    for voter in range(votes.said.shape[1]):
        said = votes.said[:, voter]
        # How often the voter says the truth, answer by answer; what else it says is spread over
        # what it does say then.
        at = (said != NOTHING)[:, None] & there
        hit = at & (candidates == said[:, None])
        of_all = np.bincount(candidates[at], weights=chance[at], minlength=kinds)
        right = np.bincount(candidates[hit], weights=chance[hit], minlength=kinds)
        mean = (right.sum() + 1.0) / (of_all.sum() + 2.0)
        # (K,), drawn to the voter's own mean where it has few rows
        accuracy = (right + 2 * mean) / (of_all + 2)
        wrong = (1 - accuracy[candidates]) / max(1, kinds - 1)
        likely += np.where(at, np.log(np.where(hit, accuracy[candidates], wrong)), 0.0)
    return likely


def decided(
    votes: Votes, true: Mapping[int, str] | Sequence[str | None]
) -> tuple[str, np.ndarray, np.ndarray, dict[str, float]]:
    """Majority or Dawid-Skene, whichever is right more often where the answer is known.

    Its name, answers (N,), confidences (N,), both accuracies.
    """
    truth = votes.places(
        true
        if not isinstance(true, Mapping)
        else [true.get(number) for number in range(len(votes.said))]
    )
    known = truth != NOTHING
    ways = {"majority": majority(votes), "dawid_skene": dawid_skene(votes)}
    scores = (
        {
            name: round(float((answers[known] == truth[known]).mean()), 4)
            for name, (answers, _) in ways.items()
        }
        if known.sum() >= LEAST_TRUE
        else {}
    )
    taken = "dawid_skene" if scores and scores["dawid_skene"] > scores["majority"] else "majority"
    return taken, *ways[taken], scores
