"""Documents to examples: a text is its own target, and its language is what its source says."""

from __future__ import annotations

import json
import re
from typing import Any

import pandas as pd

# What follows the whole text is its end; the same for all, so that copies are sought among all
# languages.
TARGET = json.dumps({"text": "", "finish": "end"})


def label(documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
    """`languages` maps each language kept to what sources call it; none named.

    All, as they are called.

    `given` names the language of a source that names none. The unit is what translations of one
    text share, the article's number or the original string, since they are hard or easy together;
    else the document.
    """
    names, given = spelled(options.get("languages") or {}), options.get("given") or {}
    rows = []
    for row in documents.to_dict("records"):
        said = row["language"] or given.get(row["source"], "")
        language = names.get(said, "") if names else said
        rows.append(
            {
                "doc_id": row["doc_id"],
                "inputs": json.dumps({"prompt": row["text"]}, ensure_ascii=False),
                "target": TARGET,
                "confidence": 1.0,
                "votes": json.dumps({"source": said}),
                "unit": row["original"] or place(row),
                "slices": json.dumps(
                    {"language": language, "script": row["letter_script"], "domain": row["source"]},
                    sort_keys=True,
                ),
                "dropped": None
                if language
                else "its source names no language"
                if not said
                else "not a language of this application",
            }
        )
    return pd.DataFrame(rows)


def place(row: dict[Any, Any]) -> str:
    """A part's place, alike in every translation.

    "article-21-2", the second of that number on a page, is article-21. Else the document.
    """
    match = re.fullmatch(r"(article-\d+|preamble)(?:-\d+)?", row["part"])
    return match.group(1) if match else row["doc_id"]


def spelled(languages: dict[str, str | list[str]]) -> dict[str, str]:
    """What sources call a language to its name here.

    ValueError where two languages claim one spelling.
    """
    names: dict[str, str] = {}
    for name, spellings in languages.items():
        for spelling in {name, *([spellings] if isinstance(spellings, str) else spellings)}:
            if names.setdefault(str(spelling), name) != name:
                raise ValueError(
                    f"label.languages: '{spelling}' is given to {names[spelling]} and to "
                    f"{name}; keep one"
                )
    return names
