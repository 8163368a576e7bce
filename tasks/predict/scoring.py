"""Every row of a file answered by one version, part by part; a killed run goes on where it was."""

import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.predict import results
from tasks.predict.rows import Questions, Row, batched, lines
from tasks.serve.loaded_model import LoadedModel, UnsoundAnswer, as_json
from tidemill.engines import config
from tidemill.records.receipts import Predicted
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.escape import line
from tidemill.runtime.files import digest, locked, swept, write

log = logging.getLogger(__name__)
PART_ROWS = 1024  # what a kill costs at most
BATCH_ROWS = 64
ANSWER = "answer_"  # before the name of a field of the answer
ERROR = "error"  # why a row has no answer


def score(
    model: LoadedModel, questions: Questions, out: Path, overwrite: bool = False
) -> Predicted:
    """Answer each row of `questions` and write them to `out`. Raises Refused.

    A row keeps its columns but for what is no text, such as a picture, and gets the fields of its
    answer, the version and its digest, or why it has no answer.
    """
    _check_apart(questions.path, out)
    folder = out.absolute().parent / f".{out.name}.parts"
    with locked(paths.state("locks", f"predict-{digest(str(folder))[:16]}")):
        results.check(out, overwrite)  # another run may have written it just now
        folder.mkdir(exist_ok=True)
        swept(folder)
        finished = _resumed(folder, PartsHead.of(model, questions))
        resumed_at = sum(_count(path) for path in finished)
        try:
            _answer_rest(model, questions, folder, finished, resumed_at)
        except Refused:
            if not finished:
                shutil.rmtree(folder)
            raise
        results.joined(finished, out)
        summary = _summary(model, finished, resumed_at, out)
        shutil.rmtree(folder)
    return summary


def _answer_rest(
    model: LoadedModel, questions: Questions, folder: Path, finished: list[Path], done: int
) -> None:
    """Answer the rows from `done` on; `finished` gets their parts. Raises Refused."""
    parts = batched(questions.rows(done), PART_ROWS)
    for number, rows in enumerate(parts, start=len(finished)):
        if number == 0:
            questions.check(rows[0])
        _check_names(model, questions, rows)
        part = folder / f"{number:06d}.jsonl"
        write(part, lines(_answered(model, questions, rows)))
        finished.append(part)
        done += len(rows)
        process.progress(done, None, "rows")
    if not finished:
        raise Refused(f"{questions.path} has no row")


def _check_apart(asked: Path, out: Path) -> None:
    """Refuse an answers' file within the folder that is read: it would be a question itself."""
    if asked.is_dir() and out.resolve().is_relative_to(asked.resolve()):
        raise Refused(f"--out {out} lies in {asked}, whose files are read; name another folder")


def _check_names(model: LoadedModel, questions: Questions, rows: list[Row]) -> None:
    """Refuse columns that the answers' own would replace."""
    answers = {f"{ANSWER}{name}" for name in model.recipe.Output.model_fields}
    for row in rows:
        taken = sorted((answers | {"version", "digest", ERROR}).intersection(row))
        if taken:
            raise Refused(
                f"{questions.path}: its column '{taken[0]}' would be replaced by the answers' own; "
                "rename it"
            )


class PartsHead(BaseModel):
    """What finished parts are of; parts of anything else are made again."""

    application: str
    version: str
    digest: str
    rows: str
    columns: dict[str, str]
    part_rows: int

    @classmethod
    def of(cls, model: LoadedModel, questions: Questions) -> "PartsHead":
        return cls(
            application=model.application,
            version=model.version,
            digest=model.digest,
            rows=questions.fingerprint(),
            columns=questions.columns,
            part_rows=PART_ROWS,
        )


@dataclass(frozen=True)
class RowOutcome:
    """A row's answer, or why it has none."""

    answer: BaseModel | None = None
    error: str | None = None


def _resumed(folder: Path, head: PartsHead) -> list[Path]:
    """The parts that an earlier run of the same left; those of another are removed."""
    path = folder / "head.json"
    parts = sorted(folder.glob("*.jsonl"))
    if path.is_file() and path.read_text() == head.model_dump_json():
        if parts:
            log.info("%d finished parts are kept", len(parts))
        return parts
    for part in parts:
        part.unlink()
    write(path, head.model_dump_json())
    return []


def _count(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _answered(model: LoadedModel, questions: Questions, rows: Iterable[Row]) -> list[Row]:
    """Rows with their answers, or with why they have none."""
    answered = []
    for batch in batched(rows, BATCH_ROWS):
        asked = [_question(model, questions, row) for row in batch]
        answers = iter(_answers(model, [one for one in asked if isinstance(one, BaseModel)]))
        for row, question in zip(batch, asked, strict=True):
            outcome = RowOutcome(error=question) if isinstance(question, str) else next(answers)
            answered.append({**_kept(questions, row), **_columns(model, outcome)})
    return answered


def _question(model: LoadedModel, questions: Questions, row: Row) -> BaseModel | str:
    """A row as the application's input, or what is wrong with it.

    A cell of a table that is no text may stand there as JSON.
    """
    asked = questions.asked(row)
    try:
        question = questions.kind.model_validate(asked)
        return model.unfit(question) or question
    except ValidationError as error:
        first = error
    try:
        values = {key: _value(cell) for key, cell in asked.items()}
        question = questions.kind.model_validate(values)
        return model.unfit(question) or question
    except ValidationError:
        return config.problems(first, "input", questions.kind)


def _value(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def _answers(model: LoadedModel, asked: list[BaseModel]) -> list[RowOutcome]:
    """Each question's answer, or why there is none; one that breaks the model costs no other."""
    if not asked:
        return []
    try:
        return [_sound(model, answer) for answer in model.answers(asked)]
    except MemoryError:
        raise  # no row's fault: the run goes on where it was once there is memory
    except Exception as error:
        if len(asked) == 1:
            return [RowOutcome(error=f"{type(error).__name__}: {line(error)[:300]}")]
    return [outcome for one in asked for outcome in _answers(model, [one])]


def _sound(model: LoadedModel, answer: BaseModel) -> RowOutcome:
    try:
        as_json(answer, model.recipe.Output)
    except UnsoundAnswer as error:
        return RowOutcome(error=str(error))
    return RowOutcome(answer=answer)


def _kept(questions: Questions, row: Row) -> Row:
    """A row's columns without encoded bytes."""
    encoded = {
        questions.columns.get(name, name)
        for name, field in questions.kind.model_fields.items()
        if isinstance(field.json_schema_extra, dict)
        and "contentEncoding" in field.json_schema_extra
    }
    return {name: value for name, value in row.items() if name not in encoded}


def _columns(model: LoadedModel, outcome: RowOutcome) -> Row:
    fields = outcome.answer.model_dump(mode="json") if outcome.answer else {}
    return {
        **{f"{ANSWER}{name}": value for name, value in fields.items()},
        "version": model.version,
        "digest": model.digest,
        ERROR: outcome.error,
    }


def _summary(model: LoadedModel, parts: list[Path], resumed_at: int, out: Path) -> Predicted:
    rows = answered = 0
    first: str | None = None
    for path in parts:
        with path.open("rb") as file:
            for text in file:
                error = json.loads(text)[ERROR]
                rows += 1
                answered += error is None
                first = first or error
    return Predicted(
        application=model.application,
        version=model.version,
        digest=model.digest,
        rows=rows,
        answered=answered,
        resumed_at=resumed_at,
        first_error=first,
        out=str(out),
    )
