"""Which test rows training saw.

The same words, a run of 13 words (Brown et al. 2020), or nearly the same words.
"""

import hashlib
import json
from collections.abc import Sequence

import pandas as pd

from tidemill.text import normal
from tidemill.text.duplicates import pairs

RUN = 13


def overlap(
    train: pd.DataFrame,
    test: pd.DataFrame,
    threshold: float,
    prose: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One row per test row: columns exact, run, near.

    Rows of other targets count too: an answer can leak from anywhere.

    A near copy is sought among rows of the same target, as the split does it. Runs and near copies
    are of prose alone: the fields that `prose` names; None: every string over 40 characters.
    """
    ours, theirs = _said(train), _said(test)
    seen = {hashlib.blake2b(text.encode(), digest_size=8).digest() for text in ours}
    read, asked = _prose(train, prose), _prose(test, prose)
    runs: set[int] = set()
    for text in read:
        runs.update(_runs(text))
    exact = [hashlib.blake2b(text.encode(), digest_size=8).digest() in seen for text in theirs]
    run = [not runs.isdisjoint(_runs(text)) for text in asked]
    targets = train["target"].tolist() + test["target"].tolist()
    rows = [row for row, text in enumerate(read + asked) if text]
    texts = [text for text in read + asked if text]
    near, edge = [False] * len(theirs), len(ours)
    for left, right, how in pairs(texts, [targets[row] for row in rows], threshold):
        first, second = sorted((rows[left], rows[right]))
        if how != "exact" and first < edge <= second:
            near[second - edge] = True
    return pd.DataFrame({"exact": exact, "run": run, "near": near})


def _prose(examples: pd.DataFrame, named: Sequence[str] | None) -> list[str]:
    """The words of each question that is prose; empty for the others."""
    texts = [normal.prose_of(json.loads(item), named) for item in examples["inputs"]]
    if "payload" not in examples:
        return texts
    blank = examples["payload"].isna()
    return [text if plain else "" for text, plain in zip(texts, blank, strict=True)]


def _said(examples: pd.DataFrame) -> list[str]:
    """A question's words: the values of its JSON.

    A picture or a sound is taken by the digest of its bytes.
    """
    texts = [
        " ".join(str(value) for value in json.loads(item).values()) for item in examples["inputs"]
    ]
    if "payload" not in examples or examples["payload"].isna().all():
        return texts
    return [
        text if payload is None else f"{text} {hashlib.sha256(payload).hexdigest()}"
        for text, payload in zip(texts, examples["payload"], strict=True)
    ]


def _runs(text: str) -> list[int]:
    words = text.lower().split()
    return [hash(tuple(words[start : start + RUN])) for start in range(len(words) - RUN + 1)]
