"""Which test rows training saw.

The same words, a run of 13 words (Brown et al. 2020), or nearly the same words.
"""

import hashlib
import json

import pandas as pd

from tidemill.text.duplicates import pairs

RUN = 13


def overlap(train: pd.DataFrame, test: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """One row per test row: columns exact, run, near.

    Rows of other targets count too: an answer can leak from anywhere.

    A near copy is sought among rows of the same target, as the split does it.
    """
    ours, theirs = _said(train), _said(test)
    seen = {hashlib.blake2b(text.encode(), digest_size=8).digest() for text in ours}
    runs: set[int] = set()
    for text in ours:
        runs.update(_runs(text))
    exact = [hashlib.blake2b(text.encode(), digest_size=8).digest() in seen for text in theirs]
    run = [not runs.isdisjoint(_runs(text)) for text in theirs]
    near = [False] * len(theirs)
    edge = len(ours)
    for left, right, how in pairs(
        ours + theirs, train["target"].tolist() + test["target"].tolist(), threshold
    ):
        first, second = sorted((left, right))
        if how != "exact" and first < edge <= second:
            near[second - edge] = True
    return pd.DataFrame({"exact": exact, "run": run, "near": near})


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
