"""Small harm to inputs, the same harm for the same seed: what `robust` gates ask about.

Each function takes the question's text and a generator of its own, so one question's typos do not
depend on which questions stand beside it.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

# Letters that look alike across Latin, Greek and Cyrillic (a few rows of Unicode's confusables, UTS
# 39).
ALIKE = (
    "aаα",
    "eе",
    "oоο",
    "pрρ",
    "cс",
    "xхχ",
    "yу",
    "iіι",
    "sѕ",
    "jј",
    "AАΑ",
    "BВΒ",
    "EЕΕ",
    "HНΗ",
    "KКΚ",
    "MМΜ",
    "OОΟ",
    "PРΡ",
    "TТΤ",
    "XХΧ",
    "CС",
)
OTHERS = {
    letter: [other for other in group if other != letter] for group in ALIKE for letter in group
}
TYPO_SHARE = 0.05  # of the letters; at least one
CONFUSED_SHARE = 0.1  # of the letters that have a look-alike; at least one
SPACES = ("  ", "\t", "\n", "\u00a0", " \u200b")


def generator(seed: int, name: str, what: str | bytes) -> np.random.Generator:
    """A generator that belongs to one question under one perturbation."""
    body = what.encode("utf-8", "surrogatepass") if isinstance(what, str) else what
    return np.random.default_rng(
        np.frombuffer(
            hashlib.blake2b(f"{seed} {name} ".encode() + body, digest_size=16).digest(),
            dtype=np.uint32,
        )
    )


def typos(text: str, random: np.random.Generator) -> str:
    """Letters swapped with the next, dropped or doubled, one in twenty.

    A text of one letter stays.
    """
    out = list(text)
    places = [at for at in range(len(out) - 1) if out[at].isalpha() and out[at + 1].isalpha()]
    if not places:
        return text
    for at in random.choice(
        places, size=min(len(places), max(1, round(TYPO_SHARE * len(places)))), replace=False
    ):
        kind = random.integers(3)
        if kind == 0:
            out[at], out[at + 1] = out[at + 1], out[at]
        else:
            out[at] = "" if kind == 1 else out[at] * 2
    return "".join(out)


def case(text: str, random: np.random.Generator) -> str:
    """Capitals throughout, where the script has them."""
    return text.upper()


def whitespace(text: str, random: np.random.Generator) -> str:
    """Spaces doubled, replaced by other white space, and some at both ends."""
    words = text.split(" ")
    return (
        " "
        + "".join(
            word + (SPACES[random.integers(len(SPACES))] if at < len(words) - 1 else "")
            for at, word in enumerate(words)
        )
        + "\n"
    )


def confusables(text: str, random: np.random.Generator) -> str:
    """Letters replaced by ones of another script that look alike."""
    places = [at for at, letter in enumerate(text) if letter in OTHERS]
    out = list(text)
    if places:
        for at in random.choice(
            places, size=max(1, round(CONFUSED_SHARE * len(places))), replace=False
        ):
            out[at] = OTHERS[out[at]][random.integers(len(OTHERS[out[at]]))]
    return "".join(out)


TEXT: dict[str, Callable[[str, np.random.Generator], str]] = {
    "typos": typos,
    "case": case,
    "whitespace": whitespace,
    "confusables": confusables,
}


def texts(asked: Sequence[str], seed: int, longest: int) -> dict[str, list[str]]:
    """Every perturbation of every text, by name.

    None is longer than `longest` characters, and none empty.
    """
    return {
        name: [change(text, generator(seed, name, text))[:longest] or text for text in asked]
        for name, change in TEXT.items()
    }
