"""Clean: what is read anew, what comes out of it, and what broken input costs."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tasks.clean import __main__ as room
from tasks.clean import language, page, pool, quality, read
from tasks.clean.cache import packed, unpacked
from tasks.clean.part import Part, Unreadable
from tasks.clean.selectors import cut
from tests.support.rooms import HERE, Room, html, prose, site
from tidemill.engines import config
from tidemill.engines.config.schema import Rule, Source
from tidemill.records import warc
from tidemill.runtime.errors import Fault, Refused
from tidemill.web import charset


@pytest.fixture
def mill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    found = Room(tmp_path / "room")
    monkeypatch.chdir(found.folder)
    return found


def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The records that children are asked for, as they are."""
    told: list[str] = []
    whole = pool.Pool.asked

    def noting(self, requests, processes):
        def each():
            for request in requests:
                told.append(request[0]["uri"])
                yield request

        return whole(self, each(), processes)

    monkeypatch.setattr(pool.Pool, "asked", noting)
    return told


# Incremental --------------------------------------------------------------------------------------


def test_the_output_is_the_same_to_the_byte_whatever_the_order_the_processes_and_the_nights(
    mill: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = site(24) | {
        "http://other.example/1": b"\0binary",
        "http://other.example/2": "<p>Grüße aus der Mühle, an alle, die hier wohnen</p>".encode(
            "iso-8859-1"
        ),
    }
    mill.processes(1)
    mill.collect(pages)
    room.clean("mill")
    once = mill.digests()
    lineage = once.pop("lineage.parquet")
    assert mill.report()["counts"] == {"pages": 26, "documents": 26}

    other = Room(tmp_path / "other")
    monkeypatch.chdir(other.folder)
    other.processes(4)
    shuffled = list(pages.items())
    random.Random(3).shuffle(shuffled)
    other.collect(
        dict(shuffled[:9]) | {uri: html(99) for uri, _ in shuffled[9:12]}
    )  # a first night, some pages as they were before
    room.clean("mill")
    other.collect(dict(shuffled[9:]))
    room.clean("mill")
    twice = other.digests()
    assert twice.pop("lineage.parquet") != lineage, "where the bytes lie is another matter"
    assert twice == once


def test_a_night_reads_only_what_changed(mill: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    mill.collect(site(20))
    room.clean("mill")
    told = asked(monkeypatch)
    room.clean("mill")
    assert told == []
    mill.collect({"http://mill.example/7": html(7, version=2)}, fetched="2026-11-26T03:00:00Z")
    room.clean("mill")
    assert set(told) == {"http://mill.example/7"}
    text = (
        pd.read_parquet(mill.out / "documents.parquet")
        .set_index("uri")
        .loc["http://mill.example/7", "text"]
    )
    assert prose(7002)[0] in text and prose(7001)[0] not in text


def test_a_changed_setting_is_a_changed_record_and_a_signal_is_not(
    mill: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill.collect(site(6))
    room.clean("mill")
    told = asked(monkeypatch)
    mill.collect({}, signals=None)
    rows = warc.manifest(mill.raw)
    rows["http://mill.example/3"]["signals"] = "noai"
    warc.save_manifest(mill.raw, rows.values())
    mill.say(licence="MIT")
    room.clean("mill")
    documents = pd.read_parquet(mill.out / "documents.parquet")
    assert told == [] and set(documents["licence"]) == {"MIT"}, (
        "licence and signals are looked at each night, without reading a page"
    )
    assert mill.report()["dropped"] == {
        "its site says no": 1
    } and "http://mill.example/3" not in set(documents["uri"])
    mill.say(clean={"min_letters": 20, "max_chars": 50})
    room.clean("mill")
    assert len(told) == 12, "each page is read and then measured"
    assert pd.read_parquet(mill.out / "documents.parquet")["chars"].max() == 50


@pytest.mark.parametrize(
    "harm", ["not a database at all, and long enough to be looked at" * 40, "flip"]
)
def test_a_damaged_index_is_dropped_with_one_line_and_the_output_is_the_same(
    mill: Room, harm: str, capfd: pytest.CaptureFixture[str]
) -> None:
    mill.collect(site(8))
    room.clean("mill")
    whole = mill.digests()
    path = mill.folder / ".tidemill" / "clean" / "mill.sqlite"
    if harm == "flip":
        with sqlite3.connect(path) as file:
            key, body = file.execute(
                "select key, body from done order by length(body) desc"
            ).fetchone()
            file.execute(
                "update done set body = ? where key = ?", (bytes([body[0] ^ 1]) + body[1:], key)
            )
        file.close()
        with sqlite3.connect(path) as file:
            file.execute("update done set sum = 1")
        file.close()
    else:
        path.write_text(harm)
    capfd.readouterr()
    room.clean("mill")
    said = [line for line in capfd.readouterr().out.splitlines() if "index" in line]
    assert len(said) == 1 and "is dropped, and all of mill is read again" in said[0]
    assert mill.digests() == whole


def test_a_clean_that_is_killed_again_and_again_ends_with_the_same_bytes(mill: Room) -> None:
    step = "tasks.clean"
    mill.collect(site(150))
    calls = mill.calls(step, "mill")
    whole = mill.digests()
    for path in [*mill.out.iterdir(), *(mill.folder / ".tidemill" / "clean").iterdir()]:
        path.unlink()
    assert mill.killed(calls // 2, step, "mill")
    for part in (0.3, 0.7, 0.95):
        mill.killed(int(calls * part), step, "mill")  # what is there by now needs less
    done = mill.run(step, "mill")
    assert done.returncode == 0, done.stderr
    assert mill.digests() == whole


def test_what_a_killed_writer_left_is_removed(mill: Room) -> None:
    mill.collect(site(3))
    mill.out.mkdir(parents=True)
    (mill.out / ".documents.parquet.x.part").write_bytes(b"half")
    room.clean("mill")
    assert sorted(path.name for path in mill.out.iterdir()) == [
        "documents.parquet",
        "dropped.parquet",
        "lineage.parquet",
        "report.json",
    ]


def test_another_version_of_a_library_that_reads_is_a_reason_to_read_again(
    mill: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill.collect(site(3))
    room.clean("mill")
    told = asked(monkeypatch)
    monkeypatch.setattr(room, "version", lambda name: "0.0")
    room.clean("mill")
    assert len(set(told)) == 3


# Children ---------------------------------------------------------------------------------------


def test_a_record_that_hangs_or_kills_its_reader_costs_that_record_alone() -> None:
    words = ["a", "hang", "b", "die", "c", "leave", "d"]
    with pool.Pool("tests.support.poison", "{}", 3.0) as children:
        answers = list(children.asked(((word, {}, word.encode()) for word in words), 2))
    found = {
        task: (None if head is None else head["said"], body.decode())
        for task, head, body in answers
    }
    assert {word: found[word][0] for word in "abcd"} == {word: word for word in "abcd"}
    assert found["hang"] == (None, "took longer than 3 s to read")
    assert found["die"] == (None, "its reader died of SIGSEGV") and found["leave"] == (
        None,
        "its reader died",
    )


def test_a_record_is_not_late_because_others_have_the_processor() -> None:
    """Which records are read must not depend on what else this machine does."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    began = time.monotonic()
    try:
        with pool.Pool("tests.support.poison", "{}", 2.0) as children:
            answers = list(children.asked([("work", {}, b"work")], 1))
    finally:
        os.sched_setaffinity(0, before)
        for other in others:
            other.kill()
            other.wait()
    assert answers[0][1] == {"said": "work"}, answers
    assert time.monotonic() - began > 2.0  # it had to wait, else nothing was tried


def test_a_record_that_takes_too_long_is_dropped_and_tried_again_another_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = {
        "kind": "whole",
        "name": "page",
        "language": "((a+)+)$",
    }  # an expression that takes for ever on one address
    mill = Room(tmp_path / "room", selector=[slow], clean={"timeout_s": 4.0})
    monkeypatch.chdir(mill.folder)
    pages = {
        f"http://mill.example/{number}": b"A text that is long enough" for number in range(3)
    } | {f"http://mill.example/{'a' * 60}!": b"The one that hangs"}
    mill.collect(pages, media="text/plain")
    room.clean("mill")
    assert (
        mill.report()["dropped"] == {"took longer than 4 s to read": 1}
        and mill.report()["rows"] == 3
    )
    told = asked(monkeypatch)
    room.clean("mill")
    assert told == [f"http://mill.example/{'a' * 60}!"]


def test_what_could_not_be_read_is_read_the_next_night_though_dvc_sees_no_change(
    mill: Room,
) -> None:
    """The room asked as a night asks for it, over DVC; the reader of one page is killed the first
    time.
    """
    for path in (HERE / "conf").rglob("*.yaml"):
        if not (there := mill.folder / "conf" / path.relative_to(HERE / "conf")).exists():
            there.parent.mkdir(exist_ok=True)
            shutil.copy(path, there)
    mill.collect(site(4))
    (mill.folder / "sitecustomize.py").write_text(
        "import os, pathlib, sys\nonce = pathlib.Path(__file__).with_name('once')\nif "
        "'tasks.clean.worker' in sys.orig_argv and not once.exists():\n    from tasks.clean "
        "import read\n    whole = read.pages\n"
        "    def pages(source, row, body):\n        if row['uri'].endswith('/3'):\n            "
        "once.touch()\n            os.kill(os.getpid(), 9)\n        return whole(source, row, "
        "body)\n    read.pages = pages\n"
    )
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    for words in (
        ("dvc", "init", "--no-scm", "-q"),
        ("tidemill.engines.dvc",),
        ("dvc", "commit", "-f", "-q", "collect@mill"),
    ):
        done = mill.run(*words, **env)
        assert done.returncode == 0, done.stderr
    (mill.folder / "night.py").write_text(
        "from tidemill.engines.dvc import stages\ndue = "
        "stages.due(['clean@mill'])['clean@mill']\nprint(due, stages.stage('clean', 'mill', "
        "due).rows)\n"
    )
    said = [mill.run("night", **env) for _ in range(3)]
    assert [done.stdout.strip().splitlines()[-1:] for done in said] == [
        ["True 3"],
        ["True 4"],
        ["False 4"],
    ], said


def test_a_picture_whose_labels_are_damaged_today_is_read_when_they_are_whole_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill = Room(
        tmp_path / "room",
        kind="files",
        path="x",
        selector=[{"kind": "idx", "name": "digit", "labels": ["images", "labels"]}],
        clean={"min_letters": 0},
    )
    for name in ("hosts", "seeds"):
        del mill.source[name]
    mill.say()
    monkeypatch.chdir(mill.folder)
    pictures, labels = (
        b"\0\0\x08\x03\0\0\0\x02\0\0\0\x08\0\0\0\x08" + random.Random(1).randbytes(128),
        b"\0\0\x08\x01\0\0\0\x02\x03\x04",
    )
    mill.collect(
        {
            "d#a-images": pictures,
            "d#b-images": pictures[:16] + pictures[16:][::-1],
            "d#b-labels": labels,
        },
        media="application/octet-stream",
    )
    mill.collect({"d#a-labels": labels}, media="application/octet-stream")
    room.clean("mill")
    whole = mill.digests()
    shutil.rmtree(mill.folder / ".tidemill")
    file = mill.raw / warc.manifest(mill.raw)["d#a-labels"]["raw_file"]
    bytes_ = file.read_bytes()
    file.write_bytes(bytes_[:-30])
    room.clean("mill")
    assert mill.report()["rows"] == 2
    file.write_bytes(bytes_)
    room.clean("mill")
    assert mill.digests() == whole


def test_no_two_parts_of_a_page_have_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill = Room(
        tmp_path / "room",
        selector=[{"kind": "xpath", "name": "p", "each": "//p", "part": "@id", "text": "."}],
        clean={"min_letters": 0},
    )
    monkeypatch.chdir(mill.folder)
    mill.collect(
        {
            "http://mill.example/1": b"<r><p id='a'>one two</p><p id='a'>three four</p><p "
            b"id='a-2'>five six</p><p id='a'>seven eight</p></r>"
        },
        media="text/xml",
    )
    room.clean("mill")
    found = pd.read_parquet(mill.out / "documents.parquet")
    assert (
        found["uri"].str.split("#").str[1].tolist() == ["a", "a-2", "a-2-2", "a-3"]
        and found["doc_id"].is_unique
    )


def test_want_of_memory_says_nothing_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(read, "cut", short)
    with pytest.raises(MemoryError):
        read.documents(
            config.source("tales"), {"uri": "p#m", "media": "text/csv", "charset": None}, b"x"
        )


def test_the_text_of_a_catalogue_names_no_file_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "private.po").write_text('msgid "a"\nmsgstr "private"\n')
    rule = config.source("software").selector[0]
    with pytest.raises(Unreadable):
        list(
            cut(
                rule,
                "p#a/locales/de/LC_MESSAGES/plone.po",
                str(tmp_path / "private.po").encode(),
                {}.get,
            )
        )


def test_a_short_row_of_a_table_has_no_text_called_none() -> None:
    rule = config.source("tales").selector[0].model_copy(update={"text": "b", "delimiter": ","})
    short, long = cut(rule, "p", b"a,b\n1\n2,two,three\n", {}.get)
    assert (short.text, short.attributes) == ("", {"a": "1", "b": ""}) and (
        long.text,
        long.attributes,
    ) == ("two", {"a": "2", "b": "two"})


def test_a_table_without_a_head_is_read_by_given_names_and_its_quotation_marks_stay() -> None:
    rule = config.source("vader").selector[0]
    body = b'1_1\t-0.9\t"Never" again\r\n1_2\t2\t"It works, so far\r\n'
    one, two = cut(rule, "p", body)
    assert (one.text, two.text) == ('"Never" again', '"It works, so far')
    assert one.attributes["rating"] == "-0.9" and two.attributes["id"] == "1_2"


def test_json_lines_are_a_record_each_and_one_bad_line_is_named() -> None:
    rule = Rule(kind="jsonl", name="r", text="body.text", attributes={"label": "topic"})
    body = '\ufeff{"body": {"text": "a\\u2028b"}, "topic": 3}\n\n{"topic": null}\n'.encode()
    parts = list(cut(rule, "p", body))
    assert [(part.place, part.text, part.attributes) for part in parts] == [
        ("row-1", "a\u2028b", {"label": "3"}),
        ("row-3", "", {"label": ""}),
    ]
    for bad in (b'{"a": 1}\n{"a"\n', b"{}\n" + b"[" * 100_000):
        with pytest.raises(Unreadable, match="line 2 is not JSON"):
            list(cut(rule, "p", bad))
    with pytest.raises(Unreadable, match="not UTF-8"):
        list(cut(rule, "p", b"\xff"))


def test_a_texts_label_may_stand_in_its_address() -> None:
    rule = Rule(kind="whole", name="text", label="^[^#]*#([^/]+)/")
    (part,) = cut(rule, "files:mine#spam/1.txt", b"buy now")
    assert part.attributes == {"label": "spam"} and part.text == "buy now"


@pytest.mark.parametrize("harm", ["substr(marks, 1, length(marks) - 6)", "zeroblob(length(marks))"])
def test_marks_that_are_not_as_they_were_written_are_not_believed(
    mill: Room, harm: str, capfd: pytest.CaptureFixture[str]
) -> None:
    mill.collect(site(8))
    room.clean("mill")
    whole = mill.digests()
    with sqlite3.connect(mill.folder / ".tidemill" / "clean" / "mill.sqlite") as file:
        file.execute(f"update done set marks = {harm} where length(marks) > 4")
    file.close()
    capfd.readouterr()
    room.clean("mill")
    assert (
        "is dropped, and all of mill is read again" in capfd.readouterr().out
        and mill.digests() == whole
    )


# Broken input -----------------------------------------------------------------------------------


def test_a_thousand_mutations_of_what_was_collected_quarantine_a_record_and_keep_the_others(
    mill: Room,
) -> None:
    pages = site(6)
    mill.collect(pages)
    source, rows = config.source("mill"), list(warc.manifest(mill.raw).values())
    segment = mill.raw / rows[0]["raw_file"]
    whole, random_ = segment.read_bytes(), random.Random(8)
    outcomes = {"kept": 0, "damaged": 0}
    for _ in range(900):
        segment.write_bytes(mutated(whole, random_))
        failed: dict[str, str] = {}
        kept = {
            row["uri"]: body
            for row, head, body in room._bodies(source, mill.raw, rows, rows, failed)
        }
        assert all(body == pages[uri] for uri, body in kept.items()), (
            "what is kept is what was collected"
        )
        assert set(kept) | set(failed) == {row["uri"] for row in rows} and not set(kept) & set(
            failed
        )
        assert all(why.startswith("damaged") for why in failed.values())
        outcomes["kept"] += len(kept)
        outcomes["damaged"] += len(failed)
    assert outcomes["damaged"] >= 600 and outcomes["kept"] >= 3_000, outcomes
    segment.write_bytes(whole)
    path = mill.raw / "manifest.parquet"
    whole = path.read_bytes()
    for _ in range(100):
        path.write_bytes(mutated(whole, random_))
        try:
            known = warc.manifest(mill.raw)
        except (Fault, Refused):
            continue
        assert isinstance(known, dict)
    path.write_bytes(whole)
    room.clean("mill")
    assert mill.report()["rows"] == 6


def mutated(body: bytes, random_: random.Random) -> bytes:
    """A flipped byte, a hole, a run of chance, or a piece that is missing."""
    at, size = random_.randrange(len(body)), random_.randrange(1, 40)
    return random_.choice(
        [
            lambda: body[:at] + bytes([body[at] ^ (1 << random_.randrange(8))]) + body[at + 1 :],
            lambda: body[:at] + bytes(len(body[at : at + size])) + body[at + size :],
            lambda: body[:at] + random_.randbytes(len(body[at : at + size])) + body[at + size :],
            lambda: body[:at] + body[at + size :] if random_.random() < 0.5 else body[:at],
        ]
    )()


def test_everything_that_comes_in_is_kept_or_dropped_with_a_reason(mill: Room) -> None:
    odd = {
        "http://mill.example/empty": b"",
        "http://mill.example/few": b"<p>Too few</p>",
        "http://mill.example/zip": b"PK\3\4\0\0\0\0",
        "http://mill.example/long": b"<p>" + b"A long line of the mill. " * 420_000 + b"</p>",
        "http://mill.example/half": b"<p>Half a character &#xD800; in a page of the mill, and "
        b"more</p>",
        "http://mill.example/deep": b"<div>" * 20_000
        + b"<p>Deep within a page of the mill, far below</p>",
        "http://mill.example/bytes": random.Random(1).randbytes(5_000),
    }
    mill.collect(site(5) | odd)
    room.clean("mill")
    kept, dropped = (
        pd.read_parquet(mill.out / "documents.parquet"),
        pd.read_parquet(mill.out / "dropped.parquet"),
    )
    assert (
        len(kept) + len(dropped) == 12 == mill.report()["counts"]["documents"]
        and dropped["reason"].str.len().gt(0).all()
    )
    assert set(kept["uri"]) | set(dropped["uri"]) == set(site(5) | odd)
    assert set(kept["doc_id"]) == set(pd.read_parquet(mill.out / "lineage.parquet")["doc_id"])
    long = kept.set_index("uri").loc["http://mill.example/long"]
    assert long["chars"] == 100_000, "a line of 10 MB is cut where the source says"


def test_text_that_no_table_can_hold_is_dropped_with_its_reason() -> None:
    source = config.source("udhr")
    row = {"uri": "http://udhr.localhost/x", "media": "text/xml", "charset": None}
    found = read.sound(source, row, Part("article", "article-1", "half a \ud800 character"), "")
    assert found["unread"] == "half a character (a lone surrogate)" and found["text"] == ""
    assert read.sound(source, row, Part("article", "article-\ud801", "whole"), "")["unread"]


def test_when_nothing_is_left_one_line_says_why_and_the_last_output_stays(mill: Room) -> None:
    mill.collect(site(4))
    room.clean("mill")
    whole = mill.digests()
    mill.collect(dict.fromkeys(site(4), b"<p>x</p>"))
    with pytest.raises(
        Refused, match=r"source mill: no page has usable text \(4 x fewer than 20 letters\)"
    ):
        room.clean("mill")
    assert mill.digests() == whole and not list(mill.out.glob("*.part")), (
        "not even a part of a file is left"
    )


def test_a_file_that_is_gone_is_a_fault_and_no_reason_to_drop(mill: Room) -> None:
    mill.collect(site(3))
    next(mill.raw.glob("*.warc.gz")).unlink()
    with pytest.raises(Fault, match="is gone, and 3 records with it"):
        room.clean("mill")


def test_neither_clean_nor_its_children_open_a_socket(mill: Room) -> None:
    mill.collect(site(8))
    mill.forbid_sockets()
    done = mill.run("tasks.clean", "mill")
    assert done.returncode == 0, done.stderr
    assert len((mill.folder / "loaded").read_text()) >= 2, "the guard stands in the children too"
    assert not (mill.folder / "opened").exists() and mill.report()["rows"] == 8


def test_an_entry_comes_back_as_it_was_kept() -> None:
    content = {
        "documents": [
            {"text": "Grüße", "payload": b"\0\1"},
            {"text": "", "payload": None},
            {"text": "b", "payload": b"z" * 9},
        ]
    }
    again = unpacked(
        packed(
            json.loads(json.dumps(content, default=lambda value: None))
            | {"documents": [dict(item) for item in content["documents"]]}
        )
    )
    assert again == content


# Pages ------------------------------------------------------------------------------------------

GERMAN = (
    "<html><head>{meta}</head><body><p>Die Mühle mahlt jede Nacht, was die Flut gebracht hat "
    "– für alle, die größere Säcke haben.</p></body></html>"
)


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (
            b"\xef\xbb\xbf" + GERMAN.format(meta="<meta charset=iso-8859-1>").encode(),
            "windows-1251",
        ),
        (b"\xff\xfe" + GERMAN.format(meta="").encode("utf-16-le"), "utf-8"),
        (GERMAN.format(meta="<meta charset=utf-8>").encode("windows-1252"), "ISO-8859-1"),
        (
            GERMAN.format(
                meta='<meta http-equiv="Content-Type" content="text/html; charset=windows-1252">'
            ).encode("windows-1252"),
            None,
        ),
        (GERMAN.format(meta="").encode(), None),
        (GERMAN.format(meta="").encode("windows-1252"), None),
        (GERMAN.format(meta="").encode("windows-1252"), "no-such-charset"),
    ],
)
def test_a_page_is_decoded_by_its_mark_then_its_header_then_its_own_word_then_its_look(
    body: bytes, header: str | None
) -> None:
    assert (
        "Die Mühle mahlt jede Nacht, was die Flut gebracht hat – für alle, die größere Säcke haben."
        in charset.decode(body, header)
    )


def test_encoding_is_mended_only_where_it_is_broken() -> None:
    assert page.mended("Die MÃ¼hle mahlt fÃ¼r alle") == "Die Mühle mahlt für alle"
    for sound in (
        "Die Mühle “mahlt” … für alle",
        "l’été à Noël",
        "ﬁne ① ｗｉｄｅ",
        "水車は毎晩回る",
        "plain",
    ):
        assert page.mended(sound) == sound


def test_what_a_host_repeats_is_cut_and_what_is_a_pages_own_stays(mill: Room) -> None:
    pages = site(12) | {"http://lone.example/1": html(500)}
    mill.collect(pages)
    room.clean("mill")
    documents = pd.read_parquet(mill.out / "documents.parquet").set_index("uri")
    for number in range(12):
        text = documents.loc[f"http://mill.example/{number}", "text"]
        assert (
            all(line in text for line in prose(number * 1000 + 1))
            and f"Page {number} of the mill" in text
        )
        assert "Home of the mill" not in text and "keep all rights" not in text
    assert "keep all rights" in documents.loc["http://lone.example/1", "text"], (
        "one page teaches nothing about its host"
    )
    row = documents.loc["http://mill.example/3"]
    assert row["language"] == "en" and row["language_found"] == "en" and row["language_score"] > 0.5
    assert (
        json.loads(row["attributes"]) == {"title": "Page 3"}
        and json.loads(row["quality"])["stop_words"] >= 2
    )


def test_a_host_whose_pages_are_nearly_all_the_same_does_not_lose_them() -> None:
    body = "".join(f"<p>{line}</p>" for line in prose(1))
    pages = [
        page.read(f"<body>{body}<p>{number}</p></body>".encode(), None) for number in range(10)
    ]
    host = page.HostBlocks()
    for one in pages:
        host.add(page.marks(one))
    text = page.main_text(pages[0].blocks, page.cuts(page.marks(pages[0]), host.repeated()))
    assert prose(1)[0] in text
    same = page.HostBlocks()
    for _ in range(10):
        same.add(page.marks(pages[0]))
    assert same.pages == 1 and not same.repeated(), "a page that is there ten times teaches nothing"


def test_navigation_goes_and_an_element_that_holds_the_page_stays_whatever_its_class() -> None:
    read_ = page.read(
        b"<body class='nav'><nav>Menu here</nav><div class='navbar'>Bar</div><div "
        b"class='wy-nav-content'><h1>Head</h1><p>A first <b>bold</b> "
        b"word<br>second</p><table><tr><td>x<td>y</table></div><footer>f</footer></body>",
        None,
    )
    assert [text for text, _ in read_.blocks] == ["Head", "A first bold word\nsecond", "x y"]


MAIN = "The mill grinds every night what the tide has brought to the harbour and its bakers. " * 4


@pytest.mark.parametrize(
    "wrapper",
    [
        "<div class='no-sidebar'>{}</div>",
        "<div class='shareholder-report'>{}</div>",
        "<div class='navy-blue'>{}</div>",
        "<div class='has-sidebar layout'>{}</div>",
        "<div class='menu'>{}</div>",
        "<div id='socialScience'>{}</div>",
        "<form action='x.aspx' id='aspnetForm'>{}</form>",
        "<aside>{}</aside>",
        "<nav>{}</nav>",
        "<footer>{}</footer>",
        "<div role='complementary'>{}</div>",
        "<div hidden>{}</div>",
        "<div aria-hidden='true'>{}</div>",
    ],
)
def test_an_element_with_most_of_the_text_is_kept_whatever_it_is_called(wrapper: str) -> None:
    around = "<div class='sidebar'>Older news</div><footer>All rights</footer>"
    body = f"<body>{around}{wrapper.format(f'<p>{MAIN}</p>')}</body>"
    assert [text for text, _ in page.read(body.encode(), None).blocks] == [MAIN.strip()]


@pytest.mark.parametrize(
    ("name", "is_navigation"),
    [
        ("navbar", True),
        ("main-menu", True),
        ("breadcrumbs", True),
        ("shareButtons", True),
        ("share-buttons", True),
        ("left_sidebar", True),
        ("cookie-consent", True),
        ("navy-blue", False),
        ("shareholder", False),
        ("menuet", False),
        ("page-with-sidebar", False),
        ("no-nav", False),
        ("related", True),
        ("related-work", False),
    ],
)
def test_a_class_word_has_an_end(name: str, is_navigation: bool) -> None:
    assert page.named_as_navigation(name) is is_navigation


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<pre>def f():\n    return  1\n\nf()</pre>", "def f():\n    return  1\n\nf()"),
        ("<p>Roses are red<br>violets\n are blue</p>", "Roses are red\nviolets are blue"),
        ("<p>水車は毎晩\n回る。</p>", "水車は毎晩回る。"),
        ("<p>water\nwheel</p>", "water wheel"),
        ("<p>全部 空白</p>", "全部 空白"),
    ],
)
def test_lines_of_a_page_are_those_that_a_reader_sees(body: str, text: str) -> None:
    assert page.main_text(page.read(f"<body>{body}</body>".encode(), "utf-8").blocks, ()) == text


CODE = "def f():\n    return 1\n\n\n\nprint(f())\r\nlast  "
KEPT = "def f():\n    return 1\n\nprint(f())\nlast"


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        ({"kind": "whole"}, CODE.encode()),
        ({"kind": "json", "text": "a.b"}, json.dumps({"a": {"b": CODE}}).encode()),
        ({"kind": "table", "text": "t"}, f't,x\n"{CODE}",1\n'.encode()),
        ({"kind": "xpath"}, f"<code>{CODE}</code>".encode()),
    ],
)
def test_line_breaks_and_indentation_are_kept(rule: dict, body: bytes) -> None:
    source = Source.model_validate(
        {
            "name": "code",
            "kind": "files",
            "path": "x",
            "licence": "CC0-1.0",
            "selector": [{"name": "file", **rule}],
            "clean": {},
        }
    )
    [document] = read.documents(source, {"uri": "a", "media": "text/plain"}, body)
    assert document["text"] == KEPT


@pytest.mark.parametrize(
    ("media", "body", "text", "unread"),
    [
        ("text/html", b"<p>a &lt; b</p><p>c</p>", "a < b\nc", None),
        ("text/plain", b"if a <b> c:\n  d\n\nnext &amp;", "if a <b> c:\n  d\nnext &amp;", None),
        (None, b"<!doctype html><p>a &lt; b</p>", "a < b", None),
        (None, b"1 <p> 2", "1 <p> 2", None),
        ("*/*", b"a &lt; b", "a &lt; b", None),
        ("application/pdf", b"%PDF-1.7 <p>x</p>", "", "media type application/pdf"),
        ("text/css", b"p {}", "", "media type text/css"),
    ],
)
def test_a_page_is_html_by_the_crawlers_own_rule(
    media: str | None, body: bytes, text: str, unread: str | None
) -> None:
    source = Source.model_validate(
        {
            "name": "site",
            "kind": "web",
            "hosts": ["a.localhost"],
            "seeds": ["http://a.localhost/"],
            "licence": "CC0-1.0",
            "selector": [{"kind": "page", "name": "page"}],
            "clean": {},
        }
    )
    row = {"uri": "http://a.localhost/", "media": media, "charset": None}
    found, _ = read.pages(source, row, body)
    if unread is not None:
        assert unread in found["unread"]
    else:
        assert "\n".join(block for block, _ in found["blocks"]) == text


def test_true_and_false_in_a_record_are_words() -> None:
    [part] = cut(
        Rule(kind="json", name="r", text="t", attributes={"spam": "is.spam", "none": "n"}),
        "a",
        b'{"t": "x", "is": {"spam": false}, "n": null}',
    )
    assert part.attributes == {"none": "", "spam": "false"}


def test_a_series_its_name_and_cut_text_are_marked_too() -> None:
    source = Source.model_validate(
        {
            "name": "calls",
            "kind": "files",
            "path": "x",
            "licence": "CC0-1.0",
            "selector": [{"kind": "csv", "name": "series", "group": "who"}],
            "clean": {"pii": True, "max_chars": 50},
        }
    )
    table = b"who,phone,sum\nanna@mill.example,020 7946 0958,12\n"
    [document] = read.documents(source, {"uri": "a.csv", "media": "text/csv"}, table)
    assert document["payload"] == b"phone,sum\n[PHONE],12\n"
    assert "anna" not in json.dumps({**document, "payload": ""})
    assert json.loads(document["pii"]) == {"phone": 1}


@pytest.mark.parametrize("body", [b"\0\1\2\3", b"%PDF-1.7\n\0\0"])
def test_what_is_no_page_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable, match="binary"):
        page.read(body, None)


def test_the_languages_of_a_page_in_two_are_told_with_their_shares() -> None:
    german = (
        "Die Mühle mahlt jede Nacht, was die Flut gebracht hat, und am Morgen holt der "
        "Bäcker das Mehl."
    )
    english = (
        "The mill grinds every night what the tide has brought, and in the morning the "
        "baker comes for flour."
    )
    assert (
        language.mixture(f"{german}\n{english}\n{german}").startswith('{"de": 0.6')
        and language.mixture(f"{german}\n{german}") == ""
    )
    assert language.found(german)[0] == "de" and language.found("123 – 456") == ("", 0.0)


# Quality ----------------------------------------------------------------------------------------


def test_signals_are_what_they_say() -> None:
    line = "one two three four five six seven eight nine ten eleven twelve."
    text = "\n".join([line, line, "- a bullet of the list", "this goes on…", *prose(3, 3)])
    found = quality.signals(text, "en")
    assert (
        found["lines"] == 7
        and found["repeated_lines"] == round(1 / 7, 4)
        and found["bullet_lines"] == round(1 / 7, 4)
        and found["ellipsis_lines"] == round(1 / 7, 4)
    )
    assert found["words"] == len(text.split()) and found["mean_word"] == pytest.approx(
        sum(map(len, text.split())) / len(text.split()), abs=1e-4
    )
    chars = sum(map(len, text.split()))
    again = len(line.replace(" ", ""))
    assert found["repeated_10"] == pytest.approx(again / chars, abs=0.01), (
        "the second time the line is said, each character once"
    )
    assert quality.signals("short", "en") == {}
    assert quality.signals("word " * 100, "en")["top_2"] == 1.0


def test_repetition_is_counted_as_by_hand() -> None:
    """Beside a slow count in plain Python, on texts with much repetition."""
    random_ = random.Random(5)
    for _ in range(20):
        tokens = [random_.choice(["aa", "bbb", "c", "dddd", "ee"]) for _ in range(120)]
        text = " ".join(tokens)
        found, total = quality.signals(text.ljust(200), "en"), sum(map(len, tokens))
        for size in quality.TOP:
            grams = [tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)]
            most = max(map(grams.count, grams))
            assert any(
                abs(found[f"top_{size}"] - min(1.0, most * sum(map(len, gram)) / total)) < 1e-3
                for gram in grams
                if grams.count(gram) == most
            )
        for size in quality.REPEATED:
            grams, covered, seen = (
                [tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)],
                set(),
                set(),
            )
            for at, gram in enumerate(grams):
                if gram in seen:
                    covered.update(range(at, at + size))
                seen.add(gram)
            assert found[f"repeated_{size}"] == pytest.approx(
                sum(len(tokens[at]) for at in covered) / total, abs=1e-4
            )


def test_languages_without_spaces_are_counted_by_characters() -> None:
    chinese = (
        "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。" * 6
    )
    found = quality.signals(chinese, "zh")
    assert (
        found["unit"] == "character"
        and found["words"] == len(chinese) // 2
        and "mean_word" not in found
        and found["stop_words"] >= 2
    )
    assert found["sentences"] == 12
    assert quality.signals(chinese, "")["words"] == 1, "only a known language is counted so"


def test_tables_are_written_in_batches_that_do_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "BATCH_ROWS", 10)
    with room.Table(tmp_path / "a.parquet", room.DROPPED) as table:
        for number in range(25):
            table.add({"doc_id": str(number), "uri": "u", "reason": "r", "text": ""})
    assert pq.read_table(tmp_path / "a.parquet").column("doc_id").to_pylist() == [
        str(number) for number in range(25)
    ]
    with pytest.raises(ValueError), room.Table(tmp_path / "b.parquet", room.DROPPED) as table:
        table.add({"doc_id": "1", "uri": "u", "reason": "r", "text": ""})
        raise ValueError
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


# Tables -----------------------------------------------------------------------------------------


def test_a_table_of_too_many_rows_is_dropped_and_a_cell_of_ten_megabytes_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tasks.clean import binary_selectors as rooms
    from tasks.clean.selectors import cut
    from tidemill.engines.config.schema import Rule

    monkeypatch.setattr(rooms, "MOST_ROWS", 100)
    body = b"day,price\n" + b"2026-11-25,1\n" * 101
    with pytest.raises(Unreadable, match="more than 100 rows"):
        list(cut(Rule(kind="csv", name="s"), "u", body))
    assert len(list(cut(Rule(kind="csv", name="s"), "u", body[: -len(b"2026-11-25,1\n")]))) == 1
    long = b"x" * 9_000_000
    assert [
        len(part.text)
        for part in cut(
            Rule(kind="table", name="t", text="body"), "u", b"body\n" + long + b"\nshort\n"
        )
    ] == [9_000_000, 5]
    with pytest.raises(Unreadable, match="not a CSV table"):
        list(cut(Rule(kind="table", name="t", text="body"), "u", b"body\n" + long + long + b"\n"))


def test_a_record_of_too_many_parts_is_dropped_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MOST_PARTS", 5)
    source = config.source("tales").model_copy(
        update={
            "selector": (
                config.source("tales")
                .selector[0]
                .model_copy(update={"text": "Content", "delimiter": ","}),
            )
        }
    )
    row = {"uri": "p#m", "media": "text/csv", "charset": None}
    assert len(read.documents(source, row, b"Content\n" + b"once\n" * 5)) == 5
    found = read.documents(source, row, b"Content\n" + b"once\n" * 6)
    assert [document["unread"] for document in found] == ["more than 5 parts"]


@pytest.mark.system
def test_twenty_kills_at_drawn_moments_change_nothing_and_leave_no_child(mill: Room) -> None:
    mill.collect(site(400))
    calls = mill.calls("tasks.clean", "mill")
    whole, random_, kills = mill.digests(), random.Random(20), 0
    for _ in range(20):
        for path in (
            [*mill.out.iterdir(), *(mill.folder / ".tidemill" / "clean").iterdir()]
            if random_.random() < 0.6
            else []
        ):
            path.unlink()
        kills += mill.killed(random_.randint(1, calls), "tasks.clean", "mill")
    time.sleep(1)
    left = [
        path
        for path in Path("/proc").glob("[0-9]*/cwd")
        if path.exists() and path.resolve() == mill.folder and path.parent.name != str(os.getpid())
    ]
    assert kills > 5 and not left, left
    assert mill.run("tasks.clean", "mill").returncode == 0
    assert mill.digests() == whole


@pytest.mark.parametrize(
    ("body", "blocks"),
    [
        ("<p>A film: <video>Your browser shows no video.</video> seen</p>", ["A film: seen"]),
        ("<p>A song <audio>No sound here.</audio><canvas>None.</canvas></p>", ["A song"]),
        (
            "<p>so <math><mi>x</mi><annotation encoding='application/x-tex'>x</annotation></math>",
            ["so x"],
        ),
        ("<fieldset><legend>Size</legend>large</fieldset>", ["Size", "large"]),
        ("<search>find it</search>", ["find it"]),
        ("<listing>a\n  b</listing>", ["a\n  b"]),
    ],
)
def test_what_no_reader_sees_is_no_text_and_blocks_are_the_standards(
    body: str, blocks: list[str]
) -> None:
    assert [text for text, _ in page.read(f"<body>{body}".encode(), None).blocks] == blocks


def test_a_page_in_utf_16_without_a_mark_is_read_by_its_header() -> None:
    body = "<p>hé là</p>".encode("utf-16-le")
    assert page.read(body, "utf-16le").blocks == [("hé là", False)]
    assert page.plain("hé là".encode("utf-16-be"), "UTF-16BE").blocks == [("hé là", False)]
    with pytest.raises(Unreadable):
        page.read(body, "utf-8")


def test_elements_that_hold_the_main_text_stay_however_deep_it_lies() -> None:
    deep = '<div class="sidebar">' * 300
    body = f"<body>{deep}<h1>Tides</h1></div><p>{'links ' * 9}</p>"
    assert ("Tides", False) in page.read(body.encode(), None).blocks
