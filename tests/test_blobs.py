"""Pictures and sounds lie once, in packs, and tables name them."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.clean import __main__ as clean_step
from tasks.label import __main__ as label_step
from tasks.label.carry import carry
from tasks.select import __main__ as select_step
from tasks.split import __main__ as split_step
from tests.support.rooms import HERE, Room
from tidemill.engines.dvc import snapshots
from tidemill.engines.dvc.command import dvc
from tidemill.records import blobs, packs
from tidemill.records.outputs import OUTPUTS
from tidemill.records.packs import COUNT, Packing, PackList, Packs
from tidemill.runtime.errors import Fault, Refused

LIMIT = 200  # bytes of a pack here
BLOBS = st.lists(st.binary(max_size=120), max_size=30)


def packed(folder: Path, items: list[bytes], limit: int = LIMIT) -> dict[str, bytes]:
    with Packing(folder, limit) as packing:
        for item in items:
            assert packing.add(item) == sha256(item)
    return files(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sha256(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def opened(folder: Path) -> Packs:
    return Packs(folder, Fault)


# Packs --------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(data=st.data(), items=BLOBS, more=BLOBS, fewer=st.integers(0, 5))
def test_packs_are_a_function_of_the_blobs_whatever_their_order_and_nights(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    items: list[bytes],
    more: list[bytes],
    fewer: int,
) -> None:
    folder = tmp_path_factory.mktemp("packs")
    tonight = [*items[fewer:], *more]
    whole = packed(folder / "at once", tonight)
    packed(folder / "nights", items)
    assert packed(folder / "nights", data.draw(st.permutations([*tonight, *more[:3]]))) == whole
    there = opened(folder / "nights")
    assert [there.get(sha256(item)) for item in tonight] == tonight
    assert json.loads(whole["packs.json"])["blobs"] == len(set(tonight))
    assert sorted(path.name for path in folder.iterdir()) == ["at once", "nights"]
    for name, body in whole.items():
        alone = int.from_bytes(body[8:16], "little") == 1
        assert name == "packs.json" or alone or len(body) <= LIMIT + COUNT.size


def test_a_night_with_one_new_picture_writes_the_pack_of_its_bits_alone(tmp_path: Path) -> None:
    pictures = [number.to_bytes(2) * 20 for number in range(200)]
    before = packed(tmp_path / "mill", pictures, 1_000)
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "mill").iterdir()}
    after = packed(tmp_path / "mill", [*pictures, b"new"], 1_000)
    assert len(before) > 15 and len(set(after) - set(before)) <= 2
    same = set(before) & set(after) - {"packs.json"}
    assert {name: (tmp_path / "mill" / name).stat().st_mtime_ns for name in same} == {
        name: times[name] for name in same
    }
    assert packed(tmp_path / "mill", pictures, 1_000) == before, "and a night without it undoes it"


def test_a_packing_that_broke_leaves_the_packs_of_before(tmp_path: Path) -> None:
    before = packed(tmp_path / "mill", [b"one"])
    with pytest.raises(ZeroDivisionError), Packing(tmp_path / "mill") as packing:
        packing.add(b"two")
        raise ZeroDivisionError
    assert files(tmp_path / "mill") == before
    assert [path.name for path in tmp_path.iterdir()] == ["mill"]


def test_a_packing_that_broke_beside_an_unreadable_list_removes_no_pack(tmp_path: Path) -> None:
    with Packing(tmp_path / "mill") as packing:
        digest = packing.add(b"a picture")
    (tmp_path / "mill/packs.json").write_text("{")
    with pytest.raises(OSError, match="full"), Packing(tmp_path / "mill") as packing:
        packing.add(b"another")
        raise OSError("full")
    assert [*(tmp_path / "mill").glob("*.pack")]
    with Packing(tmp_path / "mill") as packing:  # and the next one sweeps
        packing.add(b"a picture")
    assert Packs(tmp_path / "mill", Fault).get(digest) == b"a picture"
    assert len([*(tmp_path / "mill").glob("*.pack")]) == 1


FULL = """
import resource, signal, sys
from pathlib import Path
from tidemill.records.packs import Packing
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
with Packing(Path(sys.argv[1]), 100_000) as packing:
    for number in range(20):
        packing.add(number.to_bytes() * 1_000)
"""


@pytest.mark.parametrize("most", [15_000, 20_100], ids=["what is new", "a pack"])
def test_a_disk_that_fills_leaves_no_half_pack_and_the_packs_of_before(
    tmp_path: Path, most: int
) -> None:
    before = packed(tmp_path / "mill", [bytes([number]) * 900 for number in range(20)], 100_000)
    command = [sys.executable, "-c", FULL, str(tmp_path / "mill"), str(most)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    assert done.returncode and "File too large" in done.stderr, done.stderr
    assert files(tmp_path / "mill") == before
    assert [path.name for path in tmp_path.iterdir()] == ["mill"]


KILLED = """
import os, signal, sys
from pathlib import Path
from tidemill.records.packs import Packing

def packed(folder, last=0):
    calls = 0
    def call(frame, event, of):
        nonlocal calls
        names = ("records/packs.py", "runtime/files.py", "runtime/receipt.py")
        if event in ("call", "c_call") and frame.f_code.co_filename.endswith(names):
            calls += 1
            if calls == last:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(call)
    with Packing(folder, 200) as packing:
        for number in range(2, 14):
            packing.add(bytes([number]) * 60)
    sys.setprofile(None)
    return calls

folder = Path(sys.argv[1])
total = packed(folder / "whole")
for number in range(1, int(sys.argv[2])):
    child = os.fork()
    if not child:
        packed(folder / str(number), total * number // int(sys.argv[2]))
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""


def test_a_packing_that_is_killed_in_the_middle_is_finished_by_the_next(tmp_path: Path) -> None:
    old = [bytes([number]) * 60 for number in range(12)]
    new = [bytes([number]) * 60 for number in range(2, 14)]
    times = 24
    for number in range(1, times):
        packed(tmp_path / str(number), old)
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(times)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = files(tmp_path / "whole")
    for number in range(1, times):
        there = opened(tmp_path / str(number))
        assert [there.get(sha256(item)) for item in old[2:]] == old[2:]
        assert packed(tmp_path / str(number), new) == whole
    assert not [*tmp_path.glob(".*")]


def test_a_pack_that_is_cut_changed_or_gone_is_one_line_and_made_anew(tmp_path: Path) -> None:
    digest = sha256(b"a picture")
    before = packed(tmp_path / "mill", [b"a picture", b"another"])
    [path] = tmp_path.glob("mill/*.pack")
    whole = path.read_bytes()
    for damaged, why in (
        (whole[: len(whole) // 2], f"{path.name} is cut off"),
        (whole[:-3], f"{path.name} is cut off"),
        (whole.replace(b"a pic", b"a pix"), f"{path.name} has the blob {digest[:12]} damaged"),
        (b"PNG" + whole, f"{path.name} is no pack"),
        (whole[:10], f"{path.name} is no pack"),
        (b"", f"{path.name} is no pack"),
        (None, f"{path.name} cannot be read"),
    ):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        with pytest.raises(Fault, match=why):
            opened(tmp_path / "mill").get(digest)
        assert packed(tmp_path / "mill", [b"a picture", b"another"]) == before
    with pytest.raises(Fault, match="no pack has the blob 000000000000"):
        opened(tmp_path / "mill").get("0" * 64)
    for listing in (b"", b"[]", b'{"blobs": 1}', b"\xff"):
        (tmp_path / "mill" / "packs.json").write_bytes(listing)
        with pytest.raises(Fault, match=r"packs\.json is not there or no list of packs"):
            opened(tmp_path / "mill")
        assert packed(tmp_path / "mill", [b"a picture", b"another"]) == before


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.binary(max_size=3))
def test_a_pack_of_which_any_byte_changed_never_gives_other_bytes(
    tmp_path_factory: pytest.TempPathFactory, place: int, put: bytes
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    items = [b"one", b"two", b"", b"three" * 9]
    packed(folder / "mill", items)
    for path in folder.glob("mill/*.pack"):
        body = bytearray(path.read_bytes())
        body[place % len(body) : place % len(body) + 1] = put
        path.write_bytes(body)
    there = opened(folder / "mill")
    for item in items:
        try:
            assert there.get(sha256(item)) == item
        except Fault as fault:
            assert "\n" not in str(fault)


# Rows ---------------------------------------------------------------------------------------------

CAPTIONS = st.sampled_from(["", "QQ==", 'a "QQ==" b', "@blob", "sha256:", 'x "@blob" y'])


@settings(max_examples=60, deadline=None)
@given(
    pictures=st.lists(st.binary(max_size=20), min_size=1, max_size=5, unique=True),
    caption=CAPTIONS,
)
def test_rows_come_back_as_they_were_whatever_stands_in_them(
    tmp_path_factory: pytest.TempPathFactory, pictures: list[bytes], caption: str
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    packed(folder / "blobs" / "mill", pictures)
    asked = [
        json.dumps({"caption": caption, "image": base64.b64encode(item).decode()})
        for item in [*pictures, b"x"]
    ]
    rows = pd.DataFrame(
        {
            "source": "mill",
            "inputs": asked,
            "payload": [*pictures, None],
            "blob": [*map(sha256, pictures), None],
        }
    )
    tables = blobs.stripped(rows)
    tables.to_parquet(folder / "test.parquet")
    again = blobs.examples(folder / "test.parquet")
    assert again["inputs"].tolist() == asked
    assert [None if pd.isna(item) else item for item in again["payload"]] == [*pictures, None]
    if caption != "@blob":
        assert tables["payload"].isna().all()
        assert not tables["inputs"].str.contains(blobs._quoted(pictures[0]), regex=False)[0]
    rows.drop(columns="blob").to_parquet(folder / "earlier.parquet")
    earlier = blobs.examples(folder / "earlier.parquet")
    assert earlier["inputs"].tolist() == asked, "a snapshot of the form before is read as it is"
    own = blobs.stripped(rows.assign(blob=None))
    assert own["payload"].tolist() == rows["payload"].tolist(), "what a recipe made stays in line"


# A source of pictures, from clean to split --------------------------------------------------------


@pytest.fixture
def mill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """A project of one source of pictures, which is all that images has."""
    mill = Room(
        tmp_path / "room",
        kind="files",
        path="x",
        hosts=[],
        seeds=[],
        selector=[{"kind": "pixels", "name": "digit", "size": [64, 64]}],
        clean={},
    )
    for other in (mill.folder / "conf").glob("recipe/*.yaml"):
        body = yaml.safe_load(other.read_text())
        if other.stem != "images":
            other.unlink()
            continue
        body["sources"] = [{"name": "mill"}]
        rule = {"source": "mill", "by": "hash", "column": "doc_id", "valid": 0.2, "test": 0.3}
        body["split"] = {"rules": [rule]}
        other.write_text(yaml.safe_dump(body))
    monkeypatch.chdir(mill.folder)
    monkeypatch.setattr(packs, "PACK_BYTES", 40_000)
    return mill


def cleaned(mill: Room, count: int) -> dict[str, bytes]:
    """Collect and clean a table of pictures; the files of their packs."""
    pixels = np.random.default_rng(1).integers(0, 256, (count, 4_097))
    pixels[:, -1] = np.arange(count) % 3
    lines = "\n".join(",".join(map(str, row)) for row in pixels.tolist())
    mill.collect({"files:mill#a.csv": lines.encode()}, media="text/csv")
    clean_step.clean("mill")
    blobs._packs.cache_clear()
    return files(mill.folder / "data/blobs/mill")


def pictures(mill: Room) -> None:
    """Sixty pictures, collected, cleaned, selected, labelled and split."""
    cleaned(mill, 60)
    select_step.select("images")
    label_step.label("images")
    split_step.split("images")
    blobs._packs.cache_clear()


def test_splits_of_pictures_take_less_than_the_pictures_and_say_the_same(mill: Room) -> None:
    pictures(mill)
    folder = mill.folder / "data"
    listed = PackList.load(folder / "blobs" / "mill" / "packs.json")
    assert listed and listed.blobs == 60
    size = sum(
        path.stat().st_size
        for place in ("splits/images", "blobs/mill")
        for path in (folder / place).iterdir()
    )
    assert size < 1.3 * listed.bytes
    for step in ("clean/mill", "select/images", "labels/images", "splits/images"):
        for path in (folder / step).glob("*.parquet"):
            table = pd.read_parquet(path)
            assert "payload" not in table or table["payload"].isna().all()
            assert "inputs" not in table or (table["inputs"] == '{"image": "@blob"}').all()
    rows = blobs.examples(folder / "splits/images/train.parquet")
    assert len(rows) > 10 and rows["payload"].map(lambda each: each[:4] == b"\x89PNG").all()
    assert [json.loads(item)["image"] for item in rows["inputs"]] == [
        base64.b64encode(each).decode() for each in rows["payload"]
    ]


def test_a_picture_that_is_gone_leaves_the_packs_and_one_that_came_changes_few(mill: Room) -> None:
    first, second = cleaned(mill, 40), cleaned(mill, 41)
    assert len(first) > 4 and len(set(second) - set(first)) <= 2
    assert cleaned(mill, 40) == first


def test_the_row_of_a_table_is_no_blob_and_text_makes_no_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill = Room(tmp_path / "room", selector=[{"kind": "rows", "name": "row"}], clean={})
    mill.collect({"http://mill.example/a.csv": b"a,b\n1,2\n3,4\n"}, media="text/csv")
    monkeypatch.chdir(mill.folder)
    clean_step.clean("mill")
    table = pq.read_table(mill.out / "documents.parquet")
    assert [json.loads(row) for row in table["payload"].to_pylist()] == [
        {"a": "1", "b": "2"},
        {"a": "3", "b": "4"},
    ]
    assert table["blob"].null_count == 2
    assert [*files(mill.folder / "data/blobs/mill")] == ["packs.json"]


def test_tables_with_pictures_in_them_are_refused_with_the_stage_that_makes_them_anew(
    mill: Room,
) -> None:
    pictures(mill)
    folder = mill.folder / "data"
    before = files(folder / "splits/images")
    for step, stage, run in (
        ("select", "select@images", lambda: label_step.label("images")),
        ("select", "select@images", lambda: carry("images")),
        ("labels", "label@images", lambda: split_step.split("images")),
    ):
        [path] = [*(folder / step / "images").glob("[de][ox]*s.parquet")]
        whole = path.read_bytes()
        pd.read_parquet(path).drop(columns="blob").to_parquet(path)
        with pytest.raises(Refused, match=f"data/{step}/images is of an earlier form.*{stage}"):
            run()
        path.write_bytes(whole)
    (mill.out / "documents.parquet").write_bytes(
        (folder / "labels/images/examples.parquet").read_bytes()
    )
    with pytest.raises(Fault, match="its columns are others"):
        select_step.select("images")
    assert files(folder / "splits/images") == before, "the last snapshot stays"


def test_a_damaged_pack_is_one_line_with_the_remedy_and_the_last_snapshot_stays(mill: Room) -> None:
    pictures(mill)
    folder = mill.folder / "data"
    before = files(folder / "splits/images")
    for path in (folder / "blobs/mill").glob("*.pack"):
        path.write_bytes(path.read_bytes()[:-9])
    for step in (label_step.label, split_step.split):
        with pytest.raises(Fault, match=r"data/blobs/mill: \S+\.pack is cut off; .*dvc pull"):
            step("images")
    (folder / "blobs/mill/packs.json").unlink()
    blobs._packs.cache_clear()
    with pytest.raises(Fault, match=r"packs\.json is not there .*clean@mill"):
        split_step.split("images")
    assert files(folder / "splits/images") == before
    clean_step.clean("mill")
    split_step.split("images")
    assert files(folder / "splits/images") == before


# Snapshots ----------------------------------------------------------------------------------------

GRAPH = {
    "stages": {
        "clean": {
            "foreach": ["mill"],
            "do": {
                "cmd": "true",
                "outs": [
                    "data/clean/mill/documents.parquet",
                    "data/clean/mill/dropped.parquet",
                    "data/clean/mill/lineage.parquet",
                    {"data/blobs/mill": {"persist": True}},
                ],
            },
        },
        "split": {
            "foreach": ["images"],
            "do": {
                "cmd": "true",
                "deps": ["data/clean/mill/documents.parquet", "data/blobs/mill"],
                "outs": [f"data/splits/images/{name}" for name in OUTPUTS["split"].files],
            },
        },
    }
}


@pytest.fixture
def pushed(mill: Room) -> tuple[Room, str]:
    """Pictures from clean to split, whose snapshot the remote has, and its name."""
    pictures(mill)
    (mill.folder / ".dvc").mkdir()
    (mill.folder / ".dvc/config").write_text(
        "[core]\n    no_scm = true\n    remote = local\n['remote \"local\"']\n"
        "    url = ../.tidemill/remote\n"
    )
    (mill.folder / "dvc.yaml").write_text(yaml.safe_dump(GRAPH))
    dvc("commit", "--force")
    return mill, snapshots.snapshot("images").names[0]


def test_a_snapshot_comes_back_with_the_packs_that_it_names(pushed: tuple[Room, str]) -> None:
    mill, name = pushed
    data = mill.folder / "data"
    tables, packs_of = files(data / "splits/images"), files(data / "blobs/mill")
    rows = blobs.examples(data / "splits/images/test.parquet")
    shutil.rmtree(data)
    shutil.rmtree(mill.folder / ".dvc/cache")
    left = mill.folder / "..restored.part"
    left.mkdir()  # of a restore that was killed
    (left / "test.parquet").touch()
    restored = mill.folder / ".restored"
    snapshots.restore(name, restored)
    assert files(restored / "blobs/mill") == packs_of
    assert {path.name: path.read_bytes() for path in restored.glob("*.*")} == tables
    assert blobs.examples(restored / "test.parquet").equals(rows) and len(rows) > 10
    assert not left.exists()
    (restored / "blobs/mill/packs.json").write_text("{}")
    with pytest.raises(
        Fault, match=r"\.restored/blobs/mill: packs\.json .*; remove \S+/\.restored and"
    ):
        blobs.examples(restored / "test.parquet")


def test_a_reader_finds_blobs_that_a_night_packed_anew(tmp_path: Path) -> None:
    packed(tmp_path, [b"one", b"two"])
    reader = opened(tmp_path)
    assert reader.get(sha256(b"one")) == b"one"
    packed(tmp_path, [bytes([number]) * 60 for number in range(20)] + [b"one"])
    assert reader.get(sha256(b"one")) == b"one"
    assert reader.get(sha256(b"\x07" * 60)) == b"\x07" * 60
    with pytest.raises(Fault, match=f"no pack has the blob {sha256(b'two')[:12]}"):
        reader.get(sha256(b"two"))


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "A" * 64, "0" * 63, "0" * 65, "0" * 64])
def test_what_is_no_digest_or_nobodys_is_said_to_be_so(tmp_path: Path, digest: str) -> None:
    packed(tmp_path, [b"one"])
    words = "no pack has the blob 0" if digest == "0" * 64 else "is no sha256"
    with pytest.raises(Fault, match=words):
        opened(tmp_path).get(digest)


@pytest.mark.parametrize("name", ["all-../../x.pack", "/etc/passwd", "all-0.pack", "2-" + "0" * 16])
def test_a_list_names_packs_of_its_own_folder_alone(tmp_path: Path, name: str) -> None:
    packed(tmp_path, [b"one"])
    listed = json.loads((tmp_path / "packs.json").read_text())
    (tmp_path / "packs.json").write_text(json.dumps(listed | {"packs": [name]}))
    with pytest.raises(Fault, match="no list of packs"):
        opened(tmp_path)


@pytest.mark.system
def test_who_compares_snapshots_or_seeks_lineage_pulls_no_pack(
    pushed: tuple[Room, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mill, name = pushed
    for path in (mill.folder / ".tidemill/remote").rglob("*"):
        if path.is_file() and path.read_bytes()[:8] == packs.MAGIC:
            path.unlink()
    assert snapshots.compared(name, name)["by"] == []
    snapshots.bring(name, mill.folder / "brought")
    assert sorted(files(mill.folder / "brought/clean/mill")) == [
        "documents.parquet",
        "lineage.parquet",
    ]
    with pytest.raises(Fault, match="dvc pull"):
        snapshots.restore(name, mill.folder / "restored")
    assert not (mill.folder / "restored").exists()
