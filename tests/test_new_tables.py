"""A table of a person's own becomes an application: what is found in it, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer

from tests.conftest import Clone
from tidemill.cli.new.tables import survey_table
from tidemill.runtime.errors import Refused


def tumours() -> pd.DataFrame:
    """scikit-learn's tumours with a row's number, a constant, and a label in words."""
    table = load_breast_cancer(as_frame=True).frame
    table.insert(0, "id", range(1000, 1000 + len(table)))
    table["hospital"] = "Wisconsin"
    table["target"] = table["target"].map({0: "bad", 1: "good"})
    table.loc[3, "target"] = None
    return table


def csv(path: Path, table: pd.DataFrame, **how: object) -> Path:
    table.to_csv(path, **{"index": False, **how})  # type: ignore[call-overload]
    return path


def test_a_table_is_read_alike_as_csv_with_decimal_commas_and_as_parquet(tmp_path: Path) -> None:
    tumours().to_parquet(tmp_path / "t.parquet")
    columnar = survey_table(tmp_path / "t.parquet", {})
    typed = survey_table(csv(tmp_path / "t.csv", tumours(), sep=";", decimal=","), {})
    assert columnar.told == typed.told and columnar.counts == typed.counts
    assert columnar.told == (
        "569 rows of 30 columns in 2 classes: good 357, bad 211; 1 without a target are left out; "
        "columns left out: hospital (one value in all rows), id (names the row); bad is what is "
        "looked for"
    )
    assert typed.label["decimal"] == "," and columnar.label["decimal"] is None
    assert set(typed.label["columns"].values()) == {"number"}  # type: ignore[attr-defined]
    [rule] = typed.source["selector"]  # type: ignore[misc]
    assert rule == {"kind": "rows", "name": "row", "delimiter": ";", "key": ["id"]}


def test_a_column_that_tells_the_label_and_one_that_names_rows_are_left_out(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    label = random.choice(["stays", "leaves"], 60)
    table = pd.DataFrame(
        {
            "age": random.integers(18, 80, 60),
            "cancelled": np.where(label == "leaves", "yes", "no"),
            "customer": [f"c-{number}" for number in range(60)],
            "country": random.choice(["NA", "DE", "FR"], 60),
            "label": label,
        }
    )
    found = survey_table(csv(tmp_path / "t.csv", table), {})
    assert found.label["columns"] == {"age": "number", "country": "category"}
    assert "cancelled (alone tells label, as if it were known only afterwards)" in found.told
    assert "customer (another value in each row)" in found.told


def people(**columns: object) -> pd.DataFrame:
    random = np.random.default_rng(1)
    label = random.choice(["x", "y"], 60)
    return pd.DataFrame({"age": random.integers(18, 80, 60), "label": label}).assign(**columns)


@pytest.mark.parametrize(
    ("cells", "example"),
    [
        ([f"{number:,}" for number in range(1000, 61_000, 1000)], "'1,000'"),
        ([f"1.{number},50" for number in range(100, 160)], "'1.100,50'"),
        ([f"{number:,}.5" for number in range(2_000_000, 2_000_060)], "'2,000,000.5'"),
    ],
)
def test_thousands_are_not_taken_for_decimals_or_categories(
    tmp_path: Path, cells: list[str], example: str
) -> None:
    path = csv(tmp_path / "t.csv", people(income=cells), sep=";")
    with pytest.raises(Refused, match=f"column income .* has {example}.*without them"):
        survey_table(path, {})


def test_what_a_person_may_not_have_meant_is_told(tmp_path: Path) -> None:
    table = people(size=[*range(59), "unknown"], rooms=[*range(1, 4)] * 19 + ["many"] * 3)
    table.loc[:6, "label"] = "X "
    found = survey_table(csv(tmp_path / "t.csv", table, index=True), {})
    assert "taken for categories: rooms (3 of 60 cells no number, as 'many')" in found.told
    assert "one without a name (numbers the rows)" in found.told
    assert "size (another value in each row; 1 of 60 cells no number, as 'unknown')" in found.told
    assert "only case differs: X and x" in found.told


def test_a_packed_table_and_a_name_over_two_lines_are_read(tmp_path: Path) -> None:
    table = people().rename(columns={"age": "age\n(years)"})
    found = survey_table(csv(tmp_path / "t.csv.gz", table), {})
    assert found.label["columns"] == {"age\n(years)": "number"}


@pytest.mark.parametrize(
    ("body", "columns", "message"),
    [
        (b"", {}, "is empty"),
        (b"a,b\n", {}, "has a head and no rows"),
        (b"1,2,3\n4,5,6\n", {}, "names no columns"),
        (b"just words\nand more\n", {}, "names no columns"),
        (b'[{"a": 1}]', {}, "is JSON and no table"),
        (b"sep=;\na;label\n1;x\n", {}, "Excel's; remove it"),
        (b"a,label\n1,x\n2\n", {}, "line 3 has 1 values, the head has 2"),
        (b"a,a,label\n1,2,x\n", {}, "column a stands there twice"),
        (b"a,b\n1,2\n", {}, "no column for label among a, b; say --column label=NAME"),
        (b"a,b\n1,2\n", {"label": "c"}, "label=c: the table has a, b"),
        (b"a,label\n" + b"1,x\n" * 9, {}, "has 1 value; at least two classes"),
        (b"a,label\n1,x\n2,y\n", {}, "no class of column label .* has 5 rows"),
        (b"a,label\n" + b"1,x\n1,y\n" * 9, {}, "no column of .* is left to ask"),
        (b"id,a,label\n" + b"1,2,x\n1,3,y\n" * 9, {"key": "id"}, "two rows have the same one"),
        ("a,label\n1,grün\n".encode("utf-16"), {}, "looks like UTF-16: .*iconv -f UTF-16"),
        ("a,label\n1,grün\n".encode("cp1252"), {}, "looks like WINDOWS-1252"),
        (b"PAR1 and no more of it", {}, "not a parquet file"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(
    tmp_path: Path, body: bytes, columns: dict[str, str], message: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(body)
    with pytest.raises(Refused, match=message) as refused:
        survey_table(path, columns)
    assert "\n" not in str(refused.value)


def test_an_amount_a_folder_and_a_spreadsheet_are_refused(tmp_path: Path) -> None:
    table = tumours().drop(columns="target").rename(columns={"mean radius": "label"})
    with pytest.raises(Refused, match="different values, numbers: an amount cannot be predicted"):
        survey_table(csv(tmp_path / "t.csv", table), {})
    with pytest.raises(Refused, match="is a folder; a table is one file"):
        survey_table(tmp_path, {})
    with pytest.raises(Refused, match="save the sheet as CSV UTF-8"):
        survey_table(tmp_path / "t.xlsx", {})


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_lies_there_is_read_or_refused(
    body: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "odd.csv"
    for head in (b"", b"a,label\n", b"a;b;label\n1;2;x\n"):
        path.write_bytes(head + body)
        try:
            survey_table(path, {})
        except Refused as refused:
            assert str(refused).startswith("--data: ")


def test_it_becomes_an_application_whose_rows_are_labelled(clone: Clone, tmp_path: Path) -> None:
    data = csv(tmp_path / "tumours.csv", tumours(), sep=";", decimal=",")
    refused = clone.tidemill("new", "mine", "--like", "credit", "--data", str(data))
    assert refused.returncode == 2 and "it is judged by afam, single" in refused.stderr
    done = clone.tidemill("new", "mine", "--like", "diagnosis", "--data", str(data), "--json")
    assert done.returncode == 0, done.stderr
    body = yaml.safe_load((clone.folder / "conf/recipe/mine.yaml").read_text())
    assert body["model"] == {"positive": "bad"} and "names" not in body["label"]
    quality = next(gate for gate in body["gates"] if gate["name"] == "quality")
    assert quality["at_least"] == 0.6 and "tumour" not in json.dumps(body)
    for step, name in {**dict.fromkeys(("collect", "clean", "select", "label"), "mine")}.items():
        done = clone.run(f"tasks.{step}", name)
        assert done.returncode == 0, done.stderr
    rows = pd.read_parquet(clone.folder / "data/labels/mine/examples.parquet")
    assert len(rows) == 568 and "mean radius" in json.loads(rows["inputs"][0])["row"]


@pytest.mark.apps
def test_it_goes_the_whole_way_to_a_verdict(clone: Clone, tmp_path: Path) -> None:
    data = csv(tmp_path / "tumours.csv", tumours())
    done = clone.tidemill("new", "mine", "--like", "diagnosis", "--data", str(data))
    assert done.returncode == 0, done.stderr
    done = clone.tidemill("run", "mine", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["because"].startswith(("PROMOTE", "HOLD"))
