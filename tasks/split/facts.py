"""What is compared of rows when copies are sought: small facts of each, made group by group.

Exact means that the inputs are equal. Near copies and words in a row are sought in fields that are
prose alone: of a table's numbers or of short names, likeness says nothing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tasks.split.runs import Runs, runs_of
from tidemill.kit import content, pictures
from tidemill.records.groups import RowGroup
from tidemill.text import normal
from tidemill.text.lsh import Bands

COLUMNS = ("inputs", "target", "payload", "slices")


@dataclass(frozen=True)
class Compared:
    """How rows are compared. `prose` and `many_answers` are as for `Question.of`."""

    threshold: float
    ngram: int = 0
    prose: tuple[str, ...] | None = None
    many_answers: bool = False


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
        """`prose`: the fields that are prose; None: every string over 40 characters.

        `many_answers`: rows of another answer are no copies, whatever the answers are.
        """
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


@dataclass(frozen=True)
class RowFacts:
    """Of n rows in a row, of which p have prose."""

    exact: np.ndarray  # (n, 2) uint64: the same where group and inputs are
    group: np.ndarray  # (n,) uint64: the same where the group is
    places: np.ndarray  # (p,) int64: which rows have prose
    words: np.ndarray  # (p, 2) uint64: the same where the words of it are
    bands: np.ndarray  # (p, B) uint64: of its MinHash signature
    sizes: np.ndarray  # (p,) int32: its characters
    runs: Runs  # words in a row
    looks: list[tuple[int, pictures.Look]]  # of a row with a picture
    slices: np.ndarray  # (n,) int16: places in `names`
    names: list[tuple[str, ...]]  # the names of the slices that a row has

    def without_large(self) -> "RowFacts":
        """The same without bands and runs, which are not kept in memory."""
        none = np.zeros(0, dtype=np.uint64)
        return replace(self, bands=none, runs=Runs(none, none.astype(np.int64)))


def facts_of(compared: Compared, group: RowGroup) -> RowFacts:
    """The facts of a row group."""
    return joined([facts(compared, frame) for frame in group.frames(COLUMNS)])


def facts(compared: Compared, rows: pd.DataFrame) -> RowFacts:
    """The facts of rows with the columns `inputs`, `target`, and any others of `COLUMNS`."""
    payloads = rows["payload"].tolist() if "payload" in rows else [None] * len(rows)
    asked = [
        Question.of(*row, compared.prose, compared.many_answers)
        for row in zip(rows["inputs"], rows["target"], payloads, strict=True)
    ]
    groups = np.array([_number(each.group) for each in asked], dtype=np.uint64)
    places = np.flatnonzero([bool(each.prose) for each in asked])
    texts = [asked[place].prose for place in places]
    words, bands = Bands(threshold=compared.threshold).of(texts)
    looks = ((row, pictures.look(body)) for row, body in enumerate(payloads) if body is not None)
    slices, names = _slices(rows)
    return RowFacts(
        exact=_digests(asked),
        group=groups,
        places=places,
        words=words,
        bands=bands,
        sizes=np.array(list(map(len, texts)), dtype=np.int32),
        runs=runs_of(texts, places, groups[places], compared.ngram),
        looks=[(row, look) for row, look in looks if look is not None],
        slices=slices,
        names=names,
    )


def _slices(rows: pd.DataFrame) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    numbers: dict[tuple[str, ...], int] = {}
    told = [tuple(json.loads(item)) for item in rows["slices"]] if "slices" in rows else []
    places = [numbers.setdefault(names, len(numbers)) for names in told]
    return np.array(places, dtype=np.int16), list(numbers)


def joined(some: Sequence[RowFacts]) -> RowFacts:
    """The facts of rows that follow each other."""
    starts = np.cumsum([0, *(len(each.exact) for each in some)]).tolist()
    pairs = list(zip(starts, some, strict=False))
    numbers: dict[tuple[str, ...], int] = {}
    slices = []
    for each in some:
        own = [numbers.setdefault(names, len(numbers)) for names in each.names]
        slices.append(np.array(own, dtype=np.int16)[each.slices])
    return RowFacts(
        exact=np.concatenate([each.exact for each in some]),
        group=np.concatenate([each.group for each in some]),
        places=np.concatenate([start + each.places for start, each in pairs]),
        words=np.concatenate([each.words for each in some]),
        bands=np.concatenate([each.bands for each in some]),
        sizes=np.concatenate([each.sizes for each in some]),
        runs=Runs.joined([each.runs.after(start) for start, each in pairs]),
        looks=[(start + row, look) for start, each in pairs for row, look in each.looks],
        slices=np.concatenate(slices),
        names=list(numbers),
    )


def _digests(asked: Sequence[Question]) -> np.ndarray:
    digests = (
        hashlib.blake2b(json.dumps([each.group, each.exact]).encode(), digest_size=16).digest()
        for each in asked
    )
    return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2)


def _number(group: str) -> int:
    digest = hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
