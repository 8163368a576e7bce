"""Tables of one's own: how they are read, learned from, and refused by their columns' names."""

import io
import lzma
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tasks.clean.part import Unreadable
from tasks.clean.pickled import table
from tasks.clean.selectors import cut
from tests.support.hardware import HARDWARE
from tidemill.contract import Run, Splits
from tidemill.engines.config.schema import Rule, Trainer
from tidemill.engines.packages.fetch import _built_for
from tidemill.families.tables import columns, drawn
from tidemill.families.tables.application import TableClassifier
from tidemill.families.tables.fields import TableRecipe
from tidemill.families.tables.learner import TableLearner
from tidemill.families.tables.predictor import TablePredictor, TableRow
from tidemill.kit.metrics.classes import roc_auc
from tidemill.runtime.errors import Refused

FRAME = pd.DataFrame({"id": [1, 2], "size": [0.5, np.nan], "ward": ["NA", "south"]})


def rows(body: bytes, **more: object) -> list[bytes | None]:
    rule = Rule.model_validate({"kind": "rows", "name": "row", **more})
    return [part.payload for part in cut(rule, "files:x#t.csv", body)]


def test_a_row_is_a_document_of_its_columns_with_or_without_a_head() -> None:
    assert rows(b"b,a\n1,x\n") == [b'{"a": "x", "b": "1"}']
    assert rows(b"2,2,two\n1,x\n3,y\n", head=["b", "a"])[1] == b'{"a": "y", "b": "3"}'
    with pytest.raises(Unreadable, match="line 3 has 1 values, the head has 2"):
        rows(b"a,b\n1,2\n3\n")
    with pytest.raises(Unreadable, match="column a stands there twice"):
        rows(b"a,a\n1,2\n")


def test_rows_of_parquet_are_rows_of_a_table() -> None:
    out = io.BytesIO()
    FRAME.to_parquet(out)
    assert rows(out.getvalue())[0] == b'{"id": 1, "size": 0.5, "ward": "NA"}'


def test_a_pickled_frame_is_read_and_a_pickle_that_calls_something_else_is_not(
    tmp_path: Path,
) -> None:
    plain = FRAME.astype({"ward": object}).set_axis(pd.Index(list(FRAME), dtype=object), axis=1)
    head, found = table(lzma.compress(pickle.dumps(plain)))
    assert head == ["id", "size", "ward"] and next(found) == [1, 0.5, "NA"]
    called = tmp_path / "called"

    class Bad:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (called,)

    for bad in (Bad(), {"a": Bad()}, sys.exit):
        with pytest.raises(Unreadable, match="a pickle that names"):
            table(pickle.dumps(bad))
    for damaged in (b"", b"no pickle", pickle.dumps(plain)[:50], pickle.dumps([1])):
        with pytest.raises(Unreadable):
            table(damaged)
    assert not called.exists()


def test_a_wheel_of_another_machine_is_asked_for_as_it_was_pinned() -> None:
    assert _built_for("a-1-py3-none-any.whl") == _built_for("a-1.tar.gz") == []
    asked = _built_for("a-1-cp313-cp313-win_amd64.whl")
    assert asked[2:] == [
        *("--implementation", "cp", "--abi", "cp313"),
        *("--python-version", "313", "--platform", "win_amd64"),
    ]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2.5", "", "NA"], "number"),
        (["NA", "DE", ""], "category"),
        (["01234", "99999"], "category"),
        (["2026-11-24", "2026-11-25T10:00:00Z", "?"], "date"),
        (["1_0", "2"], "category"),
        (["inf", "2"], "category"),
        (["a word " * 9, "and more"], "category"),
        (["a word " * 9, "and many more " * 5], "text"),
        (["", None], "category"),
    ],
)
def test_a_columns_type_is_the_one_that_all_its_cells_have(cells: list[str], kind: str) -> None:
    assert columns.found("x", cells).kind == kind


def test_a_decimal_comma_is_read_where_it_is_asked_for_and_named_where_not() -> None:
    number = columns.Column(name="x", kind="number")
    assert columns.read(number, "1,5", ",") == 1.5
    with pytest.raises(columns.BadCell, match="is its comma decimal"):
        columns.read(number, "1,5")


def test_a_column_that_alone_tells_the_label_is_named() -> None:
    labels = ["a"] * 15 + ["b"] * 15
    own = [columns.Column(name=name, kind="number") for name in ("id", "size")]
    cells: list[dict[str, columns.Cell]] = [
        {"id": float(at), "size": float(at % 7)} for at in range(30)
    ]
    assert columns.telling(own, cells, labels) == ["id"]
    assert columns.telling(own, cells[:10], labels[:10]) == []


def test_the_area_under_the_curve_is_scikit_learns() -> None:
    random = np.random.default_rng(1)
    for classes in (2, 3):
        target = random.integers(0, classes, 80)
        chances = random.dirichlet(np.ones(classes), 80).round(1)  # with ties
        chances[:, 0] += 1 - chances.sum(axis=1)
        weights = random.integers(1, 4, (3, 80)).astype(float)
        for row, area in zip(weights, roc_auc(target, chances, weights), strict=True):
            each = [0] if classes == 2 else range(classes)
            wanted = [
                roc_auc_score(target == one, chances[:, one], sample_weight=row) for one in each
            ]
            assert area == pytest.approx(np.mean(wanted))


def learner(folder: Path, **fields: object) -> TableLearner:
    for part, frame in drawn.splits().items():
        frame.to_parquet(folder / f"{part}.parquet")
    recipe = TableRecipe.model_validate({**drawn.FIELDS, **fields})
    return TableLearner(recipe, Splits(folder, 1))


def package(folder: Path, **fields: object) -> tuple[TableLearner, TablePredictor, float]:
    one, out = learner(folder, **fields), folder / "package"
    one.fit(Run(Trainer(**HARDWARE), 1, 1, "test"))
    out.mkdir()
    parity = one.export(out)
    return one, TablePredictor(out), parity


def test_trees_and_linear_scores_are_one_graph_that_agrees_with_the_library(
    tmp_path: Path,
) -> None:
    one, predictor, parity = package(tmp_path)
    assert parity < 1e-6
    x = one.data.x
    assert np.abs(predictor.run(x) - one.probabilities(x)).max() < 1e-6
    one.save(tmp_path / "w.safetensors")
    other = learner(tmp_path)
    other.load(tmp_path / "w.safetensors")
    assert (other.probabilities(x) == one.probabilities(x)).all()
    frame = TableClassifier().evaluate(predictor, drawn.splits()["test"])
    assert TableClassifier().metric(frame, np.ones((1, len(frame))))["auc"][0] > 0.75


def test_a_question_of_other_columns_is_refused_by_their_names(tmp_path: Path) -> None:
    _, predictor, _ = package(tmp_path)
    row = predictor.golden()[0].row
    assert predictor.unfit(TableRow(row=row)) == ""
    assert predictor.unfit(TableRow(row={**row, "ward": "never seen", "size": None})) == ""
    less = {name: cell for name, cell in row.items() if name != "size"}
    assert predictor.unfit(TableRow(row=less)).startswith("no column size; say null")
    assert "unknown column more" in predictor.unfit(TableRow(row={**row, "more": 1}))
    wrong = predictor.unfit(TableRow(row={**row, "age": "old"}))
    assert wrong == "column age: 'old' is no number"


def test_costs_move_answers_and_reasons_are_columns(tmp_path: Path) -> None:
    (tmp_path / "dear").mkdir()
    _, plain, _ = package(tmp_path, positive="ill")
    _, dear, _ = package(tmp_path / "dear", positive="ill", costs={"ill": 50})
    asked = [
        TableRow(row={"size": size, "age": 50, "ward": "north", "seen": "2026-02-12"})
        for size in np.linspace(-2, 4, 30).tolist()
    ]
    ill = [sum(answer.label == "ill" for answer in one.predict(asked)) for one in (plain, dear)]
    assert ill[0] < ill[1]
    assert "size" in plain.predict(asked)[-1].reasons
    with pytest.raises(Refused, match=r"model\.costs\.dead: no training row has this label"):
        learner_with = learner(tmp_path, costs={"dead": 2})
        learner_with.fit(Run(Trainer(**HARDWARE), 1, 1, "test"))


def test_a_monotone_column_never_lowers_what_it_may_only_raise(tmp_path: Path) -> None:
    _, predictor, _ = package(tmp_path, positive="ill", monotone={"age": 1})
    row = predictor.golden()[0].row
    asked = [predictor.asked(TableRow(row={**row, "age": float(age)})) for age in range(20, 80)]
    assert (np.diff(predictor.probabilities(asked)[:, 1]) >= -1e-6).all()
