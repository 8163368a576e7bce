"""Who a row is: no order, no file's name and no source's name has a part in it."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tasks.clean import __main__ as clean_step
from tasks.clean import read
from tasks.clean.identity import DocumentNames
from tasks.clean.rows import Document
from tasks.label import __main__ as label_step
from tasks.label import people
from tasks.label.carry import carry
from tasks.select import __main__ as select_step
from tasks.select.known import first_by_name
from tasks.split import __main__ as split_step
from tasks.split.digest import bucket, snapshot
from tasks.split.rules import place
from tests.support.rooms import Room
from tests.support.splits import buckets
from tidemill.cli.label import label as label_commands
from tidemill.cli.main import app
from tidemill.engines.config.schema import Rule, Source, SplitRule
from tidemill.engines.dvc import snapshot_diff
from tidemill.records import carried
from tidemill.runtime.errors import Refused

Row = tuple[str, str]
CELLS = st.text("ab \n", max_size=3)
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8)


def table(rows: Sequence[Row], head: Row = ("text", "label")) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([head, *rows])
    return out.getvalue().encode()


def source(name: str = "mill", **rule: object) -> Source:
    selector = {"kind": "table", "name": "row", "text": "text", **rule}
    return Source.model_validate(
        {
            "name": name,
            "kind": "files",
            "licence": "CC0-1.0",
            "path": "x",
            "selector": [selector],
            "clean": {},
        }
    )


def named(of: Source, files: dict[str, bytes], media: str = "text/csv") -> list[Document]:
    """The documents of a folder's files, in the order in which clean reads them."""
    names = DocumentNames(of.name)
    documents = []
    for file, body in sorted(files.items()):
        row = {"uri": f"files:{of.name}#{file}", "media": media, "charset": None}
        for document in read.documents(of, row, body):
            if not names.settle(document):
                documents.append(document)
    names.check()
    return documents


def ids(documents: list[Document]) -> dict[str, str]:
    """Each id with all of what the document says."""
    documents = [document for document in documents if "unread" not in document]
    assert len({document["doc_id"] for document in documents}) == len(documents)
    assert len({document["uri"] for document in documents}) == len(documents)
    return {document["doc_id"]: document["attributes"] for document in documents}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rows=ROWS, first=st.lists(st.tuples(CELLS, CELLS), max_size=3))
def test_no_id_moves_when_rows_are_sorted_inserted_or_their_file_and_source_renamed(
    data: st.DataObject, rows: list[Row], first: list[Row]
) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    before = ids(named(source(), {"a.csv": table(rows[:cut]), "b.csv": table(rows[cut:])}))
    shuffled = data.draw(st.permutations(rows))
    again = ids(named(source("other"), {"z.csv": table(shuffled)}))
    assert again == before
    more = ids(named(source("other"), {"0.csv": table([*first, *shuffled])}))
    assert before.items() <= more.items()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rows=st.lists(CELLS, min_size=1, max_size=8))
def test_a_record_with_a_key_keeps_its_id_whatever_else_it_says(
    data: st.DataObject, rows: list[str]
) -> None:
    keyed = [(text, str(number)) for number, text in enumerate(rows)]
    of = source(key="label")
    before = named(of, {"a.csv": table(keyed)})
    changed = [(text + "!", key) for text, key in data.draw(st.permutations(keyed))]
    after = named(source("other", key=["label"]), {"b.csv": table([("new", "x"), *changed])})
    known = {document["part"]: document["doc_id"] for document in after}
    assert {document["part"]: document["doc_id"] for document in before}.items() <= known.items()


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([("a", "1"), ("b", "1")], "1 rows have the key of another row that says something else"),
        ([("a", " "), ("b", "2"), ("c", "")], "2 rows have a null key, first files:mill#a.csv/row"),
    ],
)
def test_a_key_that_names_no_record_is_one_line_with_the_remedy(
    rows: list[Row], problem: str
) -> None:
    with pytest.raises(Refused, match=problem) as refused:
        named(source(key="label"), {"a.csv": table(rows)})
    assert "conf/source/mill.yaml" in str(refused.value) and "\n" not in str(refused.value)


def test_the_same_record_twice_is_one_and_a_missing_key_column_is_named() -> None:
    of = source(key="label")
    assert len(named(of, {"a.csv": table([("a", "1")]), "b.csv": table([("a", "1")])})) == 1
    [document] = named(of, {"a.csv": table([("a", "1")], ("text", "other"))})
    assert document["unread"] == "no column label; it has text, other"
    with pytest.raises(ValueError, match=r"key is for table, .*, json, xpath, not for whole"):
        Rule(kind="whole", name="x", key="id")  # type: ignore[arg-type]


def test_a_personal_key_stands_in_no_address() -> None:
    of = source(key="label").model_copy(update={"clean": source().clean.model_copy()})
    object.__setattr__(of.clean, "pii", True)
    rows = [("a", "ann@mill.example"), ("b", "bob@mill.example")]
    found = named(of, {"a.csv": table(rows)})
    assert len(ids(found)) == 2
    assert "mill.example" not in json.dumps([[row["uri"], row["part"]] for row in found])


def test_a_picture_of_a_table_is_known_by_its_pixels_and_a_series_by_its_name() -> None:
    pixels = source(kind="pixels", name="digit", size=[2, 2])
    lines = [b"0,1,2,3,7", b"9,9,9,9,1", b"0,1,2,3,7"]
    before = ids(named(pixels, {"a": b"\n".join(lines)}))
    assert len(before) == 3
    assert ids(named(pixels, {"b": b"\n".join(reversed(lines))})) == before
    series = source(kind="csv", name="series", group="Ticker", columns=["Date", "Close"])
    days = b"Date,Close,Ticker\n2020-01-01,1,A\n2020-01-01,2,B\n"
    [one, two] = named(series, {"a.csv": days})
    longer = named(series, {"b.csv": b"Date,Close,Ticker\n2020-01-02,5,B\n2020-01-02,4,A\n"})
    assert [one["doc_id"], two["doc_id"]] == [document["doc_id"] for document in longer]


def test_a_page_keeps_its_id_by_its_address_and_its_paragraphs_without_names_by_content() -> None:
    rule = {"kind": "xpath", "name": "p", "each": "//p", "text": "."}
    web = Source.model_validate(
        {
            "name": "mill",
            "kind": "web",
            "licence": "CC0-1.0",
            "hosts": ["mill.example"],
            "seeds": ["http://mill.example/"],
            "selector": [rule],
            "clean": {"pii": False},
        }
    )
    row = {"uri": "http://mill.example/1", "media": "text/xml", "charset": None}

    def known(of: Source, body: bytes) -> dict[str, str]:
        names = DocumentNames("mill")
        documents = read.documents(of, row, body)
        assert not any(map(names.settle, documents))
        return {document["text"]: document["doc_id"] for document in documents}

    before = known(web, b"<r><p>one</p><p>two</p></r>")
    assert before.items() <= known(web, b"<r><p>new</p><p>two</p><p>one</p></r>").items()
    by_name = web.model_copy(update={"selector": (Rule.model_validate(rule | {"part": "@id"}),)})
    [one] = known(by_name, b"<r><p id='a'>one</p></r>").values()
    [other] = known(by_name, b"<r><p id='a'>something else</p></r>").values()
    assert one == other


def test_of_copies_the_first_by_rank_stays_wherever_it_lies() -> None:
    import numpy as np

    words = np.array([[1, 1], [1, 1], [2, 2], [3, 3]], dtype=np.uint64)
    copies = {1: (0, "exact"), 2: (0, "near")}
    assert first_by_name(copies, words, np.array([0, 1, 2, 3])) == {1: "exact", 2: "near"}
    assert first_by_name(copies, words, np.array([2, 1, 0, 3])) == {1: "near", 0: "exact"}


# All of the data half ---------------------------------------------------------------------------


class Data(Room):
    """A project whose one source is a folder of tables."""

    def __init__(self, folder: Path, name: str, files: dict[str, bytes], **rule: object) -> None:
        super().__init__(folder)
        self.name = name
        self.say(
            kind="files",
            path="x",
            hosts=[],
            seeds=[],
            selector=[
                {"kind": "table", "name": "article", "text": "text", "language": "label", **rule}
            ],
            clean={"min_letters": 2},
        )
        conf = self.folder / "conf"
        (conf / "source" / "mill.yaml").rename(conf / "source" / f"{name}.yaml")
        recipe = conf / "recipe" / "languages.yaml"
        body = yaml.safe_load(recipe.read_text())
        body |= {
            "sources": [{"name": name}],
            "select": {"kinds": ["article"]},
            "label": {"min_examples": 1},
        }
        rule = {"source": name, "by": "hash", "column": "doc_id", "valid": 0.2, "test": 0.3}
        body["split"] = {"rules": [rule], "near_duplicates": 1.0, "ngram": 0}
        for other in conf.glob("recipe/*.yaml"):
            other.unlink()
        recipe.write_text(yaml.safe_dump(body))
        self.collect(
            {f"files:{name}#{file}": body for file, body in files.items()}, media="text/csv"
        )

    @property
    def raw(self) -> Path:
        return self.folder / "data" / "raw" / self.name

    def step(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        """Clean to split; each text's split."""
        monkeypatch.chdir(self.folder)
        clean_step.clean(self.name)
        select_step.select("languages")
        label_step.label("languages")
        split_step.split("languages")
        return {
            json.loads(text)["text"]: part
            for part in ("train", "valid", "test")
            for text in pd.read_parquet(self.folder / f"data/splits/languages/{part}.parquet")[
                "inputs"
            ]
        }

    def report(self, step: str = "labels") -> dict:
        return json.loads((self.folder / "data" / step / "languages/report.json").read_text())


def test_a_project_whose_table_is_sorted_renamed_and_longer_splits_its_texts_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"Das Wort {number} steht hier in der Zeile", "deu") for number in range(60)]
    first = Data(tmp_path / "first", "mill", {"a.csv": table(rows)})
    before = first.step(monkeypatch)
    assert len(before) == 60 and set(before.values()) == {"train", "valid", "test"}
    examples = pd.read_parquet(first.folder / "data/labels/languages/examples.parquet")
    answers = [people.Given(example, "1", "nld") for example in examples["example_id"][:5]]
    lost = people.Given("0" * 24, "1", "nld")

    new = [("Eine ganz neue Zeile ganz oben", "deu"), *sorted(rows, reverse=True)]
    second = Data(tmp_path / "second", "other", {"z.csv": table(new)})
    folder = second.folder / "data" / "people"
    folder.mkdir(parents=True)
    lines = "".join(given.line() for given in [*answers, lost])
    (folder / "languages.jsonl").write_text(lines)
    after = second.step(monkeypatch)
    assert before.items() <= after.items() and len(after) == 61
    report = second.report()
    assert report["people"] == 5
    assert report["unmatched"] == {"answers": 1, "examples": ["0" * 24]}
    shown = CliRunner().invoke(label_commands, ["report", "languages"]).stdout
    assert "people's answers to 1 examples of languages find no example today" in shown


def with_later(data: Data, rows: list[Row]) -> None:
    """Give a project a second source of role test."""
    recipe = data.folder / "conf/recipe/languages.yaml"
    body = yaml.safe_load(recipe.read_text())
    body["sources"].append({"name": "later", "role": "test"})
    body["split"]["rules"].append({"source": "later", "by": "test"})
    recipe.write_text(yaml.safe_dump(body))
    conf = data.folder / "conf/source"
    (conf / "later.yaml").write_text((conf / "mill.yaml").read_text())
    data.name = "later"
    data.collect({"files:later#b.csv": table(rows)}, media="text/csv")
    clean_step.clean("later")
    data.name = "mill"


def test_one_document_of_two_sources_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"Das Wort {number} steht hier in der Zeile", "deu") for number in range(20)]
    data = Data(tmp_path / "room", "mill", {"a.csv": table(rows)})
    monkeypatch.chdir(data.folder)
    with_later(data, rows[:3])
    data.step(monkeypatch)
    report = data.report("select")
    assert report["dropped"] == {"in another source too": 3}
    assert report["counts"] == {"later": 3, "mill": 17}, "the source of role test keeps it"


def test_two_sources_whose_records_of_one_key_differ_are_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(tmp_path / "room", "mill", {"a.csv": table([("Das Wort", "deu")])}, key="text")
    monkeypatch.chdir(data.folder)
    with_later(data, [("Das Wort", "nld")])
    with pytest.raises(Refused, match="1 records of two sources have one key and say") as refused:
        data.step(monkeypatch)
    assert "give the selector of one of them another `name`" in str(refused.value)


def test_the_digest_of_a_snapshot_is_of_its_buckets_and_not_of_the_order_of_its_rows() -> None:
    rows = pd.DataFrame(
        {
            "example_id": [f"e{number}" for number in range(300)],
            "split": "train",
            "inputs": [json.dumps({"text": str(number)}) for number in range(300)],
            "target": "{}",
            "slices": "{}",
        }
    )
    whole = buckets(rows)
    assert sum(whole["rows"].to_pylist()) == 300
    assert buckets(rows.sample(frac=1, random_state=1)).equals(whole)
    changed = rows.copy()
    changed.loc[7, "split"] = "test"
    other = buckets(changed)
    pairs = zip(whole.to_pylist(), other.to_pylist(), strict=True)
    assert [one["bucket"] for one, two in pairs if one != two] == [bucket("e7")]
    assert snapshot(other) != snapshot(whole)


# A project of before ----------------------------------------------------------------------------


def as_before(data: Data, documents: pd.DataFrame) -> dict[str, str]:
    """Each document's id as it was when rows were known by their numbers."""
    lineage = pd.read_parquet(data.folder / f"data/clean/{data.name}/lineage.parquet")
    place = dict(zip(lineage["doc_id"], lineage["place"], strict=True))
    return {
        doc_id: hashlib.sha256(f"{data.name} {place[doc_id]}".encode()).hexdigest()[:24]
        for doc_id in documents["doc_id"]
    }


def kept_snapshot(data: Data, former: dict[str, str]) -> dict[str, str]:
    """Leave a snapshot and answers under former ids; each text's split by them."""
    rows = snapshot_diff.rows(data.folder / "data/splits/languages")
    file = data.folder / ".tidemill/snapshots/languages/rows.parquet"
    file.parent.mkdir(parents=True)
    rows.assign(doc_id=rows["doc_id"].map(former)).to_parquet(file)
    examples = pd.read_parquet(data.folder / "data/labels/languages/examples.parquet")
    folder = data.folder / "data" / "people"
    folder.mkdir(parents=True)
    with (folder / "languages.jsonl").open("w") as lines:
        for doc_id, inputs in zip(examples["doc_id"][:4], examples["inputs"], strict=False):
            example = carried.example_id(former[doc_id], inputs)
            lines.write(people.Given(example, "1", "nld").line())
    rule = {"source": data.name, "by": "hash", "column": "doc_id", "valid": 0.2, "test": 0.3}
    where = place(
        SplitRule.model_validate(rule),
        examples.assign(doc_id=examples["doc_id"].map(former)),
    )
    return {
        json.loads(text)["text"]: part for text, part in zip(examples["inputs"], where, strict=True)
    }


def test_a_project_of_before_keeps_its_splits_and_answers_by_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"Das Wort {number} steht hier in der Zeile", "deu") for number in range(40)]
    data = Data(tmp_path / "room", "mill", {"a.csv": table(rows)})
    now = data.step(monkeypatch)
    documents = pd.read_parquet(data.folder / "data/select/languages/documents.parquet")
    before = kept_snapshot(data, as_before(data, documents))
    assert before != now
    with pytest.raises(Refused, match="40 documents have another id") as refused:
        data.step(monkeypatch)
    assert "tidemill data carry languages" in str(refused.value)
    assert data.report()["unmatched"]["answers"] == 4
    assert carry("languages") == {"answers": 4, "documents": 40}
    assert data.step(monkeypatch) == before
    assert data.report()["people"] == 4 and "unmatched" not in data.report()
    done = CliRunner().invoke(app, ["data", "carry", "languages"])
    assert "0 answers and the splits of 0 documents of languages hold" in done.stdout

    # Now its source names a key: the ids are new again, and the splits stay.
    kept = data.folder / ".tidemill/snapshots/languages/rows.parquet"
    snapshot_diff.rows(data.folder / "data/splits/languages").to_parquet(kept)
    path = data.folder / "conf/source/mill.yaml"
    path.write_text(path.read_text().replace("kind: table", "kind: table\n  key: [text]"))
    with pytest.raises(Refused, match="40 documents have another id"):
        data.step(monkeypatch)
    assert carry("languages") == {"answers": 4, "documents": 40}
    assert data.step(monkeypatch) == before and data.report()["people"] == 4
