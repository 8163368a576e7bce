"""What people say: their labels win.

They lie in data/people/RECIPE.jsonl, in git, a line a person's answer.

They come from Label Studio's JSON. A line is {"example_id", "answer", "person"}, with "at" (UTC)
and "project" where the export has them; a person is a number or a short hash, never an address. The
newest by time holds, in whatever order exports are imported, so an answer that was withdrawn stays
as a line that says so.
"""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pandas as pd

from tidemill.records.reports import Unmatched
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused
from tidemill.runtime.escape import html
from tidemill.runtime.files import write

NONE = "(none of these)"
WITHDRAWN = "(withdrawn)"
MOST_ANSWERS = 2_000


def path(recipe: str) -> Path:
    return paths.data("people", recipe).with_suffix(".jsonl")


class TaskData(TypedDict):
    """What people are shown, and of which example it is."""

    example_id: str
    source: str
    text: NotRequired[str]
    image: NotRequired[str]  # a data: address; one of the two is there


class Choices(TypedDict):
    choices: list[str]


class ChoiceResult(TypedDict):
    """An answer in Label Studio's terms: by which control, about which object."""

    from_name: str
    to_name: str
    type: str
    value: Choices


class Prediction(TypedDict):
    model_version: str
    score: float
    result: list[ChoiceResult]


class StudioTask(TypedDict):
    """A task for Label Studio, with the answer of the votes."""

    data: TaskData
    predictions: list[Prediction]


@dataclass(frozen=True)
class ExportedTask:
    """What an export says of a task beside its answers; empty where it says nothing."""

    example_id: str
    text: str
    project: str
    at: str  # when it last changed, in UTC
    is_whole: bool  # it has a list of annotations; a line of JSON-MIN has one answer


@dataclass(frozen=True)
class Given:
    """One person's answer to one example; `at` is when, in UTC, or empty where nobody knows."""

    example_id: str
    person: str
    answer: str
    at: str = ""
    project: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.example_id, self.person

    def line(self) -> str:
        fields = {"example_id": self.example_id, "answer": self.answer, "person": self.person}
        known = {"at": self.at, "project": self.project}
        fields |= {name: value for name, value in known.items() if value}
        return json.dumps(fields, ensure_ascii=False) + "\n"


def lines(recipe: str) -> list[Given]:
    """What was imported, as it lies there."""
    where = path(recipe)
    if not where.is_file():
        return []
    given = []
    for number, line in enumerate(where.read_text("utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            example, person, answer = (
                str(fields[name]) for name in ("example_id", "person", "answer")
            )
            at, project = utc(fields.get("at")), str(fields.get("project") or "")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(
                f"data/people/{recipe}.jsonl, line {number}: no JSON with example_id, answer and "
                f"person; mend or remove the line"
            ) from error
        given.append(Given(example, person, answer, at, project))
    return given


def newest(given: Iterable[Given]) -> dict[tuple[str, str], Given]:
    """Each person's last answer to each example: by time, and by place where times do not say."""
    last: dict[tuple[str, str], Given] = {}
    for answer in given:
        before = last.get(answer.key)
        if before is None or answer.at >= before.at:
            last[answer.key] = answer
    return last


def answers(recipe: str) -> dict[str, str]:
    """What most people say of each example, each with one voice.

    Where as many say otherwise nothing is taken.
    """
    votes: dict[str, Counter[str]] = {}
    for given in newest(lines(recipe)).values():
        if given.answer != WITHDRAWN:
            votes.setdefault(given.example_id, Counter())[given.answer] += 1
    decided = {}
    for example, counts in votes.items():
        (answer, most), *others = counts.most_common()
        if not others or others[0][1] < most:
            decided[example] = answer
    return decided


def unmatched(recipe: str, counts: Unmatched) -> str:
    """What is to be said of answers that find no example."""
    names = ", ".join(counts["examples"][:3])
    return (
        f"people's answers to {counts['answers']:,} examples of {recipe} find no example today, "
        f"such as {names}; they stay in data/people/{recipe}.jsonl. Their documents are gone, are "
        "left out or say something else; where only their ids changed, run: tidemill data carry "
        f"{recipe}"
    )


def utc(value: Any) -> str:
    """A time as ISO 8601 in UTC, so that times compare as text; empty where it is none."""
    try:
        time = datetime.fromisoformat(str(value or "").replace("Z", "+00:00"))
    except ValueError:
        return ""
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


# Out ----------------------------------------------------------------------------------------------


def field(examples: pd.DataFrame, recipe: str) -> str:
    """The one field of the answers, which must be a word."""
    target = json.loads(examples["target"].iloc[0])
    if len(target) != 1 or not isinstance(next(iter(target.values())), str):
        raise Refused(
            f"the answers of {recipe} are no labels ({', '.join(target)}), so people cannot "
            "choose among them"
        )
    return str(next(iter(target)))


def tasks(examples: pd.DataFrame, recipe: str, rows: int) -> tuple[list[StudioTask], str]:
    """Label Studio's tasks for the least certain examples, and its labelling configuration."""
    name = field(examples, recipe)
    names = sorted({json.loads(item)[name] for item in examples["target"].unique()})
    if len(names) > MOST_ANSWERS:
        raise Refused(
            f"{recipe} has {len(names):,} different answers; "
            f"people can choose among {MOST_ANSWERS:,} at most"
        )
    open_examples = examples[~examples["example_id"].isin(set(answers(recipe)))]
    order = open_examples.sort_values(["confidence", "example_id"], kind="stable").head(rows)
    pictures = "payload" in order and order["payload"].notna().any()
    payloads = order["payload"] if pictures else [None] * len(order)
    exported: list[StudioTask] = []
    row: Any
    for row, payload in zip(order.itertuples(index=False), payloads, strict=True):
        data: TaskData = {"example_id": row.example_id, "source": row.source}
        if payload is not None:
            data["image"] = uri(payload)
        else:
            data["text"] = shown_text(row.inputs)
        answer: ChoiceResult = {
            "from_name": "answer",
            "to_name": "question",
            "type": "choices",
            "value": {"choices": [json.loads(row.target)[name]]},
        }
        guess: Prediction = {
            "model_version": "votes",
            "score": float(row.confidence),
            "result": [answer],
        }
        exported.append({"data": data, "predictions": [guess]})
    return exported, _configuration([*names, NONE], bool(pictures))


def shown_text(inputs: str) -> str:
    """A question as people see it."""
    return "\n".join(str(value) for value in json.loads(inputs).values())


def _configuration(names: list[str], pictures: bool) -> str:
    choices = "\n".join(f'    <Choice value="{html(name)}"/>' for name in names)
    kind, field = ("Image", "image") if pictures else ("Text", "text")
    return (
        f'<View>\n  <{kind} name="question" value="${field}"/>\n'
        f'  <Choices name="answer" toName="question" choice="single" layout="select">\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )


SIGNATURES = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"GIF", "gif"), (b"RIFF", "webp"))


def uri(payload: bytes) -> str:
    kind = next((name for start, name in SIGNATURES if payload.startswith(start)), "bmp")
    return f"data:image/{kind};base64,{base64.b64encode(payload).decode()}"


# In -----------------------------------------------------------------------------------------------


def taken(recipe: str, file: Path, examples: pd.DataFrame, new: bool = False) -> dict[str, int]:
    """Merge Label Studio's export, whole or JSON-MIN, into what people said before.

    Counts of what came of it.

    A person's last word by time counts. An answer to a text that is not the example's of today is
    left out.
    """
    exported = _exported(file)
    name = field(examples, recipe)
    allowed = {json.loads(item)[name] for item in examples["target"].unique()} | {NONE, WITHDRAWN}
    texts = dict(zip(examples["example_id"], examples["inputs"], strict=True))
    kept = newest(lines(recipe))
    counts: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for task in exported:
        given, about = annotations(task), _about(task)
        why = _foreign(about, texts)
        if why:
            counts[why] += max(1, len(given))
            continue
        given += _deleted(about, given, kept)
        counts["not answered"] += all(answer.answer == WITHDRAWN for answer in given)
        for answer in given:
            if not sound(answer.answer) or not (new or answer.answer in allowed):
                unknown[answer.answer] += 1
            else:
                counts[_merged(answer, kept)] += 1
    if unknown:
        words = ", ".join(f"{answer!r} ({count})" for answer, count in unknown.most_common(5))
        raise Refused(
            f"{file}: {recipe} has no answer {words}; nothing was taken. "
            f"Mend the file, or say --new where it is meant"
        )
    write(path(recipe), "".join(given.line() for _, given in sorted(kept.items())))
    return {what: count for what, count in counts.items() if count and what}


def _exported(file: Path) -> list[Any]:
    """The tasks of an export. Raises Refused."""
    try:
        exported = json.loads(file.read_text("utf-8"))
        if not isinstance(exported, list):
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
    return exported


def _about(task: Any) -> ExportedTask:
    """What was exported with a task: beside its annotations, or in one with them in JSON-MIN."""
    if not isinstance(task, dict) or not isinstance(task.get("data", {}), dict):
        return ExportedTask("", "", "", "", False)
    data = task.get("data") or task
    text = data.get("text")
    return ExportedTask(
        str(data.get("example_id", "")),
        text if isinstance(text, str) else "",
        str(task.get("project") or ""),
        utc(task.get("updated_at")),
        isinstance(task.get("annotations"), list),
    )


def _foreign(about: ExportedTask, texts: dict[str, str]) -> str:
    """Why a task's answers are for no example of today; empty where they are."""
    if about.example_id not in texts:
        return "of examples that are not here"
    is_known = any(map(str.isalpha, about.text))
    edited = is_known and about.text != shown_text(texts[about.example_id])
    return "of texts that were edited since" if edited else ""


def _deleted(
    about: ExportedTask, given: list[Given], kept: dict[tuple[str, str], Given]
) -> list[Given]:
    """Answers of this project that the task has no longer, as withdrawn when it last changed."""
    if not about.is_whole:
        return []
    here = {answer.person for answer in given}
    return [
        Given(about.example_id, before.person, WITHDRAWN, about.at, about.project)
        for before in kept.values()
        if before.example_id == about.example_id
        and before.project == about.project
        and before.person not in here
        and before.answer != WITHDRAWN
        and (not about.at or about.at >= before.at)
    ]


def _merged(answer: Given, kept: dict[tuple[str, str], Given]) -> str:
    """Take an answer that is not older than what is there; what became of it."""
    before = kept.get(answer.key)
    if before is not None and answer.at and answer.at < before.at:
        return "older than what is here"
    if before is not None and not answer.at:  # imported now, so it is the newest that is known
        answer = replace(answer, at=before.at)
    if before is None and answer.answer == WITHDRAWN and not answer.at:
        return ""
    kept[answer.key] = answer
    if answer.answer == WITHDRAWN:
        return "withdrawn" if before is not None and before.answer != WITHDRAWN else ""
    if before is None or before.answer == WITHDRAWN:
        return "new"
    return "as before" if before.answer == answer.answer else "changed"


def sound(answer: str) -> bool:
    """Whether a file in UTF-8 can hold it: JSON may write half a character."""
    return not any("\ud800" <= letter <= "\udfff" for letter in answer)


def annotations(task: Any) -> list[Given]:
    """Who chose what, in Label Studio's JSON or JSON-MIN: each person's last annotation.

    One that was cancelled, or that has not one choice, is an answer that was withdrawn.
    """
    about = _about(task)
    example, project = about.example_id, about.project
    if not example:
        return []
    if not about.is_whole:  # JSON-MIN has one answer a line
        answer = task.get("answer")
        if not isinstance(answer, str):
            return []
        at = utc(task.get("updated_at") or task.get("created_at"))
        return [Given(example, person(task.get("annotator")), answer, at, project)]
    given = [
        Given(
            example,
            person(item.get("completed_by")),
            _choice(item.get("result"), bool(item.get("was_cancelled"))),
            utc(item.get("updated_at") or item.get("created_at")),
            project,
        )
        for item in task["annotations"]
        if isinstance(item, dict)
    ]
    return list(newest(given).values())


def _choice(results: object, was_cancelled: bool) -> str:
    """The one choice of an annotation, by its results as they were exported."""
    chosen = [
        choice
        for result in (results if isinstance(results, list) else [])
        if isinstance(result, dict) and result.get("type") == "choices"
        for choice in _choices(result.get("value"))
    ]
    is_answer = not was_cancelled and len(chosen) == 1
    return str(chosen[0]) if is_answer else WITHDRAWN


def _choices(value: object) -> list[Any]:
    choices = value.get("choices") if isinstance(value, dict) else None
    return choices if isinstance(choices, list) else []


def person(value: Any) -> str:
    """Somebody's number, or a hash of the address."""
    if isinstance(value, dict):
        value = value.get("id") or value.get("email")
    text = str(value or "somebody")
    return text if re.fullmatch(r"\d{1,9}", text) else hashlib.sha256(text.encode()).hexdigest()[:8]
