"""Rows of train and valid that are copies of test rows.

They would make a model look better than it is.

Exact means that the inputs are equal. Near copies and words in a row are sought in fields that are
prose alone: of a table's numbers or of short names, likeness says nothing.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tidemill.kit import content, pictures
from tidemill.text import normal
from tidemill.text.duplicates import Sets, copies

SPLITS = ("train", "valid", "test")
ALIKE_BITS = 3  # of 64 of a perceptual hash
HASH_BANDS = ALIKE_BITS + 1  # hashes that differ in so few bits agree in one of these parts
ALIKE_GREY = 4.0  # of 255: mean difference of pictures that are one picture, saved anew
NEIGHBOURS = 32  # pictures of a bucket that one is compared with


@dataclass(frozen=True)
class Question:
    """What is compared of a row.

    `exact` with equality, `prose` by its words, among rows of the same `group`.
    """

    exact: str
    prose: str
    group: str

    @classmethod
    def of(
        cls,
        inputs: str,
        target: str,
        payload: bytes | None,
        prose: Sequence[str] | None,
        many_answers: bool = False,
    ) -> "Question":
        fields = json.loads(inputs)
        group = target if many_answers or is_class(target) else ""
        asks = payload is not None or any(str(value).strip() for value in fields.values())
        if not asks:  # the answer is the text: copies of it are copies of the row
            fields, group = _fields(target), ""
        parts: list[Any] = [[name, _form(value)] for name, value in sorted(fields.items())]
        if payload is not None:
            parts = [content.of_payload(payload), *(part for part in parts if part[1] != "")]
        words = "" if payload is not None else normal.prose_of(fields, prose if asks else None)
        return cls(json.dumps(parts, ensure_ascii=False), words, group)


def is_class(target: str) -> bool:
    """Whether an answer is one of some classes: one short word or a yes or no.

    Rows of another class are no copies.
    """
    values = list(_fields(target).values())
    if len(values) != 1:
        return False
    return isinstance(values[0], bool) or (
        isinstance(values[0], str) and not normal.is_prose(values[0])
    )


def _fields(target: str) -> dict[str, object]:
    try:
        fields = json.loads(target)
    except ValueError:
        return {"target": target}
    return fields if isinstance(fields, dict) else {"target": fields}


def _form(value: object) -> object:
    """A value by which equal inputs are equal: a text's words; all of what has no letter."""
    if not isinstance(value, str):
        return value
    has_letter = any(map(str.isalpha, value))
    return (normal.same(value) if has_letter else "") or value.strip()


def leaks(
    examples: pd.DataFrame,
    where: pd.Series,
    threshold: float,
    ngram: int = 0,
    prose: Sequence[str] | None = None,
    many_answers: bool = False,
) -> pd.Series:
    """Why a row of train or valid is left out, or None.

    It is an exact copy of a test row, in one cluster of near copies with one, or shares words in a
    row with one. A row of train that is so related to one of valid goes too. Where answers are
    classes, only rows of one class are compared. A cluster is everything that near copies lead to,
    one after the other. `prose`: the fields of the inputs that are prose; None: every string over
    40 characters.
    """
    rank = where.map({part: number for number, part in enumerate(SPLITS)}).tolist()
    payloads = examples["payload"] if "payload" in examples else [None] * len(examples)
    rows = zip(examples["inputs"], examples["target"], payloads, strict=True)
    questions = [Question.of(*row, prose, many_answers) for row in rows]
    exact, near = _clusters(questions, list(payloads), threshold)
    strictest_exact, strictest_near = _strictest(exact, rank), _strictest(near, rank)
    shared = _shared_runs(questions, rank, ngram) if ngram else [0] * len(examples)
    reasons: list[str | None] = []
    for mine, same, alike, common in zip(
        rank, strictest_exact, strictest_near, shared, strict=True
    ):
        if mine < same:
            reasons.append(f"exact duplicate of a {SPLITS[same]} row")
        elif mine < alike:
            reasons.append(f"near duplicate of a {SPLITS[alike]} row")
        elif mine < common:
            reasons.append(f"{ngram} words in a row with a {SPLITS[common]} row")
        else:
            reasons.append(None)
    return pd.Series(reasons, index=examples.index, dtype=object)


def _clusters(
    questions: list[Question], payloads: list[bytes | None], threshold: float
) -> tuple[Sets, Sets]:
    """Which rows are exact copies, and which hang together by near ones."""
    exact, near = Sets(len(questions)), Sets(len(questions))
    first: dict[tuple[str, str], int] = {}
    for row, question in enumerate(questions):
        head = first.setdefault((question.group, question.exact), row)
        exact.join(head, row)
        near.join(head, row)
    texts = [row for row, question in enumerate(questions) if question.prose]
    alike = copies(
        [questions[row].prose for row in texts],
        [questions[row].group for row in texts],
        threshold,
    )
    for row, (head, _) in alike.items():
        near.join(texts[head], texts[row])
    seen = [row for row, payload in enumerate(payloads) if payload is not None]
    for left, right in _alike_pictures([payloads[row] or b"" for row in seen]):
        if questions[seen[left]].group == questions[seen[right]].group:
            near.join(seen[left], seen[right])
    return exact, near


def _strictest(sets: Sets, rank: list[int]) -> list[int]:
    """For each row the strictest split that a row of its set is in."""
    strictest: dict[int, int] = {}
    for row, mine in enumerate(rank):
        head = sets.find(row)
        strictest[head] = max(strictest.get(head, 0), mine)
    return [strictest[sets.find(row)] for row in range(len(rank))]


def _shared_runs(questions: list[Question], rank: list[int], size: int) -> list[int]:
    """The strictest split that has `size` words in a row with each row, of the same group."""
    held: dict[int, int] = {}  # a run's hash to the strictest of the splits that have it
    runs: dict[int, list[int]] = {}
    for row in sorted(range(len(questions)), key=lambda row: -rank[row]):
        question = questions[row]
        hashes = [hash((question.group, *run)) for run in normal.runs(question.prose, size)]
        if not hashes:
            continue
        runs[row] = hashes
        for run in hashes if rank[row] else ():
            held[run] = max(held.get(run, 0), rank[row])
    return [
        max((held.get(run, 0) for run in runs.get(row, ())), default=0)
        for row in range(len(questions))
    ]


def _alike_pictures(payloads: list[bytes]) -> list[tuple[int, int]]:
    """Pairs of pictures that look the same: by a perceptual hash, and then pixel by pixel."""
    looks = [pictures.look(payload) for payload in payloads]
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    pairs = []
    for row, look in enumerate(looks):
        if look is None:
            continue
        for band in range(HASH_BANDS):
            bucket = buckets[band, look.hash >> (16 * band) & 0xFFFF]
            for other in bucket[-NEIGHBOURS:]:
                before = looks[other]
                if before is not None and _looks_alike(look, before):
                    pairs.append((other, row))
            bucket.append(row)
    return pairs


def _looks_alike(one: pictures.Look, other: pictures.Look) -> bool:
    if (one.hash ^ other.hash).bit_count() > ALIKE_BITS:
        return False
    return float(np.abs(one.grey.astype(int) - other.grey).mean()) <= ALIKE_GREY
