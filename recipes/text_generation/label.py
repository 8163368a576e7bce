"""Documents to examples: a text is its own target, and its language is what its source says."""

from __future__ import annotations

import json
import re
from typing import Any, Literal, NamedTuple

import pandas as pd

from recipes.text_generation.conversations import unfit
from tidemill.kit.label_options import LabelOptions, options_as

# What follows the whole text is its end; the same for all, so that copies are sought among all
# languages.
TARGET = json.dumps({"text": "", "finish": "end"})


class TextOptions(LabelOptions):
    """Which languages are kept, as sources call them, and the form of a document."""

    languages: dict[str, str | list[str]] | None = None
    given: dict[str, str] | None = None
    form: Literal["texts", "conversations"] = "texts"


def label(documents: pd.DataFrame, options: dict[str, object]) -> pd.DataFrame:
    """`languages` maps each language kept to what sources call it; none named.

    All, as they are called.

    `given` names the language of a source that names none. The unit is what translations of one
    text share, the article's number or the original string, since they are hard or easy together;
    else the document. With `form: conversations` a document is the JSON of a list of messages, or
    of an object that has it as `messages`.
    """
    asked = options_as(TextOptions, options)
    names, given = spelled(asked.languages or {}), asked.given or {}
    rows = []
    for row in documents.to_dict("records"):
        said = row["language"] or given.get(row["source"], "")
        language = names.get(said, "") if names else said
        spoken = conversation(row["text"]) if asked.form == "conversations" else text(row["text"])
        rows.append(
            {
                "doc_id": row["doc_id"],
                "inputs": spoken.inputs,
                "target": spoken.target,
                "confidence": 1.0,
                "votes": json.dumps({"source": said}),
                "unit": row["original"] or place(row),
                "slices": json.dumps(
                    {"language": language, "script": row["letter_script"], "domain": row["source"]},
                    sort_keys=True,
                ),
                "dropped": spoken.unfit or unnamed(language, said),
            }
        )
    return pd.DataFrame(rows)


class Spoken(NamedTuple):
    """A document as an example's question and answer, each JSON."""

    inputs: str
    target: str
    unfit: str = ""


def text(words: str) -> Spoken:
    return Spoken(json.dumps({"prompt": words}, ensure_ascii=False), TARGET)


def conversation(words: str) -> Spoken:
    """The messages before the last answer, and that one."""
    try:
        body = json.loads(words)
        messages = body["messages"] if isinstance(body, dict) else body
        reason = unfit(messages)
    except (ValueError, KeyError, TypeError, AttributeError):
        reason = "not JSON of a list of messages"
    if reason:
        return Spoken(json.dumps({"prompt": ""}), TARGET, f"no conversation: {reason}")
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
    inputs = json.dumps({"prompt": "", "messages": turns[:-1]}, ensure_ascii=False)
    answer = {"text": turns[-1]["content"], "finish": "end"}
    return Spoken(inputs, json.dumps(answer, ensure_ascii=False))


def unnamed(language: str, said: str) -> str | None:
    """Why a document's language keeps it out; None where it does not."""
    if language:
        return None
    return "not a language of this application" if said else "its source names no language"


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
