"""What is counted of texts and answers.

Likelihood, variety, repetition, and what was copied from training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from recipes.text_generation.conversations import Row, row
from recipes.text_generation.ngram import WittenBell
from recipes.text_generation.schema import Question
from recipes.text_generation.spans import Spans, copied

if TYPE_CHECKING:
    from recipes.text_generation.session import TextPredictor

COUNTED = ("asked", "pairs", "pairs_new", "fours", "fours_again", "copied")
BEGINNING = 0.5  # of a text's characters is the prompt of a sample, at most 80


def asked(examples: pd.DataFrame) -> tuple[list[Row], list[str]]:
    """Each example's row and its language, "" where that is not told."""
    languages = (
        [json.loads(item).get("language", "") for item in examples["slices"]]
        if "slices" in examples
        else [""] * len(examples)
    )
    targets = examples["target"] if "target" in examples else ["{}"] * len(examples)
    pairs = zip(examples["inputs"], targets, strict=True)
    return [row(*pair) for pair in pairs], languages


def begun(one: Row, seed: int) -> Question:
    """The beginning of a text, or a conversation up to its last answer, to be continued."""
    if one.messages:
        return Question.model_validate({"prompt": "", "messages": one.messages[:-1], "seed": seed})
    return Question(prompt=one.text[: min(80, int(len(one.text) * BEGINNING))], seed=seed)


def frame(texts: Sequence[str], languages: Sequence[str], nats: np.ndarray) -> pd.DataFrame:
    """The sufficient statistics of likelihood, one row a text; nothing was generated yet."""
    return pd.DataFrame(
        {
            "language": languages,
            "sample": "",
            "nats": nats,
            "chars": [float(max(1, len(text))) for text in texts],
            "bytes": [float(max(1, len(text.encode("utf-8", "surrogatepass")))) for text in texts],
            **dict.fromkeys(COUNTED, 0.0),
        }
    )


def counts(text: str, seen: Spans) -> dict[str, float]:
    """An answer's counts. Words are runs without a space.

    A text written without spaces is counted by characters.
    """
    words = text.split()
    if len(words) * 12 < len(text):
        words = list(text)
    pairs, fours = (
        list(pairwise(words)),
        list(zip(words, words[1:], words[2:], words[3:], strict=False)),
    )
    return {
        "asked": 1.0,
        "pairs": float(len(pairs)),
        "pairs_new": float(len(set(pairs))),
        "fours": float(len(fours)),
        "fours_again": float(len(fours) - len(set(fours))),
        "copied": float(copied(text, seen)),
    }


def continued(
    session: TextPredictor, rows: Sequence[Row], samples: int
) -> dict[str, np.ndarray | list[str]]:
    """The counts of answers to the beginnings of some rows, and what was said.

    The rows are at most a tenth, always the same ones; 0 and "" for the others.
    """
    import hashlib

    texts = [one.learned for one in rows]
    columns = {name: np.zeros(len(texts)) for name in COUNTED}
    shown = [""] * len(texts)
    order = sorted(
        range(len(texts)),
        key=lambda row: hashlib.sha256(texts[row].encode("utf-8", "surrogatepass")).digest(),
    )
    for number in order[: min(samples, max(4, len(texts) // 10))]:
        question = begun(rows[number], number)
        answer = session.predict([question])[0].text
        said = question.messages[-1].content if question.messages else question.prompt
        shown[number] = f"{said} | {answer}"
        for name, value in counts(answer, session.seen).items():
            columns[name][number] = value
    return {**columns, "sample": shown}


def simpler(splits: Path, examples: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Character n-grams of the same train rows on the same test rows.

    The 5-gram that gates ask for, a 6-gram beside it, and the unigram.
    """
    train, test = (
        [one.learned for one in asked(part)[0]]
        for part in (pd.read_parquet(splits / "train.parquet"), examples)
    )
    languages = asked(examples)[1]
    return {
        name: frame(test, languages, WittenBell(train, order).nats(test))
        for name, order in (("baseline", 5), ("6-gram", 6), ("trivial", 1))
    }


def picture(scored: pd.DataFrame, folder: Path) -> list[Path]:
    """Bits per character in each language, and what the model said.

    Beginnings of test texts and how it went on.
    """
    from matplotlib.figure import Figure

    sums = scored.groupby("language")[["nats", "chars"]].sum()
    bits = (sums["nats"] / sums["chars"] / np.log(2)).sort_values(ascending=False)
    figure = Figure(figsize=(7, max(2.0, 0.28 * len(bits) + 1)), layout="constrained")
    axes = figure.subplots()
    axes.barh([name or "not told" for name in bits.index], bits.to_numpy(), color="#31688e")
    axes.set_xlabel("bits per character (scripts differ in what a character says)")
    axes.set_title(f"{len(scored):,} held-out texts", fontsize=10)
    figure.savefig(folder / "bits.png", dpi=110)
    said = scored[scored["sample"] != ""]
    (folder / "samples.md").write_text(
        "".join(f"- {row.language}: {row.sample}\n" for row in said.itertuples()), encoding="utf-8"
    )
    return [folder / "bits.png", folder / "samples.md"]
