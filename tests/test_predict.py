"""A whole file answered: every row has its answer or a reason, and a killed run goes on."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tasks.predict import results, rows, scoring
from tasks.predict.__main__ import main, version
from tasks.predict.rows import Questions
from tests.conftest import HERE
from tests.support.serving import Project
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused

TEXTS = ["guten Morgen", "good morning to you", "", "buenos dias amigos", "bonjour tout le monde"]


@pytest.fixture
def here(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(paths, "root", lambda: project.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.folder}/.tidemill/mlflow.db")
    yield tmp_path


def table(path: Path, texts: list[str]) -> Path:
    pd.DataFrame({"id": range(len(texts)), "Comment": texts}).to_csv(path, index=False)
    return path


def test_every_row_of_a_table_keeps_its_columns_and_has_an_answer_or_a_reason(
    project: Project, tmp_path: Path
) -> None:
    path = table(tmp_path / "in.csv", TEXTS)
    out = tmp_path / "out.csv"
    arguments = ["predict", "languages", str(path), "--out", str(out), "--json"]
    done = project.clone.tidemill(*arguments)
    assert done.returncode == 2 and "no column 'text'" in done.stderr, done.stderr
    assert "name one with --column text=COLUMN" in done.stderr and not out.exists()
    done = project.clone.tidemill(*arguments, "--column", "text=Comment")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rows"], told["answered"]) == (5, 4) and "text" in told["first_error"]
    with out.open(newline="") as file:
        answered = list(csv.DictReader(file))
    assert [row["Comment"] for row in answered] == TEXTS
    assert [bool(row["error"]) for row in answered] == [not text for text in TEXTS]
    assert {row["version"] for row in answered} == {told["version"]}
    one = project.clone.tidemill("predict", "languages", TEXTS[0], "--json")
    answer = json.loads(one.stdout)["answer"]
    assert answered[0]["answer_language"] == answer["language"]
    assert float(answered[0]["answer_confidence"]) == pytest.approx(answer["confidence"], abs=1e-4)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_two_runs_with_one_file_of_answers_do_not_replace_each_other(here: Path) -> None:
    path = table(here / "in.csv", TEXTS)
    arguments = ["languages", str(path), "--out", str(here / "out.csv"), "--column", "text=Comment"]

    def outcome(_: int) -> str:
        try:
            return f"{main(arguments).rows} rows"
        except Refused as error:
            return str(error)

    with ThreadPoolExecutor(2) as both:
        ends = sorted(both.map(outcome, range(2)))
    assert ends[1] == "5 rows" or ends[0] == "5 rows"
    assert sum("exists; name another file, or say --overwrite" in end for end in ends) == 1


def test_options_of_a_whole_file_are_refused_where_one_question_is_asked(
    project: Project,
) -> None:
    for option in (["--overwrite"], ["--column", "text=Comment"]):
        done = project.clone.tidemill("predict", "languages", "guten Morgen", *option)
        assert done.returncode == 2 and "name its answers by --out" in done.stderr


class Killed(Exception):
    pass


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "PART_ROWS", 4)
    texts = [f"the text number {number} of the file" for number in range(18)]
    model = version("languages", "")
    asked = Questions(table(here / "in.csv", texts), model.recipe.Input, {"text": "Comment"})
    whole = scoring.score(model, asked, here / "whole.parquet")
    assert (whole.rows, whole.resumed_at) == (18, 0)
    parts: list[Path] = []
    plain = scoring.write

    def dies(path: Path, content: Any) -> None:
        if len(parts) == 4:  # what they are of, and three parts
            raise Killed
        parts.append(path)
        plain(path, content)

    monkeypatch.setattr(scoring, "write", dies)
    with pytest.raises(Killed):
        scoring.score(model, asked, here / "again.parquet")
    assert not (here / "again.parquet").exists()
    monkeypatch.setattr(scoring, "write", plain)
    again = scoring.score(model, asked, here / "again.parquet")
    assert (again.rows, again.resumed_at) == (18, 12)
    assert (here / "again.parquet").read_bytes() == (here / "whole.parquet").read_bytes()
    with pytest.raises(Refused, match="exists; name another file, or say --overwrite"):
        scoring.score(model, asked, here / "again.parquet")


def test_parts_of_other_rows_are_not_taken(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "PART_ROWS", 2)
    model = version("languages", "")
    columns = {"text": "Comment"}
    asked = Questions(table(here / "in.csv", TEXTS), model.recipe.Input, columns)
    monkeypatch.setattr(results, "joined", lambda parts, out: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        scoring.score(model, asked, here / "out.jsonl")
    monkeypatch.undo()
    monkeypatch.setattr(scoring, "PART_ROWS", 2)
    table(here / "in.csv", ["another text", *TEXTS[1:]])
    told = scoring.score(model, asked, here / "out.jsonl")
    first = json.loads((here / "out.jsonl").read_text().splitlines()[0])
    assert told.resumed_at == 0 and first["Comment"] == "another text"


def test_a_folder_of_pictures_is_answered_file_by_file(here: Path) -> None:
    from PIL import Image

    (here / "pictures" / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.png", "sub/b.png")):
        Image.new("L", (28, 28), 40 * number).save(here / "pictures" / name)
    (here / "pictures" / "notes.txt").write_text("no picture")
    out = here / "out.jsonl"
    told = main(["images", str(here / "pictures"), "--out", str(out)])
    answered = [json.loads(line) for line in out.read_text().splitlines()]
    assert (told.rows, told.answered) == (3, 2)
    assert [row["file"] for row in answered] == ["a.png", "notes.txt", "sub/b.png"]
    assert "image" not in answered[0] and answered[0]["answer_label"]
    assert answered[1]["error"] and answered[0]["error"] is None


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("in.xlsx", b"PK", "read are a folder and files .csv"),
        ("gone.csv", None, "no such file or folder"),
        ("in.csv", b"text\n\xff\xfe", "no table in UTF-8"),
        ("in.csv", b"", "has no row"),
        ("in.jsonl", b'{"text": "a"}\n[1]\n', "line 2: a JSON object is wanted"),
        ("in.jsonl", b'{"text": "a"}\nx\n', "line 2: no JSON"),
        ("in.parquet", b"x", "no parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    here: Path, name: str, body: bytes | None, words: str
) -> None:
    if body is not None:
        (here / name).write_bytes(body)
    with pytest.raises(Refused, match=words) as refused:
        main(["languages", str(here / name), "--out", str(here / "out.csv")])
    assert "\n" not in str(refused.value)
    assert [path.name for path in here.iterdir()] == ([] if body is None else [name])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody", "x", "--out", "y.csv"], "no recipe 'nobody'"),
        (["languages", "x.csv", "--out", "y.xlsx"], r"written are \.jsonl"),
        (["languages", "x.csv", "--out", "no/such/y.csv"], "no folder"),
        (["languages", "x.csv"], "--out"),
        (["languages", "x.csv", "--out", "y.csv", "--column", "text"], "FIELD=COLUMN is wanted"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(here: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        main(arguments)


CELLS = (
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text() | st.lists(st.integers())
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from("abc"), CELLS), min_size=1, max_size=5))
def test_what_a_table_holds_of_mixed_rows_is_read_again(
    tmp_path: Path, some: list[dict[str, Any]]
) -> None:
    part = tmp_path / "0.jsonl"
    part.write_bytes(rows.lines([{"z": 1, **row} for row in some]))
    results.joined([part, part], tmp_path / "out.parquet")
    # Not by pandas, to which a whole number beside a missing one is a float of 53 bits.
    read = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [back["z"] for back in read] == [1] * (2 * len(some))
    for row, back in zip(some, read, strict=False):
        for name, value in row.items():
            there = back[name]
            assert there == value or json.loads(there) == value
    results.joined([part], tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(some)


def test_the_docs_name_it() -> None:
    assert "--out" in (HERE / "docs" / "serve.md").read_text()


def test_what_a_table_cannot_hold_as_it_is_costs_no_answer(tmp_path: Path) -> None:
    kept = [
        {"wide": 2**64, "mixed": 2**53 + 1, "id": 2**53 + 1, "gap": float("nan")},
        {"wide": 1, "mixed": 1.5, "id": 2, "gap": 1.0},
    ]
    part = tmp_path / "part"
    part.write_bytes(rows.lines(kept))
    assert "NaN" not in part.read_text()
    for form in results.FORMS:
        results.joined([part], tmp_path / f"out{form}")
    read = pd.read_parquet(tmp_path / "out.parquet")
    assert read["wide"].tolist() == [str(2**64), "1"]
    assert read["mixed"].tolist() == [str(2**53 + 1), "1.5"]
    assert read["id"].tolist() == [2**53 + 1, 2] and read["gap"].isna().tolist() == [True, False]


@pytest.mark.parametrize("form", results.FORMS)
def test_half_a_character_in_a_row_costs_no_file(tmp_path: Path, form: str) -> None:
    class Input(BaseModel):
        text: str

    asked = tmp_path / "in.jsonl"
    asked.write_text('{"text": "half \\ud800 of one", "\\udc00": 1}\n')
    part = tmp_path / "part"
    part.write_bytes(rows.lines(list(Questions(asked, Input, {}).rows())))
    results.joined([part], tmp_path / f"out{form}")
    assert (tmp_path / f"out{form}").stat().st_size


@pytest.mark.parametrize(
    ("name", "body", "why"),
    [
        ("in.jsonl", "[" * 100_000, "line 1: no JSON"),
        ("in.csv", "text,text\na,b\n", "two columns are called 'text'"),
    ],
)
def test_rows_that_cannot_be_told_apart_or_read_are_refused_in_one_line(
    tmp_path: Path, name: str, body: str, why: str
) -> None:
    class Input(BaseModel):
        text: str

    (tmp_path / name).write_text(body)
    with pytest.raises(Refused, match=why):
        list(Questions(tmp_path / name, Input, {}).rows())


def test_a_column_that_an_answer_would_replace_is_refused(here: Path) -> None:
    for name in ("error", "version", "answer_language"):
        (here / "in.csv").write_text(f"text,{name}\nguten Morgen,mine\n")
        with pytest.raises(Refused, match=f"'{name}' would be replaced.*rename"):
            main(["languages", str(here / "in.csv"), "--out", str(here / "out.csv")])


def test_answers_are_not_written_among_the_questions(here: Path) -> None:
    (here / "asked").mkdir()
    (here / "asked" / "one.txt").write_text("guten Morgen")
    with pytest.raises(Refused, match=r"lies in .* name another folder"):
        main(["languages", str(here / "asked"), "--out", str(here / "asked" / "out.csv")])


# Files that wait ----------------------------------------------------------------------------------


@pytest.fixture
def waiting(project: Project) -> Iterator[Path]:
    """A folder of questions that a recipe names."""
    recipe = project.folder / "conf/recipe/languages.yaml"
    before = recipe.read_text()
    answers = {"reads": "questions", "writes": "answers", "columns": {"text": "Comment"}}
    recipe.write_text(before + yaml.safe_dump({"answers": {**answers, "form": "csv"}}))
    (project.folder / "questions").mkdir()
    yield project.folder / "questions"
    recipe.write_text(before)
    for folder in ("questions", "answers", ".tidemill/answers"):
        shutil.rmtree(project.folder / folder, ignore_errors=True)


def test_a_waiting_file_is_answered_once_and_again_when_it_changes(
    project: Project, waiting: Path
) -> None:
    def answered() -> dict[str, Any]:
        done = project.clone.tidemill("answer", "languages", "--json")
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    table(waiting / "a.csv", TEXTS)
    table(waiting / "b.csv", TEXTS[:2])
    (waiting / "c.csv").write_text("other\n1\n")
    (waiting / ".half.csv").write_text("Comment\nx\n")
    (waiting / "notes.txt").write_text("no table")
    told = answered()
    assert told["answered"] == {"a.csv": 5, "b.csv": 2} and told["unchanged"] == 0
    assert list(told["refused"]) == ["c.csv"] and "no column 'Comment'" in told["refused"]["c.csv"]
    folder = project.folder / "answers"
    assert sorted(path.name for path in folder.iterdir()) == ["a.csv.csv", "b.csv.csv"]
    first = (folder / "a.csv.csv").read_bytes()
    table(waiting / "b.csv", TEXTS[:3])
    (folder / "a.csv.csv").unlink()
    told = answered()
    assert told["answered"] == {"a.csv": 5, "b.csv": 3} and told["unchanged"] == 0
    assert (folder / "a.csv.csv").read_bytes() == first
    told = answered()
    assert told["answered"] == {} and told["unchanged"] == 2
    done = project.clone.tidemill("answer", "languages")
    assert done.returncode == 1 and "c.csv: not answered: " in done.stderr


def test_what_was_answered_is_one_line_that_says_what_was_not(
    project: Project, waiting: Path, here: Path
) -> None:
    from tasks.predict.waiting import answered

    table(waiting / "a.csv", TEXTS)
    words = answered("languages").in_words()
    assert words.startswith("1 files answered (5 rows) by version ")
    (waiting / "c.csv").write_text("other\n1\n")
    words = answered("languages").in_words()
    assert words.startswith("Failed: 1 files not answered, c.csv first: ")
    assert "1 as before" in words


NIGHT = """
from flows.answer import asked
from flows.nightly import _with_answers
assert asked() == ["languages"], asked()
assert _with_answers("Promoted", "1 files") == "Promoted; 1 files"
assert _with_answers("Promoted", "Failed: c.csv").startswith("Failed: c.csv; before that")
assert _with_answers("Failed: no network", "Failed: c.csv").startswith("Failed: no network; ")
"""


def test_a_night_with_a_file_that_is_not_answered_is_failed(
    project: Project, waiting: Path
) -> None:
    """In a process of its own: to import flows is to hand the logs to Prefect."""
    command = [sys.executable, "-c", NIGHT]
    folder, env = project.folder, project.clone.env
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_folders_that_would_answer_answers_are_refused(project: Project, waiting: Path) -> None:
    recipe = project.folder / "conf/recipe/languages.yaml"
    for reads, writes, words in (
        ("questions", "questions/answers", "lie in each other"),
        ("questions", "questions", "lie in each other"),
        ("/tmp/x", "answers", "name a folder of the project"),
        ("../x", "answers", "name a folder of the project"),
        ("gone", "answers", "no folder gone; make it"),
    ):
        body = yaml.safe_load(recipe.read_text()) | {"answers": {"reads": reads, "writes": writes}}
        recipe.write_text(yaml.safe_dump(body))
        done = project.clone.tidemill("answer", "languages")
        assert done.returncode == 2 and words in done.stderr, done.stderr
