"""A function over parts, in processes: the same whatever they do."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tasks.label import people
from tasks.label.__main__ import label
from tasks.split.__main__ import split
from tests.support.rooms import Room, prose
from tidemill.records import carried
from tidemill.records.tables import DOCUMENTS, EXAMPLES
from tidemill.runtime import parts, process
from tidemill.runtime.errors import Fault, Refused


@pytest.fixture(autouse=True)
def small_parts_are_worth_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "WORTH_S", 0.0)


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def killed_once(mark: Path, number: int) -> int:
    """The process that works on part 3 is killed, the first time."""
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * 10


def killed_always(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuses_two(number: int) -> int:
    if number == 2:
        raise Refused("part two makes no sense; leave it out")
    return number


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_results_come_in_the_order_of_the_parts(processes: int) -> None:
    results = list(parts.mapped(square, range(9), "part", processes))
    assert [result for result, _ in results] == [number**2 for number in range(9)]
    workers = {worker for _, worker in results}
    assert (workers == {os.getpid()}) == (processes == 1)


def test_what_is_soon_done_is_worked_on_where_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "WORTH_S", 60.0)
    results = list(parts.mapped(square, range(5), "part", 4))
    assert results == [(number**2, os.getpid()) for number in range(5)]
    assert list(parts.mapped(square, [], "part", 4)) == []


def slow(number: int) -> int:
    time.sleep(0.2)
    return os.getpid()


def test_other_processes_begin_where_the_first_part_took_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "WORTH_S", 0.3)
    first, *others = parts.mapped(slow, range(5), "part", 2)
    assert first == os.getpid() and first not in others


def test_a_part_whose_process_is_killed_is_tried_again(tmp_path: Path) -> None:
    work = partial(killed_once, tmp_path / "mark")
    assert list(parts.mapped(work, range(8), "part", 2)) == [number * 10 for number in range(8)]
    assert (tmp_path / "mark").exists()


def test_a_part_that_is_killed_each_time_is_named_and_those_before_it_are_given() -> None:
    results = parts.mapped(killed_always, range(8), "row group", 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Fault, match="row group 4 of 8: its process was killed 3 times") as error:
        next(results)
    assert error.value.killed


def test_an_error_is_raised_where_its_part_would_be() -> None:
    results = parts.mapped(refuses_two, range(5), "part", 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(Refused, match="part two"):
        next(results)


def test_progress_is_by_rows(capfd: pytest.CaptureFixture[str]) -> None:
    sizes = [3, 2, 1]
    results = parts.mapped(square, range(3), "part", 1)
    assert len(list(parts.progressed(results, sizes, "rows"))) == 3
    lines = [line for line in capfd.readouterr().out.splitlines() if line]
    assert [line.startswith(process.PROGRESS) for line in lines] == [True] * 3
    assert '"done":6' in lines[-1] and '"total":6' in lines[-1]


# A split over row groups -------------------------------------------------------------------------


ROWS = 900


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    """A project with labelled texts in nine row groups, some of them copies of others."""
    room = Room(tmp_path / "mill", kind="files", path="x", hosts=[], seeds=[], clean={})
    rule = {"source": "mill", "by": "hash", "column": "doc_id", "valid": 0.1, "test": 0.2}
    path = room.folder / "conf/recipe/languages.yaml"
    body = yaml.safe_load(path.read_text()) | {"sources": [{"name": "mill"}]}
    body |= {"split": {"rules": [rule]}}
    for other in path.parent.glob("*.yaml"):
        other.unlink()
    path.write_text(yaml.safe_dump(body))
    save(room, text)
    monkeypatch.chdir(room.folder)
    return room


def text(number: int) -> str:
    """Every tenth text is another's with a word more, in whatever row group and split that is."""
    words = [*prose(number % 810, 2), f"w{'x' * (number // 810)}"]
    return " ".join(words)


def save(room: Room, text: Callable[[int], str], rows: int = ROWS) -> None:
    examples = pd.DataFrame(
        {
            "doc_id": [f"{number:024x}" for number in range(rows)],
            "inputs": [json.dumps({"text": text(number)}) for number in range(rows)],
            "target": ['{"language": "deu"}' for _ in range(rows)],
            "confidence": 1.0,
            "votes": "{}",
            "slices": [json.dumps({"length": str(number % 3)}) for number in range(rows)],
            "source": "mill",
            "part": "",
            "original": "",
            "payload": None,
            "blob": None,
        }
    )
    pairs = zip(examples["doc_id"], examples["inputs"], strict=True)
    examples["example_id"] = [carried.example_id(*pair) for pair in pairs]
    examples["unit"] = examples["doc_id"]
    examples = examples.sort_values("example_id")
    file = room.folder / "data/labels/languages/examples.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(examples[EXAMPLES.names], EXAMPLES, preserve_index=False)
    pq.write_table(table, file, row_group_size=100)


def files(room: Room, step: str) -> dict[str, bytes]:
    folder = room.folder / "data" / step / "languages"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}


def tables(room: Room) -> dict[str, bytes]:
    folder = room.folder / "data/splits/languages"
    found = {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}
    assert [*found] == [
        "buckets.parquet",
        "dropped.parquet",
        "report.json",
        "test.parquet",
        "train.parquet",
        "valid.parquet",
    ]
    return found


@pytest.fixture
def selected(labelled: Room) -> Room:
    """The same texts before they are labelled, with twins and some that are dropped."""
    rows = [document(number) for number in range(ROWS)]
    file = labelled.folder / "data/select/languages/documents.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, DOCUMENTS), file, row_group_size=100)
    return labelled


def document(number: int) -> dict[str, object]:
    language = "und" if number % 50 == 7 else ("deu", "nld", "fra")[number % 3]
    words = text(number % 600)  # every third asks what another asks, in the same words
    return dict.fromkeys(DOCUMENTS.names) | {
        "doc_id": f"{number * 7919 % ROWS:024x}",
        "uri": f"files:mill#{number}",
        "source": "mill",
        "kind": "article",
        "part": "",
        "language": language,
        "script": "Latn",
        "letter_script": "Latn",
        "original": "",
        "text": words,
        "chars": len(words),
        "attributes": "{}",
    }


def children(name: str) -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if name in " ".join(child.cmdline())]


def killing(name: str) -> tuple[threading.Thread, list[int]]:
    """A thread that kills one process of this one's, as soon as there is one."""
    killed: list[int] = []

    def kill() -> None:
        while not (workers := children(name)):
            time.sleep(0.05)
        workers[0].kill()
        killed.append(workers[0].pid)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread, killed


def test_labels_have_the_same_bytes_in_one_process_or_four_and_with_one_killed(
    selected: Room,
) -> None:
    selected.processes(1)
    label("languages")
    alone = files(selected, "labels")
    report = json.loads(alone["report.json"])
    assert report["dropped"]["its source names no language we have"] == ROWS // 50
    assert report["dropped"]["its source asks this question twice"] > 200
    assert report["rows"] + sum(report["dropped"].values()) == ROWS
    selected.processes(4)
    label("languages")
    assert files(selected, "labels") == alone
    selected.processes(2)
    thread, killed = killing("spawn_main")
    label("languages")
    thread.join()
    assert killed and files(selected, "labels") == alone
    assert not (selected.folder / ".tidemill/label/languages").exists()


def test_documents_in_another_order_are_labelled_alike(selected: Room) -> None:
    selected.processes(1)
    label("languages")
    alone = files(selected, "labels")
    file = selected.folder / "data/select/languages/documents.parquet"
    rows = pq.read_table(file).to_pylist()
    random.Random(3).shuffle(rows)
    pq.write_table(pa.Table.from_pylist(rows, DOCUMENTS), file, row_group_size=130)
    label("languages")
    assert files(selected, "labels") == alone


def test_people_and_rare_languages_are_heard_across_parts(selected: Room) -> None:
    selected.processes(1)
    path = selected.folder / "conf/recipe/languages.yaml"
    body = yaml.safe_load(path.read_text())
    body["label"] = {"min_examples": 500}
    path.write_text(yaml.safe_dump(body))
    with pytest.raises(Refused, match="no example is left after label"):
        label("languages")
    body["label"] = {"min_examples": 250}
    path.write_text(yaml.safe_dump(body))
    label("languages")
    folder = selected.folder / "data/labels/languages"
    first, *_, last = pd.read_parquet(folder / "examples.parquet")["example_id"]
    people.path("languages").parent.mkdir(parents=True)
    given = [people.Given(first, "1", "swe"), people.Given(last, "1", people.NONE)]
    given.append(people.Given("0" * 24, "1", "deu"))
    people.path("languages").write_text("".join(answer.line() for answer in given))
    label("languages")
    examples = pd.read_parquet(folder / "examples.parquet").set_index("example_id")
    assert json.loads(examples.loc[first, "target"]) == {"language": "swe"}
    assert json.loads(examples.loc[first, "votes"])["people"] == "swe"
    assert json.loads(examples.loc[first, "slices"])["language"] == "swe"
    dropped = pd.read_parquet(folder / "dropped.parquet").set_index("example_id")
    assert dropped.loc[last, "reason"] == "people say that it is none of these"
    report = json.loads((folder / "report.json").read_text())
    assert report["unmatched"]["answers"] == 1 and report["people"] == 2


def test_a_split_has_the_same_bytes_in_one_process_or_four_and_with_one_killed(
    labelled: Room,
) -> None:
    labelled.processes(1)
    split("languages")
    alone = tables(labelled)
    report = json.loads(alone["report.json"])
    assert report["rows"] + sum(report["dropped"].values()) == ROWS
    assert report["dropped"]["near duplicate of a test row"] > 5
    labelled.processes(4)
    split("languages")
    assert tables(labelled) == alone
    labelled.processes(2)
    thread, killed = killing("spawn_main")
    split("languages")
    thread.join()
    assert killed and tables(labelled) == alone
    assert not children("spawn_main")


def test_a_split_that_is_refused_in_a_process_is_one_line(labelled: Room) -> None:
    path = labelled.folder / "conf/recipe/languages.yaml"
    body = yaml.safe_load(path.read_text())
    body["split"]["rules"][0]["column"] = "villages"
    path.write_text(yaml.safe_dump(body))
    labelled.processes(2)
    with pytest.raises(Refused, match=r"no column 'villages'; examples have .*unit"):
        split("languages")
