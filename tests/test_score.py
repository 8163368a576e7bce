"""What the score step asks a candidate beside the test rows: of a real package, made in seconds."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import HERE
from tests.support import making
from tidemill.runtime import paths


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a tiny package of `languages` and its rows."""
    folder = tmp_path_factory.mktemp("score")
    shutil.copytree(HERE / "conf", folder / "conf")
    with making.inside(folder):
        paths.settle()
        making.splits("languages")
        making.package("languages", 1, folder / "package")
        yield folder


def asked(project: Path, *overrides: str) -> Any:
    """The candidate, after it was asked the test rows."""
    from tasks.score.__main__ import Asked
    from tidemill.run import plan

    this = plan.by_hand("languages", list(overrides))
    models = Asked(this, pd.read_parquet(this.splits / "test.parquet"))
    models.whole("candidate", project / "package")
    return models


def test_golden_rows_are_asked_of_the_package_that_is_judged(project: Path) -> None:
    question = {"text": "Alle Menschen sind frei und gleich"}
    plain = asked(project)
    assert plain.golden() == [], "there are none"
    kind = plain.application.Input
    given = plain.predictors["candidate"].predict([kind.model_validate(question)])[0]
    golden = project / "conf" / "golden"
    golden.mkdir()
    other = {"text": "Alle Menschen sind gleich"}
    rows = [
        {"inputs": question, "answer": {"language": given.language}},
        {"inputs": other, "answer": {"language": "none"}},
    ]
    (golden / "languages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        (missed,) = asked(project).golden()
    finally:
        shutil.rmtree(golden)
    assert other["text"] in missed and 'is to be {"language": "none"}' in missed


def test_a_changed_golden_row_is_asked_again_and_trains_nothing(project: Path) -> None:
    from tidemill.run import plan

    before = plan.by_hand("languages", [])
    row = "score.golden=[{inputs: {text: Guten Tag}, answer: {language: deu}}]"
    after = plan.by_hand("languages", [row])
    assert before.key == after.key
    assert before.reads("score") != after.reads("score")


def test_rows_are_asked_alone_and_in_one_batch(project: Path) -> None:
    models = asked(project, "score.batch_rows=8")
    assert models.batched() == (8, 0)
    predict = models.predictors["candidate"].predict

    def leaks(questions: list[Any]) -> list[Any]:
        """Answers a batch with the answer to its first row."""
        return [predict(questions)[0]] * len(questions)

    models.predictors["candidate"].predict = leaks
    rows, differ = models.batched()
    assert rows == 8 and 0 < differ < 8
    assert asked(project).batched() == (0, 0)


def test_some_training_rows_are_asked_and_judged_apart(project: Path) -> None:
    from tasks.judge.comparison import Comparison
    from tidemill.records.receipts import Exported, Scored

    models = asked(project, "score.train_rows=12")
    models.trained_on()
    scored = Scored(frames=models.frames, rows=len(models.examples))
    exported = Exported(package="", digest="", files={}, parity=0.0, bytes=1)
    made = Comparison.of(models.plan, scored, exported)
    assert made.training is not None and len(made.training.rows) == 12
    assert "train" not in made.models()
    none = asked(project)
    none.trained_on()
    assert "train" not in none.frames
