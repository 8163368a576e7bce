"""`tidemill new --data` over tables as people have them: what is left out or odd is named."""

import json
from pathlib import Path

import pytest

from tidemill.cli.new.survey import SurveyResult, survey
from tidemill.runtime.errors import Refused


def surveyed(path: Path, body: str | bytes) -> SurveyResult:
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return survey("texts with classes", "mine", path, {})


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_a_label_is_the_one_that_the_label_step_will_see(tmp_path: Path) -> None:
    """Which takes space away, knows true as JSON spells it, and nothing of an object."""
    rows = [{"text": f"text {number}", "label": number % 2 == 0} for number in range(12)]
    found = surveyed(tmp_path / "a.jsonl", lines(*rows, {"text": "a", "label": {"x": 1}}))
    assert found.counts == {"false": 6, "true": 6} and "; 1 without a class" in found.told
    with pytest.raises(Refused, match=r"column label of .* has 1 value;"):
        surveyed(tmp_path / "a.csv", "text,label\n" + "a,pos\nb,pos \n" * 9)
    with pytest.raises(Refused, match=r"column a.label of .* has 0 values"):
        body = lines(*({"text": "a", "a.label": str(number % 2)} for number in range(12)))
        (tmp_path / "b.jsonl").write_text(body)
        survey("texts with classes", "mine", tmp_path / "b.jsonl", {"label": "a.label"})


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_small_classes_near_names_and_rows_without_a_text_are_named(
    tmp_path: Path, form: str
) -> None:
    names = ["good", "Good", "bad"] * 6 + ["rare", "bad"]
    rows = [{"text": f"text {place}", "label": name} for place, name in enumerate(names)]
    rows[-1]["text"] = " "
    table = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows)
    found = surveyed(tmp_path / f"a.{form}", table if form == "csv" else lines(*rows))
    assert "too few to learn from: rare (1)" in found.told
    assert "only case differs: Good and good" in found.told
    assert "; 1 without a text are left out" in found.told


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("a.json", '[\n{"text": "a", "label": "b"}]', r"is JSON and no table; save it as JSON lin"),
        ("a.csv", "sep=;\ntext;label\na;b\n", r"the first line of .* is 'sep=;', Excel's; remove"),
        (
            "a.csv",
            "text,label\na,b\n".encode("utf-16"),
            r"is not UTF-8; it looks like UTF-16: .*iconv",
        ),
        ("a.csv", "text,label\n\u00e9,b\n".encode("latin-1"), r"is not UTF-8"),
        ("a.csv", 'text,label\n"a,b\n', r"is no CSV table"),
        ("a.csv", "text,text,label\na,b,c\n", r"has the column 'text' twice"),
        ("a.csv", "", r"is empty"),
        ("a.jsonl", "[]\n", r"line 1 of .* is no record"),
    ],
)
def test_what_is_no_table_is_refused_with_what_to_do(
    tmp_path: Path, name: str, body: str | bytes, words: str
) -> None:
    with pytest.raises(Refused, match=words) as error:
        surveyed(tmp_path / name, body)
    assert "\n" not in str(error.value)


def test_a_cell_of_half_a_million_letters_is_read_as_it_is_when_cleaned(tmp_path: Path) -> None:
    body = "text,label\r\n" + 'a,x\r\n"b, ""c""\r\nd",y\r\n' * 6 + "e" * 500_000 + ",x\r\n"
    found = surveyed(tmp_path / "a.csv", b"\xef\xbb\xbf" + body.encode())
    assert found.counts == {"x": 7, "y": 6} and found.rows == 13
