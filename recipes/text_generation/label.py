"""Documents to examples: a text is its own target, and its language is what its source says."""

from __future__ import annotations

import json
import re
from typing import Any

import pandas as pd

# What follows the whole text is its end; the same for all, so that copies are sought among all languages.
TARGET = json.dumps({"text": "", "finish": "end"})


def label(documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
    """`languages` maps each language kept to the codes that sources have for it; none named: all, as they are called.

    `given` names the language of sources that name none; `unit` maps a source to the column whose equal values
    make one unit of resampling (translations of one string or article are hard or easy together).
    """
    codes = {str(code): name for name, others in (options.get("languages") or {}).items() for code in {name, *others}}
    given, unit = options.get("given") or {}, options.get("unit") or {}
    rows = []
    for row in documents.to_dict("records"):
        said = row["language"] or given.get(row["source"], "")
        language = codes.get(said, "" if codes else said)
        column = unit.get(row["source"], "uri")
        if column not in row:
            raise ValueError(f"label.unit of {row['source']}: documents have no column '{column}'")
        rows.append({
            "doc_id": row["doc_id"], "inputs": json.dumps({"prompt": row["text"]}, ensure_ascii=False), "target": TARGET,
            "confidence": 1.0, "votes": json.dumps({"source": said}), "unit": f"{row['source']}: {row[column]}",
            "slices": json.dumps({"language": language, "script": row["letter_script"], "domain": row["source"]}, sort_keys=True),
            "dropped": None if language else ("its source names no language" if not said else "not a language of this application"),
        })
    return pd.DataFrame(rows)


def numbered(part: str) -> str:
    """A part's name without the number of a repeated one."""
    return re.sub(r"^(\w+-\d+)-\d+$", r"\1", part)
