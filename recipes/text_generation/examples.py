"""Documents to examples: whole texts in the languages that conf names."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

OTHER_LANGUAGE = "another language"


def label(documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
    """One example per document in a language of `options["languages"]`: its name here to how sources write it.

    The question is the text itself, "how likely is this?", so there is nothing to answer: the target is
    the same for all, and copies are sought among all texts. The unit is what translations of one text
    share: the article's number, or the original string (docs/log.md, "The unit of resampling").
    """
    import pandas as pd

    names = spelled(options.get("languages") or {})
    rows = []
    for row in documents.itertuples(index=False):
        language = names.get(row.language) or names.get(str(row.language).split("@")[0]) if names else row.language
        rows.append({
            "doc_id": row.doc_id, "inputs": json.dumps({"prompt": row.text}, ensure_ascii=False), "target": json.dumps({"text": ""}),
            "confidence": 1.0, "votes": "{}", "unit": f"{row.source} {row.original or place(row.part)}",
            "slices": json.dumps({"domain": row.source, "language": language or "", "script": row.script or ""}),
            "dropped": None if language else OTHER_LANGUAGE,
        })
    return pd.DataFrame(rows)


def place(part: str) -> str:
    """A part's place, alike in every translation: "article-21-2", the second of that number in a file, is article-21."""
    match = re.fullmatch(r"(.*?-\d+)(?:-\d+)?", part)
    return match.group(1) if match else part


def spelled(languages: dict[str, Any]) -> dict[str, str]:
    """How a source writes a language to its name here; ValueError where two languages claim one spelling."""
    found: dict[str, str] = {}
    for name, spellings in languages.items():
        for spelling in {name, *([spellings] if isinstance(spellings, str) else spellings)}:
            if found.setdefault(spelling, name) != name:
                raise ValueError(f"label.languages: '{spelling}' is given to {found[spelling]} and to {name}; keep one")
    return found
