"""What people say: their labels win. They lie in data/people/RECIPE.jsonl, in git, a line a person's answer, and come from Label Studio's JSON.

A line is {"example_id", "answer", "person"}; a person is a number or a short hash, never an address.
"""

import base64
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from tidemill.runtime import paths
from tidemill.runtime.errors import Refused
from tidemill.runtime.escape import html
from tidemill.runtime.files import write

NONE = "(none of these)"
MOST_ANSWERS = 2_000


def path(recipe: str) -> Path:
    return paths.data("people", recipe).with_suffix(".jsonl")


def lines(recipe: str) -> list[dict[str, str]]:
    """What was imported, as it lies there."""
    where = path(recipe)
    if not where.is_file():
        return []
    found = []
    for number, line in enumerate(
        where.read_text("utf-8").split("\n"), 1
    ):  # JSON knows no other end of a line
        if not line.strip():
            continue
        try:
            told = json.loads(line)
            found.append({name: str(told[name]) for name in ("example_id", "answer", "person")})
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(
                f"data/people/{recipe}.jsonl, line {number}: no JSON with example_id, answer and person; mend or remove the line"
            ) from error
    return found


def answers(recipe: str) -> dict[str, str]:
    """What most people say of each example, each with one voice; where as many say otherwise nothing is taken."""
    last = {(line["example_id"], line["person"]): line["answer"] for line in lines(recipe)}
    said: dict[str, Counter[str]] = {}
    for (example, _), answer in last.items():
        said.setdefault(example, Counter())[answer] += 1
    found = {}
    for example, counts in said.items():
        (answer, most), *others = counts.most_common()
        if not others or others[0][1] < most:
            found[example] = answer
    return found


# Out ----------------------------------------------------------------------------------------------


def field(examples: pd.DataFrame, recipe: str) -> str:
    """The one field of the answers, which must be a word."""
    target = json.loads(examples["target"].iloc[0])
    if len(target) != 1 or not isinstance(next(iter(target.values())), str):
        raise Refused(
            f"the answers of {recipe} are no labels ({', '.join(target)}), so people cannot choose among them"
        )
    return str(next(iter(target)))


def tasks(examples: pd.DataFrame, recipe: str, rows: int) -> tuple[list[dict[str, Any]], str]:
    """Label Studio's tasks for the least certain examples, and its labelling configuration."""
    name = field(examples, recipe)
    names = sorted({json.loads(item)[name] for item in examples["target"].unique()})
    if len(names) > MOST_ANSWERS:
        raise Refused(
            f"{recipe} has {len(names):,} different answers; people can choose among {MOST_ANSWERS:,} at most"
        )
    done = set(answers(recipe))
    order = (
        examples[~examples["example_id"].isin(done)]
        .sort_values(["confidence", "example_id"], kind="stable")
        .head(rows)
    )
    pictures = "payload" in order and order["payload"].notna().any()
    found = []
    row: Any
    for row in order.itertuples(index=False):
        question = json.loads(row.inputs)
        data = {
            "example_id": row.example_id,
            "source": row.source,
            **(
                {"image": uri(row.payload)}
                if pictures
                else {"text": "\n".join(str(value) for value in question.values())}
            ),
        }
        found.append(
            {
                "data": data,
                "predictions": [
                    {
                        "model_version": "votes",
                        "score": float(row.confidence),
                        "result": [
                            {
                                "from_name": "answer",
                                "to_name": "question",
                                "type": "choices",
                                "value": {"choices": [json.loads(row.target)[name]]},
                            }
                        ],
                    }
                ],
            }
        )
    choices = "\n".join(f'    <Choice value="{html(choice)}"/>' for choice in [*names, NONE])
    shown = (
        '<Image name="question" value="$image"/>'
        if pictures
        else '<Text name="question" value="$text"/>'
    )
    return (
        found,
        f'<View>\n  {shown}\n  <Choices name="answer" toName="question" choice="single" layout="select">\n{choices}\n  </Choices>\n</View>\n',
    )


def uri(payload: bytes) -> str:
    kind = (
        "png"
        if payload[:4] == b"\x89PNG"
        else "jpeg"
        if payload[:2] == b"\xff\xd8"
        else "gif"
        if payload[:3] == b"GIF"
        else "webp"
        if payload[8:12] == b"WEBP"
        else "bmp"
    )
    return f"data:image/{kind};base64,{base64.b64encode(payload).decode()}"


# In -----------------------------------------------------------------------------------------------


def taken(recipe: str, file: Path, examples: pd.DataFrame, new: bool = False) -> dict[str, int]:
    """Merge Label Studio's export, whole or JSON-MIN, into what people said before; a person's last word counts. Counts of what came of it."""
    try:
        told = json.loads(file.read_text("utf-8"))
        if not isinstance(told, list):
            raise ValueError
    except FileNotFoundError as error:
        raise Refused(
            f"{file} does not exist; export the project from Label Studio as JSON"
        ) from error
    except OSError as error:
        raise Refused(
            f"{file} cannot be read ({error.strerror}); name the file that Label Studio exported"
        ) from error
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(
            f"{file} is no list in JSON; export the project from Label Studio as JSON or JSON-MIN"
        ) from error
    known, name = set(examples["example_id"]), field(examples, recipe)
    allowed = {json.loads(item)[name] for item in examples["target"].unique()} | {NONE}
    counts: Counter[str] = Counter()
    kept = {(line["example_id"], line["person"]): line["answer"] for line in lines(recipe)}
    strange: Counter[str] = Counter()
    for task in told:
        whole = isinstance(task, dict) and isinstance(task.get("data", {}), dict)
        example = str((task.get("data") or task).get("example_id", "")) if whole else ""
        said = annotations(task) if whole else []
        if not example or example not in known:
            counts["of examples that are not here"] += max(1, len(said))
            continue
        if not said:
            counts["not answered"] += 1
        for person, answer in said:
            if not sound(answer) or not (new or answer in allowed):
                strange[answer] += 1
                continue
            counts[
                "new"
                if (example, person) not in kept
                else "as before"
                if kept[example, person] == answer
                else "changed"
            ] += 1
            kept[example, person] = answer
    if strange:
        words = ", ".join(f"{answer!r} ({count})" for answer, count in strange.most_common(5))
        raise Refused(
            f"{file}: {recipe} has no answer {words}; nothing was taken. Mend the file, or say --new where it is meant"
        )
    body = "".join(
        json.dumps({"example_id": example, "answer": answer, "person": person}, ensure_ascii=False)
        + "\n"
        for (example, person), answer in sorted(kept.items())
    )
    write(path(recipe), body)
    return dict(counts)


def sound(answer: str) -> bool:
    """Whether a file in UTF-8 can hold it: JSON may write half a character."""
    return not any("\ud800" <= letter <= "\udfff" for letter in answer)


def annotations(task: dict[str, Any]) -> list[tuple[str, str]]:
    """Who chose what, in Label Studio's JSON or JSON-MIN; cancelled ones and those without one choice are left out."""
    if not isinstance(task.get("annotations"), list):  # JSON-MIN has one answer a line
        answer = task.get("answer")
        return [(person(task.get("annotator")), str(answer))] if isinstance(answer, str) else []
    found = []
    ordered = sorted(
        (item for item in task["annotations"] if isinstance(item, dict)),
        key=lambda item: str(item.get("updated_at") or item.get("created_at") or ""),
    )
    for item in ordered:
        results = (
            [
                result
                for result in item.get("result") or []
                if isinstance(result, dict)
                and result.get("type") == "choices"
                and isinstance(result.get("value"), dict)
            ]
            if isinstance(item.get("result"), list)
            else []
        )
        chosen = [choice for result in results for choice in result["value"].get("choices") or []]
        if not item.get("was_cancelled") and len(chosen) == 1:
            found.append((person(item.get("completed_by")), str(chosen[0])))
    return list(dict(found).items())


def person(told: Any) -> str:
    """Somebody's number, or a hash of the address."""
    if isinstance(told, dict):
        told = told.get("id") or told.get("email")
    text = str(told or "somebody")
    return text if re.fullmatch(r"\d{1,9}", text) else hashlib.sha256(text.encode()).hexdigest()[:8]
