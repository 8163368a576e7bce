"""Which documents a quality policy leaves out, and for which signal.

The measuring is clean's, the decision the recipe's.
"""

import json
from typing import Any

import pyarrow as pa

from tidemill.engines.config.schema import Quality

COLUMNS = ("language", "language_found", "language_score", "quality")
SURE = 0.5  # of lid.176; below it a text is in the language that its source says, where it says one


def judged(policy: Quality, name: str, documents: pa.Table) -> list[str | None]:
    """Why each document is left out, or None."""
    return [
        reason(policy, name, language(said, found, score), signals)
        for said, found, score, signals in zip(
            *(documents[column].to_pylist() for column in COLUMNS), strict=True
        )
    ]


def language(said: str, found: str, score: float) -> str:
    """A document's language by ISO 639-1, as far as it is known."""
    return found if score >= SURE else said.lower().replace("_", "-").split("-")[0]


def reason(policy: Quality, name: str, language: str, signals: str) -> str | None:
    """Why a text is left out.

    One in a language without bounds is not judged: another language's are never applied to it.
    """
    bounds = policy.languages.get(language)
    if bounds is None:
        return None if policy.others == "keep" else f"{name}: no bounds for its language"
    if not signals:
        return f"{name}: too short to be judged"
    found: dict[str, Any] = json.loads(signals)
    for signal, (least, most) in bounds.items():
        value = found.get(signal)
        if value is None:  # a text counted by characters has no word length
            continue
        if (least is not None and value < least) or (most is not None and value > most):
            return f"{name}: {signal}"
    return None
