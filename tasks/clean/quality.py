"""Signals of how a text is written, all from one tokenisation.

What follows from them is the recipe's policy (tasks/select/policy.py).

A word is what stands between white space. Chinese, Japanese, Thai and Korean are counted by
characters, and where a rule speaks of n words they are read as 2n characters. Texts under LEAST
characters have no signals: a menu entry has no quality.

The n-gram shares follow Rae et al. 2021: `top_n` is what the most frequent n-gram covers of all
characters, `repeated_n` what lies within n-grams that were there before, each character once.
"""

import re
from collections import Counter

import numpy as np

from tasks.clean.stopwords import STOPS

LEAST = 200
TOP, REPEATED = (2, 3, 4), (5, 6, 7, 8, 9, 10)
BY_CHARACTER = frozenset(("zh", "ja", "th", "ko", "lo", "km", "my", "bo", "yue", "wuu"))
BULLETS = ("•", "‣", "▶", "◀", "◦", "■", "□", "▪", "▫", "–", "- ", "* ")
CLOSED = tuple(".!?…。！？؟۔।॥\"'”’»」』")
_ENDING = re.compile(r"[.!?…。！？؟۔।॥]+(?=[\s\"'”’»」』]|$|(?<=[。！？]))")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


Signals = dict[str, str | float | None]
"""`unit` (word or character), and numbers: counts and shares of 1."""


def signals(text: str, language: str) -> Signals:
    """What there is to know, as numbers; shares are of 1.

    `language` by ISO 639-1, "" where it is not known.
    """
    if len(text) < LEAST:
        return {}
    by_character = language in BY_CHARACTER
    tokens = [letter for letter in text if not letter.isspace()] if by_character else text.split()
    lines = [line for line in text.split("\n") if line]
    count, letters = len(tokens), sum(map(len, tokens))
    if not count:
        return {}
    words = count // 2 if by_character else count
    measured: Signals = {
        "unit": "character" if by_character else "word",
        "words": words,
        "lines": len(lines),
    }
    if not by_character:
        measured["mean_word"] = letters / count
        measured["alpha_words"] = (
            sum(1 for word in tokens if word.isalpha() or any(map(str.isalpha, word))) / count
        )
    else:
        measured["alpha_words"] = sum(map(str.isalpha, tokens)) / count
    measured["symbols"] = (
        max(text.count("#"), text.count("...") + text.count("…")) / words if words else 0.0
    )
    measured.update(_lines(lines, text, words))
    measured["stop_words"] = _stops(tokens, text, language, by_character)
    measured["sentences"] = len(_ENDING.findall(text))
    measured["braces"] = int("{" in text)
    measured["lorem_ipsum"] = int("lorem ipsum" in text.lower())
    measured.update(_grams(tokens, 2 if by_character else 1))
    return {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in measured.items()
    }


def _lines(lines: list[str], text: str, words: int) -> dict[str, float]:
    count, chars = len(lines), sum(map(len, lines))
    times = Counter(lines)
    again = count - len(times)
    return {
        "bullet_lines": sum(line.startswith(BULLETS) for line in lines) / count,
        "ellipsis_lines": sum(line.endswith(("...", "…")) for line in lines) / count,
        "ended_lines": sum(line.endswith(CLOSED) for line in lines) / count,
        "short_lines": sum(len(line) <= 30 for line in lines) / count,
        "worded_lines": sum(line.count(" ") >= 2 for line in lines) / count,
        "repeated_lines": again / count,
        "repeated_line_chars": sum(
            (number - 1) * len(line) for line, number in times.items() if number > 1
        )
        / chars,
        "newlines": (count - 1) / words if words else 0.0,
    }


def _stops(tokens: list[str], text: str, language: str, by_character: bool) -> int | None:
    """How many stop words of its language a text has; None for a language without a list."""
    words = STOPS.get(language)
    if words is None:
        return None
    if by_character:
        return sum(word in text for word in words)
    return len(words & set(text.lower().split()))


def _grams(tokens: list[str], scale: int) -> dict[str, float]:
    known: dict[str, int] = {}
    ids = np.fromiter(
        (known.setdefault(token, len(known) + 1) for token in tokens),
        dtype=np.uint64,
        count=len(tokens),
    )
    sizes = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
    ids = ids * _MULTIPLIER
    ids ^= ids >> np.uint64(29)
    top = {f"top_{size}": _top(ids, sizes, size * scale) for size in TOP}
    repeated = {f"repeated_{size}": _repeated(ids, sizes, size * scale) for size in REPEATED}
    return top | repeated


def _ordered(ids: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """The starts of all n-grams, equal ones beside each other, and which are the first of theirs.

    Equal ones stay in the order of the text.
    """
    count = len(ids) - window + 1
    key = np.zeros(count, dtype=np.uint64)
    for place in range(window):
        key = key * np.uint64(1_000_003) + ids[place : place + count]
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    return order, np.concatenate(([True], ordered[1:] != ordered[:-1]))


def _top(ids: np.ndarray, sizes: np.ndarray, window: int) -> float:
    """The share of characters that the most frequent n-gram covers; 0 if none comes twice."""
    if len(ids) - window < 1:
        return 0.0
    order, new = _ordered(ids, window)
    starts = np.flatnonzero(new)
    times = np.diff(np.concatenate((starts, [len(order)])))
    best = int(times.argmax())
    if times[best] < 2:
        return 0.0
    where = int(order[starts[best]])
    chars = int(sizes[where : where + window].sum())
    return min(1.0, int(times[best]) * chars / int(sizes.sum()))


def _repeated(ids: np.ndarray, sizes: np.ndarray, window: int) -> float:
    """The share of characters that lie within n-grams that were there before."""
    if len(ids) - window < 1:
        return 0.0
    order, new = _ordered(ids, window)
    again = order[~new]
    edges = np.zeros(len(ids) + 1, dtype=np.int32)
    np.add.at(edges, again, 1)
    np.add.at(edges, again + window, -1)
    return float(sizes[np.cumsum(edges[:-1]) > 0].sum() / int(sizes.sum()))
