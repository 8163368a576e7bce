"""Texts as people really send them: with typos, in capitals, with look-alike letters. The same seed gives the same texts."""

import numpy as np

# Latin letters and their look-alikes in Cyrillic and Greek (Unicode Technical Standard 39, confusables).
LOOK_ALIKES = str.maketrans("aceopxyiABEHKMOPTX", "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0391\u0392\u0395\u0397\u039a\u039c\u039f\u03a1\u03a4\u03a7")


def typos(text: str, random: np.random.Generator, share: float = 0.05) -> str:
    """One letter in twenty is lost, doubled or changes places with the next; at least one where there are two."""
    letters = list(text)
    places = [place for place in range(len(letters)) if letters[place].isalpha()]
    if len(places) < 2:
        return text
    for place in sorted(random.choice(places, max(1, int(share * len(places))), replace=False), reverse=True):
        kind = random.integers(3)
        if kind == 0:
            del letters[place]
        elif kind == 1:
            letters.insert(place, letters[place])
        elif place + 1 < len(letters):
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)


def spaces(text: str, random: np.random.Generator, share: float = 0.1) -> str:
    """One space in ten is doubled or becomes a line's end."""
    return "".join((letter * 2 if random.random() < 0.5 else "\n") if letter == " " and random.random() < share else letter for letter in text)


def look_alikes(text: str, random: np.random.Generator, share: float = 0.1) -> str:
    """One letter in ten that has a look-alike in another script is that one."""
    return "".join(letter.translate(LOOK_ALIKES) if random.random() < share else letter for letter in text)


def texts(originals: list[str], seed: int) -> dict[str, list[str]]:
    """Each text with typos, in upper case, with other spaces and with look-alike letters; none becomes empty."""
    found = {"upper case": [text.upper() for text in originals]}
    for number, (name, change) in enumerate((("typos", typos), ("spaces", spaces), ("look-alikes", look_alikes))):
        random = np.random.default_rng([seed, number])
        found[name] = [change(text, random) or text for text in originals]
    return found
