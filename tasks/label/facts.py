"""What the step keeps in memory of each example: some tens of bytes, and what many have in common.

Votes, answers and reasons are numbers in a list of the different ones.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

ID = "S24"  # of 24 hexadecimal digits, as `carried.example_id` gives them


class Different:
    """Different values, each with the number of its first place."""

    def __init__(self, values: Sequence[str] = ()) -> None:
        self.numbers = {value: number for number, value in enumerate(values)}

    def number(self, value: str | None) -> int:
        """-1 for None."""
        return -1 if value is None else self.numbers.setdefault(value, len(self.numbers))

    def of(self, values: Sequence[str | None]) -> np.ndarray:
        return np.array([self.number(value) for value in values], dtype=np.int32)

    @property
    def values(self) -> list[str]:
        return [*self.numbers]

    def taken(self, values: Sequence[str], numbers: np.ndarray) -> np.ndarray:
        """Numbers in this list, of numbers in another."""
        own = np.array([*map(self.number, values), -1], dtype=np.int32)
        return own[numbers]


@dataclass(frozen=True)
class TargetKind:
    """Usable examples whose targets have the same fields, and the first of them."""

    count: int
    example_id: str
    doc_id: str
    target: str


@dataclass
class ExampleFacts:
    """Of n examples. An answer is the value of the one field of a target; -1 is none."""

    ids: np.ndarray  # (n,) of ID
    asked: np.ndarray  # (n, 2) uint64: the same where source and inputs are
    target: np.ndarray  # (n,) uint64: the same where the target is
    answer: np.ndarray  # (n,) int32, in `answers`
    votes: np.ndarray  # (n,) int32, in `ballots`
    dropped: np.ndarray  # (n,) int32, in `reasons`
    answers: Different
    ballots: Different
    reasons: Different
    field: str  # "" where the first usable target is no label, or no example is usable
    targets: dict[tuple[str, ...], TargetKind]  # of the usable ones, by their fields

    def __len__(self) -> int:
        return len(self.ids)


def facts_of(examples: pd.DataFrame) -> ExampleFacts:
    """The facts of examples with `source` and `dropped`."""
    answers, ballots, reasons = Different(), Different(), Different()
    dropped = [None if pd.isna(reason) else str(reason) for reason in examples["dropped"]]
    usable = np.array([reason is None for reason in dropped], dtype=bool)
    targets = examples["target"].tolist()
    given = [json.loads(target) for target in targets]
    fields = [_field(given[row]) for row in np.flatnonzero(usable)]
    # Also where none of these is usable: what voters are worth is measured on all.
    own = next((field for field in [*fields, *map(_field, given)] if field), "")
    return ExampleFacts(
        ids=np.array(examples["example_id"].tolist(), dtype=ID),
        asked=_digests(examples["source"].tolist(), examples["inputs"].tolist()),
        target=hashes(targets),
        answer=answers.of([_answer(each, own) for each in given]),
        votes=ballots.of(examples["votes"].fillna("{}").tolist()),
        dropped=reasons.of(dropped),
        answers=answers,
        ballots=ballots,
        reasons=reasons,
        field=fields[0] if fields else "",
        targets=_kinds(examples, usable, given),
    )


def _field(fields: dict[str, object]) -> str:
    """The one field of a target that is a label, or ""."""
    is_label = len(fields) == 1 and isinstance(next(iter(fields.values())), str)
    return str(next(iter(fields))) if is_label else ""


def _answer(target: dict[str, object], field: str) -> str | None:
    """The label that a target holds; None for none."""
    value = target.get(field)
    return str(value) if value else None


def _kinds(
    examples: pd.DataFrame, usable: np.ndarray, given: Sequence[dict[str, object]]
) -> dict[tuple[str, ...], TargetKind]:
    places = np.flatnonzero(usable).tolist()
    names = [tuple(given[row]) for row in places]
    rows = dict(zip(reversed(names), reversed(places), strict=True))
    firsts = ((fields, examples.iloc[row]) for fields, row in rows.items())
    return {
        fields: TargetKind(
            names.count(fields), first["example_id"], first["doc_id"], first["target"]
        )
        for fields, first in firsts
    }


def _merged(
    some: Sequence[dict[tuple[str, ...], TargetKind]],
) -> dict[tuple[str, ...], TargetKind]:
    merged: dict[tuple[str, ...], TargetKind] = {}
    for kinds in some:
        for fields, kind in kinds.items():
            before = merged.get(fields)
            known = replace(before, count=before.count + kind.count) if before else kind
            merged[fields] = known
    return merged


def hashes(values: Sequence[str]) -> np.ndarray:
    """64 bits of each value's hash, (N,)."""
    made: np.ndarray = pd.util.hash_array(np.array(values, dtype=object), categorize=True)
    return made


def _digests(sources: Sequence[str], inputs: Sequence[str]) -> np.ndarray:
    digests = (
        hashlib.blake2b(f"{source}\x1f{each}".encode(), digest_size=16).digest()
        for source, each in zip(sources, inputs, strict=True)
    )
    return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2)


def joined(some: Sequence[ExampleFacts]) -> ExampleFacts:
    """The facts of examples that follow each other."""
    answers, ballots, reasons = Different(), Different(), Different()
    return ExampleFacts(
        ids=np.concatenate([each.ids for each in some]),
        asked=np.concatenate([each.asked for each in some]),
        target=np.concatenate([each.target for each in some]),
        answer=np.concatenate([answers.taken(each.answers.values, each.answer) for each in some]),
        votes=np.concatenate([ballots.taken(each.ballots.values, each.votes) for each in some]),
        dropped=np.concatenate([reasons.taken(each.reasons.values, each.dropped) for each in some]),
        answers=answers,
        ballots=ballots,
        reasons=reasons,
        field=next((each.field for each in some if each.targets), ""),
        targets=_merged([each.targets for each in some]),
    )
