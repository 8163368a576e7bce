"""Select: copies across sources and nights, and quality policies."""

import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tasks.clean import __main__ as clean_room
from tasks.clean import quality
from tasks.select import __main__ as room
from tasks.select import policy, rows
from tests.support.rooms import HERE, Room, html, prose, sentence, shingles, site
from tidemill.engines import config
from tidemill.engines.config.schema import Quality, Select
from tidemill.records.tables import CLEANED, DOCUMENTS, DROPPED, save
from tidemill.runtime.errors import Fault, Refused
from tidemill.text import duplicates, normal
from tidemill.text import lsh as kept
from tidemill.text import shingles as numbers
from tidemill.text.lsh import Bands

LONG = [" ".join(prose(seed)) for seed in range(40)]


def edited(body: str, share: float, seed: int) -> str:
    random_, words = random.Random(seed), body.split()
    for at in random_.sample(range(len(words)), max(1, int(share * len(words)))):
        words[at] = "edit" + "".join(random_.choice("abcdefgh") for _ in range(6))
    return " ".join(words)


# Shingles ---------------------------------------------------------------------------------------

STRANGE = [
    "",
    " ",
    "kurz",
    "Kurz!",
    "12 34",
    "ein zwei",
    "Ein, zwei; DREI",
    "a b c",
    "Straße STRASSE ﬁne İstanbul",
    "abcdefghijklmnopqrstuvwxyz",
    "abcdefghijklmnopqrstuvwxyz a",
    "abcdefghijklmnopqrstuvwxyz ab",
    "磨坊主在夜里磨面粉，他的面粉是镇上最好的，人们都来买。河水推动水车，年复一年，没有停过。",
    "क्या आप हिन्दी बोलते हैं और कितनी अच्छी",
    "ภาษาไทยเขียนติดกันโดยไม่เว้นวรรคระหว่างคำเลย",
    "x\ud800y z w",
    "𝔘𝔫𝔦 𐐀𐐨 𐐁 😀 d",
    "tab\tand\nline\x1e end\u2028 of it",
    "the same the same the same the same",
    "e\u0301 e\u0301 e\u0301 \u0301",
    "Donaudampfschifffahrtsgesellschaftskapitän Rindfleischetikettierungsüberwachung "
    "Kraftfahrzeughaftpflichtversicherung",
]


def test_shingles_are_those_of_every_text_by_itself_and_the_digest_is_of_its_words() -> None:
    random_ = random.Random(5)
    alphabet = "aB ß é, .9\n字ไท्"
    texts = [
        *STRANGE,
        *LONG[:5],
        *(
            "".join(random_.choice(alphabet) for _ in range(random_.randrange(80)))
            for _ in range(500)
        ),
    ]
    whole = numbers.shingled(texts)
    name: dict[str, int] = {}
    for place, body in enumerate(texts):
        expected = shingles(body)
        found = whole.numbers[whole.edges[place] : whole.edges[place + 1]].tolist()
        assert len(found) == len(expected), body
        for shingle, number in zip(expected, found, strict=True):
            assert name.setdefault(shingle, number) == number, (body, shingle)
        assert whole.of(place).tolist() == sorted(set(found))
        alone = numbers.shingled([body])
        assert alone.words == [whole.words[place]] and alone.numbers.tolist() == found
        assert (
            whole.words[place]
            == hashlib.blake2b(
                (normal.same(body) or body).encode("utf-8", "surrogatepass"), digest_size=16
            ).digest()
        )
    assert len(set(name.values())) == len(name) > 5_000


def test_a_batch_is_as_large_as_memory_is_meant_to_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "CHARS_AT_ONCE", 100)
    sizes = [0, 10, 80, 300, 5, 0, 0, 99, 50]
    found = list(numbers.batches(sizes))
    assert [sizes[part] for part in found] == [[0, 10, 80], [300], [5, 0, 0], [99], [50]] and list(
        numbers.batches([])
    ) == []
    assert len(numbers.shingled([]).words) == 0


def test_bands_are_the_same_in_every_process() -> None:
    code = (
        "import sys; from tidemill.text.lsh import Bands; from tests.test_select import LONG, "
        "STRANGE; w, b = Bands().of([*LONG, *STRANGE]); import hashlib; "
        "print(hashlib.sha256(w.tobytes() + b.tobytes()).hexdigest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=HERE,
            env={**os.environ, "PYTHONPATH": str(HERE), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    words, signed = Bands().of([*LONG, *STRANGE])
    assert said == {hashlib.sha256(words.tobytes() + signed.tobytes()).hexdigest() + "\n"}


# Copies -----------------------------------------------------------------------------------------


def every_pair(texts: list[str], groups: list[str], threshold: float) -> list[tuple[int, int, str]]:
    """What `pairs` must name, by comparing all with all."""
    same, sets = (
        [normal.same(body) or body for body in texts],
        [set(shingles(body)) for body in texts],
    )
    first = {
        (group, said): row
        for row, (group, said) in reversed(list(enumerate(zip(groups, same, strict=True))))
    }
    alone = set(first.values())
    found = [
        (first[groups[row], same[row]], row, "exact")
        for row in range(len(texts))
        if row not in alone
    ]
    for right in alone:
        for left in alone:
            if (
                left < right
                and groups[left] == groups[right]
                and sets[left]
                and sets[right]
                and len(sets[left] & sets[right]) >= threshold * len(sets[left] | sets[right])
            ):
                found.append((left, right, "near"))
    return found


def slow(texts: list[str], groups: list[str], threshold: float) -> dict[int, tuple[int, str]]:
    """What `copies` says, from every pair."""
    parent = list(range(len(texts)))

    def find(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    exact = set()
    for left, right, how in every_pair(texts, groups, threshold):
        a, b = find(left), find(right)
        parent[max(a, b)] = min(a, b)
        if how == "exact":
            exact.add(right)
    return {
        index: (find(index), "exact" if index in exact else "near")
        for index in range(len(texts))
        if find(index) != index
    }


def test_copies_are_those_that_every_pair_would_give_with_an_index_and_without(
    tmp_path: Path,
) -> None:
    random_ = random.Random(1)
    texts = [
        edited(random_.choice(LONG), random_.choice([0.0, 0.01, 0.03, 0.06]), number % 11)
        if number % 3
        else random_.choice(LONG).upper()
        for number in range(400)
    ] + ["", "kurz", "Kurz!", "12"]
    groups = [random_.choice("ab") for _ in texts]
    expected = slow(texts, groups, 0.8)
    assert len(expected) > 100 and {how for _, how in expected.values()} == {"exact", "near"}
    assert sorted(duplicates.pairs(texts, groups, 0.8)) == sorted(every_pair(texts, groups, 0.8))
    assert duplicates.copies(texts, groups, 0.8) == expected
    for _ in range(2):  # the second time from the index
        with Bands(tmp_path / "s.sqlite") as bands:
            assert duplicates.copies(texts, groups, 0.8, bands) == expected


def test_copies_are_the_same_when_few_shingles_may_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    random_ = random.Random(9)
    texts = [
        edited(random_.choice(LONG[:8]), random_.choice([0.0, 0.01, 0.03, 0.2]), number % 23)
        for number in range(200)
    ]
    expected = duplicates.copies(texts, ["g"] * len(texts), 0.8)
    monkeypatch.setattr(duplicates, "MOST_HELD", 500)
    monkeypatch.setattr(duplicates, "HELD_AT_ONCE", 7)
    most = []
    fetch = duplicates.Alike._fetch
    monkeypatch.setattr(
        duplicates.Alike,
        "_fetch",
        lambda self, rows: (fetch(self, rows), most.append(self.numbers)),
    )
    assert (
        duplicates.copies(texts, ["g"] * len(texts), 0.8) == expected and max(most) < 500 + 8 * 200
    )


def test_what_is_left_is_the_same_whatever_the_order() -> None:
    random_ = random.Random(2)
    texts = {
        f"u{number:03}": edited(random_.choice(LONG), random_.choice([0.0, 0.02, 0.05]), number % 7)
        for number in range(200)
    }

    def sets(order: list[str]) -> set[frozenset[str]]:
        found: dict[str, set[str]] = {name: {name} for name in order}
        for row, (stays, _) in duplicates.copies(
            [texts[name] for name in order], ["g"] * len(order), 0.8
        ).items():
            found[order[stays]].add(order[row])
        gone = {
            order[row]
            for row in duplicates.copies([texts[name] for name in order], ["g"] * len(order), 0.8)
        }
        return {frozenset(members) for name, members in found.items() if name not in gone}

    order = sorted(texts)
    shuffled = list(order)
    random_.shuffle(shuffled)
    assert sets(order) == sets(shuffled)


def test_an_index_is_used_forgets_what_is_gone_and_is_dropped_when_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.sqlite"
    with Bands(path) as bands:
        whole = bands.of(LONG)[1]
    made = []
    signed = kept.signed
    monkeypatch.setattr(
        kept, "signed", lambda texts, *of: made.append(len(texts.words)) or signed(texts, *of)
    )
    with Bands(path) as bands:
        assert (bands.of([*LONG[:30], edited(LONG[0], 0.1, 1)])[1][:30] == whole[:30]).all()
    assert made == [1], "only the new text is signed"
    with sqlite3.connect(path) as file:
        assert file.execute("select count(*) from bands").fetchone() == (31,)
    file.close()
    path.write_bytes(b"no database " * 500)
    with Bands(path) as bands:
        assert (bands.of(LONG)[1] == whole).all()
    assert capsys.readouterr().out.count("is damaged") == 1
    body = path.read_bytes()
    for name in ("s.sqlite-wal", "s.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    path.write_bytes(body[:4096] + b"\xff" * (len(body) - 4096))
    with Bands(path) as bands:
        assert (bands.of(LONG)[1] == whole).all()
    assert capsys.readouterr().out.count("is damaged") == 1


@pytest.mark.parametrize(
    ("harm", "dropped"),
    [
        ("words = zeroblob(20)", False),
        ("bands = zeroblob(160)", False),
        ("words = null", False),
        ("text = substr(text, 1, 7) || rowid", True),
    ],
)
def test_an_entry_that_is_not_as_it_was_written_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: str, dropped: bool
) -> None:
    path = tmp_path / "s.sqlite"
    with Bands(path) as bands:
        whole = bands.of(LONG)
    with sqlite3.connect(path) as file:
        file.execute(f"update bands set {harm} where rowid in (3, 5)")
    file.close()
    for _ in range(2):
        with Bands(path) as bands:
            found = bands.of(LONG)
        assert all((one == other).all() for one, other in zip(found, whole, strict=True))
    assert ("is damaged" in capsys.readouterr().out) == dropped


def test_long_texts_are_fetched_a_few_at_a_time() -> None:
    asked: list[int] = []
    bodies = [f"{LONG[0]} {number}" for number in range(100)]
    alike = duplicates.Alike(
        lambda rows: asked.append(len(rows)) or [bodies[row] for row in rows],
        0.5,
        np.full(100, duplicates.HELD_BYTES // 10),
    )
    alike.hold(range(100))
    assert asked == [10] * 10 and alike(0, 99)
    few = duplicates.Alike(
        lambda rows: asked.append(len(rows)) or [bodies[row] for row in rows],
        0.5,
        np.full(100, duplicates.HELD_BYTES * 2),
    )
    few.hold(range(3))
    assert asked[10:] == [1, 1, 1]


def test_a_row_is_as_large_as_its_text_however_often_the_file_says_it_once(mill: Room) -> None:
    body = "the river and the mill and the wheel " * 2_000
    mill.collect(
        {f"http://mill.example/{number}": body.encode() for number in range(100)},
        media="text/plain",
    )
    mill.say(selector=[{"kind": "whole", "name": "page"}])
    clean_room.clean("mill")
    found = rows.Rows(config.recipe("languages").sources)
    assert (
        found.count == 100
        and found.bytes.min() >= 60_000
        and len(list(found._groups(np.arange(100)))) == 1
    )
    assert (
        sum(map(len, found._groups(np.repeat(np.arange(100), 4)))) == 400
        and len(list(found._groups(np.repeat(np.arange(100), 4)))) >= 2
    )
    found.close()


def test_bands_made_by_other_code_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Bands(tmp_path / "s.sqlite") as bands:
        bands.of(LONG)
    monkeypatch.setattr(kept, "_made_by", lambda: "other code")
    made = []
    signed = kept.signed
    monkeypatch.setattr(
        kept, "signed", lambda texts, *of: made.append(len(texts.words)) or signed(texts, *of)
    )
    with Bands(tmp_path / "s.sqlite") as bands:
        bands.of(LONG)
    assert made == [len(LONG)]


def test_pages_that_are_the_same_or_nearly_so_by_the_thousand_take_seconds() -> None:
    body = LONG[0]
    texts = [body] * 100_000 + [
        f"{body} {sentence(random.Random(number), 2)}" for number in range(3_000)
    ]
    began = time.process_time()
    found = duplicates.copies(texts, ["g"] * len(texts), 0.8)
    assert len(found) == len(texts) - 1 and {kept for kept, _ in found.values()} == {0}
    assert time.process_time() - began < 60


# A whole recipe ---------------------------------------------------------------------------------


@pytest.fixture
def mill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    found = Room(tmp_path / "room")
    for name in ("udhr", "software", "django"):
        (found.folder / "conf" / "source" / f"{name}.yaml").write_text(
            (HERE / "conf" / "source" / f"{name}.yaml").read_text()
        )
    path = found.folder / "conf" / "recipe" / "languages.yaml"
    body = yaml.safe_load(path.read_text())
    body["sources"] = [{"name": "mill"}]
    body["select"] = {"kinds": ["page"]}
    body["split"]["rules"] = [{"source": "mill", "by": "hash", "column": "doc_id", "test": 0.2}]
    path.write_text(yaml.safe_dump(body))
    monkeypatch.chdir(found.folder)
    return found


def select(mill: Room, **change: object) -> pd.DataFrame:
    path = mill.folder / "conf" / "recipe" / "languages.yaml"
    body = yaml.safe_load(path.read_text())
    body["select"] |= change
    path.write_text(yaml.safe_dump(body))
    room.select("languages")
    return pd.read_parquet(
        mill.folder / "data" / "select" / "languages" / "documents.parquet"
    ).set_index("uri")


def test_when_the_kept_of_two_copies_is_gone_the_next_one_comes_forward(mill: Room) -> None:
    pages = site(6) | {
        "http://mill.example/9": html(2).replace(b"</p>", b"</p> ", 1),
        "http://other.example/2": html(2),
    }
    mill.collect(pages)
    clean_room.clean("mill")
    kept = select(mill)
    assert len(kept) == 6 and "http://mill.example/2" in kept.index
    assert mill.digests("select", "languages") and json.loads(
        (mill.folder / "data/select/languages/report.json").read_text()
    )["dropped"] == {"exact duplicate": 1, "near duplicate": 1}
    mill.collect({"http://mill.example/2": b"<p>gone, and nothing of it is left here</p>"})
    clean_room.clean("mill")
    kept = select(mill)
    assert "http://mill.example/9" in kept.index and "http://other.example/2" not in kept.index
    mill.collect({"http://mill.example/2": html(2)})
    clean_room.clean("mill")
    assert set(select(mill).index) == {f"http://mill.example/{number}" for number in range(6)}, (
        "and steps back when it is there again"
    )


def test_two_nights_and_one_give_the_same_bytes_and_a_killed_select_too(mill: Room) -> None:
    mill.collect(site(30) | {f"http://mill.example/t{number}": html(number) for number in range(5)})
    clean_room.clean("mill")
    select(mill)
    whole = mill.digests("select", "languages")
    mill.collect({"http://mill.example/3": html(3, 9)})
    clean_room.clean("mill")
    calls = mill.calls("tasks.select", "languages")
    assert mill.digests("select", "languages") != whole
    mill.collect({"http://mill.example/3": html(3)})
    clean_room.clean("mill")
    assert all(
        mill.killed(int(calls * part), "tasks.select", "languages") for part in (0.1, 0.4, 0.8)
    )
    select(mill)
    assert mill.digests("select", "languages") == whole


def test_select_opens_no_socket(mill: Room) -> None:
    mill.collect(site(5))
    clean_room.clean("mill")
    mill.forbid_sockets()
    done = mill.run("tasks.select", "languages")
    assert done.returncode == 0, done.stderr
    assert (mill.folder / "loaded").exists() and not (mill.folder / "opened").exists()


@pytest.mark.parametrize(("step", "name"), [("clean", "mill"), ("select", "languages")])
def test_a_night_does_not_wait_for_pandas(mill: Room, step: str, name: str) -> None:
    mill.collect(site(5))
    clean_room.clean("mill")
    code = (
        f"import sys; from tasks.{step} import __main__ as room; room.step('{name}'); assert "
        f"'pandas' not in sys.modules; import pandas, pyarrow; assert len(pyarrow.table({{'a': "
        "[1]}).to_pandas()) == 1"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=mill.folder,
        env={**os.environ, "PYTHONPATH": str(mill.folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.system
def test_memory_does_not_grow_with_the_texts(mill: Room) -> None:
    """48 and 144 MB of text: three times the documents cost their addresses and bands, and not
    three times the texts.
    """
    mill.collect(site(5))
    clean_room.clean("mill")
    row = pd.read_parquet(mill.out / "documents.parquet").iloc[0].to_dict() | {"blob": None}
    random_ = random.Random(4)
    pool = [sentence(random_, 20) for _ in range(5_000)]
    peak = {}
    for count in (6_000, 18_000):
        with clean_room.Table(mill.out / "documents.parquet", CLEANED) as table:
            for number in range(count):
                body = " ".join(random_.choices(pool, k=57))
                table.add(
                    row
                    | {
                        "uri": f"http://mill.example/{number:06}",
                        "text": body,
                        "chars": len(body),
                        "digest": normal.digest(body),
                    },
                    len(body),  # as clean does, else all of them are one row group
                )
        child = subprocess.Popen(
            [sys.executable, "-m", "tasks.select", "languages"],
            cwd=mill.folder,
            env={**os.environ, "PYTHONPATH": str(mill.folder)},
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        peak[count] = usage.ru_maxrss / 1024
        assert (
            status == 0
            and len(
                pd.read_parquet(
                    mill.folder / "data/select/languages/documents.parquet", columns=["uri"]
                )
            )
            == count
        )
    assert peak[18_000] - peak[6_000] < 60, peak


def test_documents_lie_in_the_order_of_role_and_address_however_many_row_groups_they_come_from(
    mill: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill.collect(
        site(30) | {f"http://a.example/{number}": html(number + 100) for number in range(20)}
    )
    monkeypatch.setattr(clean_room, "BATCH_ROWS", 7)
    clean_room.clean("mill")
    whole = pd.read_parquet(mill.out / "documents.parquet")
    assert len(whole) == 50
    kept = select(mill).reset_index()
    expected = whole.sort_values("uri", ignore_index=True)[DOCUMENTS.names]
    assert kept[DOCUMENTS.names].equals(expected) and whole["digest"].tolist() == [
        normal.digest(body) for body in whole["text"]
    ]
    before = mill.digests("select", "languages")
    for name, schema, some in (
        ("documents", DOCUMENTS, expected.to_dict("records")),
        ("dropped", DROPPED, []),
    ):
        table = pa.Table.from_pylist([row | {"blob": None} for row in some], schema=schema)
        save(mill.folder / "whole.parquet", table, schema)
        assert (mill.folder / "whole.parquet").read_bytes() == (
            mill.folder / "data/select/languages" / f"{name}.parquet"
        ).read_bytes(), "as if they had been written at once"
    monkeypatch.setattr(rows, "GROUP_BYTES", 5_000)
    assert (
        select(mill).reset_index()[DOCUMENTS.names].equals(expected)
        and mill.digests("select", "languages") != before
    )
    assert (
        pq.ParquetFile(mill.folder / "data/select/languages/documents.parquet").num_row_groups > 5
    )


def test_documents_of_older_code_are_told_from_ours(mill: Room) -> None:
    mill.collect(site(3))
    clean_room.clean("mill")
    path = mill.out / "documents.parquet"
    pd.read_parquet(path).drop(columns="digest").to_parquet(path)
    with pytest.raises(Fault, match=r"its columns are others.*run python -m tasks.clean mill"):
        select(mill)


def test_a_quality_policy_is_the_recipes_and_names_the_signal(mill: Room) -> None:
    pages = site(4) | {
        "http://mill.example/again": b"<html lang=en><p>"
        + b"buy the flour of the mill and that was it " * 60
        + b"</p></html>"
    }
    mill.collect(pages)
    clean_room.clean("mill")
    assert len(select(mill)) == 5, "none by itself"
    (mill.folder / "conf" / "quality" / "own.yaml").write_text(
        "source: what this test asks for\nlanguages:\n  en: {repeated_10: [null, 0.5]}\n"
    )
    left = select(mill, quality="own")
    report = json.loads((mill.folder / "data/select/languages/report.json").read_text())
    assert (
        "http://mill.example/again" not in left.index
        and len(left) == 4
        and report["dropped"] == {"own: repeated_10": 1}
    )
    with pytest.raises(
        Refused, match=r"no quality 'gofer'; conf/quality has c4, fineweb, fineweb2, gopher, own"
    ):
        select(mill, quality="gofer")


def test_damaged_documents_are_one_line_with_the_remedy(mill: Room) -> None:
    mill.collect(site(3))
    clean_room.clean("mill")
    path = mill.out / "documents.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(
        Fault,
        match=r"data/clean/mill/documents.parquet is damaged .*; remove it and run python -m "
        r"tasks.clean mill",
    ):
        select(mill)


# Policies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", config.files("quality"))
def test_every_policy_names_its_source_and_signals_that_there_are(name: str) -> None:
    found = config.quality(name)
    there = set(quality.signals("\n".join(prose(1)), "en"))
    assert len(found.source) > 10
    for language, bounds in found.languages.items():
        assert set(bounds) <= there, (language, set(bounds) - there)
        assert all(
            least is None or most is None or least <= most for least, most in bounds.values()
        )


GERMAN = (
    "Der Müller mahlt in der Nacht das Korn, das die Bauern von den Feldern im Tal gebracht "
    "haben, und er schläft nicht. "
)
CHINESE = (
    "磨坊主在夜里磨面粉，他的面粉是镇上最好的，人们都来买。"
    "河水推动水车，年复一年，没有停过。孩子们在桥上看着，说这是一个奇迹。"
)


def test_english_numbers_are_never_applied_to_another_language() -> None:
    gopher = config.quality("gopher")
    for language, body in (("de", GERMAN * 8), ("zh", CHINESE * 8)):
        signals = json.dumps(quality.signals(body, language))
        assert policy.reason(gopher, "gopher", language, signals) is None
        assert policy.reason(gopher, "gopher", "en", signals) is not None, (
            "the same text, were it English, is not up to it"
        )
        assert (
            policy.reason(gopher.model_copy(update={"others": "drop"}), "gopher", language, signals)
            == "gopher: no bounds for its language"
        )
    two = config.quality("fineweb2")
    assert (
        "en" not in two.languages
        and two.languages["zh"].get("mean_word") is None
        and two.languages["de"]["mean_word"][1] == 15
    )


def test_a_texts_language_is_the_found_one_where_it_is_sure() -> None:
    assert (
        policy.language("en", "de", 0.9) == "de"
        and policy.language("pt-BR", "de", 0.3) == "pt"
        and policy.language("de_AT", "", 0.0) == "de"
    )


def test_good_prose_passes_every_policy_and_each_bound_can_say_no() -> None:
    whole = quality.signals("\n".join(prose(7, 12)), "en")
    gopher = config.quality("gopher").languages["en"]
    bounds = {
        **gopher,
        **config.quality("fineweb").languages["en"],
        **config.quality("c4").languages["en"],
    }
    own = Quality(source="a test of ours", languages={"en": bounds})
    loose = {"top_2": 1.0, "top_3": 1.0, "top_4": 1.0}  # the generated prose says "and the" often
    assert (
        policy.reason(
            own,
            "all",
            "en",
            json.dumps(
                whole | dict.fromkeys(loose, 0.0) | {f"repeated_{n}": 0.0 for n in range(5, 11)}
            ),
        )
        is None
    )
    fine = whole | dict.fromkeys(loose, 0.0) | {f"repeated_{n}": 0.0 for n in range(5, 11)}
    for signal, (least, most) in bounds.items():
        broken = fine | {signal: (least - 0.01 if least is not None else (most or 0) + 0.01)}
        assert policy.reason(own, "all", "en", json.dumps(broken)) == f"all: {signal}"
    assert policy.reason(own, "all", "en", "") == "all: too short to be judged"


def test_recall_of_edited_copies_is_what_is_claimed() -> None:
    """Copies with 2, 5 and 10 % of their words edited: all, all, nine of ten (docs/clean.md)."""
    bodies = [
        " ".join(sentence(random.Random(seed * 100 + part), 14) for part in range(12))
        for seed in range(150)
    ]
    bodies = [
        " ".join(f"{word}{chr(97 + seed % 26)}{chr(97 + seed // 26)}" for word in body.split())
        for seed, body in enumerate(bodies)
    ]
    for share, least in ((0.02, 1.0), (0.05, 0.98)):
        texts = [*bodies, *(edited(body, share, seed) for seed, body in enumerate(bodies))]
        found = duplicates.copies(texts, ["g"] * len(texts), 0.6)
        assert (
            sum(found.get(150 + number, (None, ""))[0] == number for number in range(150))
            >= least * 150
        )


def test_the_columns_of_documents_are_those_of_before_and_more() -> None:
    assert DOCUMENTS.names[:20] == [
        "doc_id",
        "uri",
        "source",
        "host",
        "kind",
        "part",
        "media",
        "language",
        "script",
        "original",
        "text",
        "payload",
        "blob",
        "attributes",
        "licence",
        "opt_out",
        "letters",
        "chars",
        "words",
        "letter_script",
    ]
    assert np.all(
        [DOCUMENTS.field(name).type in ("string", "float") for name in DOCUMENTS.names[20:]]
    ) and normal.digest("a")


# What counts as the same -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("The mill grinds", "the mill  grinds!", True),
        ("flour\u00admill", "flourmill", True),
        ("water\u200bwheel", "waterwheel", True),
        ("水車は毎晩回る", "水車は\n毎晩回る", True),
        ("great \N{THUMBS UP SIGN}", "great \N{THUMBS DOWN SIGN}", False),
        ("a < b", "a > b", False),
        ("C++", "C#", False),
        ("invoice 12 of 2024", "invoice 13 of 2024", False),
    ],
)
def test_what_is_said_is_compared_and_how_it_is_set_is_not(
    one: str, other: str, equal: bool
) -> None:
    assert (normal.same(one) == normal.same(other)) is equal
    words = numbers.shingled([one, other]).words
    assert (words[0] == words[1]) is equal
    assert bool(duplicates.copies([one, other], ["g", "g"], 0.8)) is equal


def test_chinese_copies_with_two_characters_in_a_hundred_edited_are_found() -> None:
    random_ = random.Random(4)
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 1_500)]
    texts = [
        "，".join("".join(random_.choice(letters) for _ in range(9)) for _ in range(40))
        for _ in range(50)
    ]
    edits = []
    for body in texts:
        signs = list(body)
        for at in random_.sample(range(len(signs)), len(signs) // 50):
            signs[at] = random_.choice(letters)
        edits.append("".join(signs))
    found = duplicates.copies([*texts, *edits], ["g"] * 100, 0.8)
    assert len(found) >= 48 and all(found[row][0] == row - 50 for row in found)


def template_pages(count: int, shared: float) -> list[str]:
    random_ = random.Random(3)
    template = [f"t{random_.randrange(10**6)}" for _ in range(int(120 * shared))]
    own = 120 - len(template)
    return [
        " ".join([*template, *(f"w{random_.randrange(10**6)}" for _ in range(own))])
        for _ in range(count)
    ]


@pytest.mark.parametrize("shared", [0.77, 0.86])
def test_pages_of_one_template_cost_by_their_number_and_their_copies_are_found(
    shared: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    asked = duplicates.Alike.__call__
    monkeypatch.setattr(
        duplicates.Alike,
        "__call__",
        lambda self, *pair: compared.append(pair) or asked(self, *pair),
    )
    counts = []
    for pages in (200, 800):
        compared.clear()
        assert duplicates.copies(template_pages(pages, shared), ["g"] * pages, 0.8) == {}
        counts.append(len(compared))
    assert counts[1] <= max(6 * counts[0], 800), "the square would be sixteen times"
    pages = template_pages(400, shared)
    edits = [edited(body, 0.02, number) for number, body in enumerate(pages[:60])]
    found = duplicates.copies([*pages, *edits], ["g"] * 460, 0.8)
    assert set(found) == set(range(400, 460))


@pytest.mark.parametrize("threshold", [0.45, 0.6, 0.7])
def test_copies_are_found_at_every_threshold_that_is_allowed(threshold: float) -> None:
    random_ = random.Random(8)
    texts, edits = [], []
    for _ in range(60):
        words = [f"w{random_.randrange(10**6)}" for _ in range(150)]
        texts.append(" ".join(words))
        for at in range(0, int(150 * (1 - threshold) / (1 + threshold))):
            words[149 - at] = f"e{random_.randrange(10**6)}"
        edits.append(" ".join(words))
    assert len(duplicates.copies([*texts, *edits], ["g"] * 120, threshold * 0.97)) >= 52


def test_a_similarity_that_bands_cannot_find_is_refused() -> None:
    with pytest.raises(Refused, match=r"near_duplicates: 0.3 is below 0.42"):
        Bands(threshold=0.3)
    with pytest.raises(ValueError, match=r"greater than or equal to 0[.]42"):
        Select(near_duplicates=0.3)
