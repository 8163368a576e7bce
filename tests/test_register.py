"""One version whatever is lost on the way, and nothing in a package that could run."""

import asyncio
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Clone
from tests.support.making import inside
from tests.support.mlflow_server import free_port, mlflow_server
from tidemill.package import signing
from tidemill.package.allowed_files import strange
from tidemill.package.package import digests, verify
from tidemill.runtime.errors import Fault


def begin_registry(folder: Path) -> "subprocess.Popen[str]":
    """A process of its own that opens the registry as a step does, and asks for an experiment."""
    env = {
        **os.environ,
        "TIDEMILL_ROOT": str(folder),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / '.tidemill' / 'mlflow.db'}",
    }
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from tidemill.engines.mlflow import runs; print(runs.experiment('x'))",
        ],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_steps_that_begin_together_make_one_registry(tmp_path: Path) -> None:
    begun = [begin_registry(tmp_path) for _ in range(3)]
    said = [child.communicate(timeout=120) for child in begun]
    assert [child.returncode for child in begun] == [0, 0, 0], said
    assert {out.strip() for out, _ in said} == {"1"}


def test_an_address_with_a_query_is_a_file_too_and_its_lock_lies_beside_it(tmp_path: Path) -> None:
    """Two projects may share a registry, so the lock is in neither of them."""
    from tidemill.engines.mlflow import database

    address = f"sqlite:///{tmp_path / 'shared' / 'mlflow.db'}?timeout=30"
    assert database.missing(address)
    database.create(address)
    assert not database.missing(address) and not database.missing(address.partition("?")[0])
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == [
        ".mlflow.db.lock",
        "mlflow.db",
    ]


@pytest.mark.parametrize("after_s", [0.4])
def test_a_registry_that_was_killed_while_it_was_made_is_made_again(
    tmp_path: Path, after_s: float
) -> None:
    killed = begin_registry(tmp_path)
    until = time.monotonic() + 60
    while not any((tmp_path / ".tidemill").glob("*mlflow.db*")):
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(after_s)
    killed.kill()
    killed.communicate()
    again = begin_registry(tmp_path)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert out.strip() == "1"


@contextmanager
def dropping(port: int, seed: int) -> Iterator[tuple[int, dict[str, int]]]:
    """A proxy that hands every request on, and loses four of ten answers to creating calls."""
    lost = {"answers": 0}
    random = np.random.default_rng(seed)
    loop = asyncio.new_event_loop()
    here = free_port()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                there, out = await asyncio.open_connection("127.0.0.1", port)
                out.write(head.replace(b"Connection: keep-alive", b"Connection: close") + body)
                answer = await there.read()
                out.close()
                if b"/create" in head.split(b"\r\n")[0] and random.random() < 0.4:
                    lost["answers"] += 1
                    break
                writer.write(answer)
                await writer.drain()
                break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(handle, "127.0.0.1", here, limit=2**22))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield here, lost
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


REGISTER = """
import sys
from tidemill.runtime import paths
paths.settle()
from tidemill.engines.mlflow import client, ledger, registry, runs
for number in map(int, sys.argv[1:]):
    run = runs.start(f"app{number}", f"key{number}", "r")
    registry.register(f"app{number}", run, f"digest{number}", {"tidemill.verdict": "PROMOTE"})
"""


def lose(folder: Path, applications: int) -> None:
    with mlflow_server(folder) as port, dropping(port, 1) as (proxy, lost):
        env = {
            **os.environ,
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{proxy}",
            "PYTHONPATH": str(Path(__file__).parent.parent),
        }
        done = subprocess.run(
            [sys.executable, "-c", REGISTER, *map(str, range(applications))],
            env=env,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert lost["answers"] >= applications / 2
        from mlflow import MlflowClient

        client = MlflowClient(f"http://127.0.0.1:{port}")
        for number in range(applications):
            assert len(client.search_model_versions(f"name = 'app{number}'")) == 1
            where = client.get_experiment_by_name(f"app{number}")
            assert where is not None
            assert len(client.search_runs([where.experiment_id])) == 1


def test_a_lost_answer_makes_no_second_version_and_no_second_run(tmp_path: Path) -> None:
    lose(tmp_path, 8)


@pytest.mark.system
def test_a_hundred_registrations_through_lost_answers_end_with_one_version_each(
    tmp_path: Path,
) -> None:
    lose(tmp_path, 100)


class Evil:
    def __reduce__(self) -> tuple:
        return (os.system, ("true",))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("model.onnx", pickle.dumps(Evil(), 4), "pickle"),
        ("table.json", pickle.dumps(Evil(), 2), "pickle"),
        ("notes.txt", pickle.dumps(Evil(), 0), "pickle"),
        ("weights.safetensors", pickle.dumps([1], 5), "pickle"),
        ("model.onnx", b"PK\x03\x04archive", "not onnx"),
        ("table.json", b"{", "not json"),
        ("run.py", b"print()", "none of"),
        ("notes.md", b"\xff\xfe", "not md"),
        ("weights.safetensors", b"\xff" * 64, "not safetensors"),
    ],
)
def test_a_package_with_anything_but_data_is_refused(
    tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(content)
    found = strange(tmp_path / name, name)
    assert found and why in found
    with pytest.raises(Fault, match=name):
        verify(tmp_path, digests(tmp_path)[0], "it")


def padded() -> bytes:
    """A pickle in words alone that calls something after two megabytes."""
    return b"S'" + b"a" * (2 << 20) + b"'\n0" + pickle.dumps(Evil(), 0)


def npz(path: Path, **arrays: np.ndarray) -> bytes:
    np.savez(path, **arrays)
    return path.read_bytes()


def test_a_pickle_behind_two_megabytes_of_padding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(padded())
    assert strange(tmp_path / "notes.txt", "notes.txt") == "is a pickle"
    with pytest.raises(Fault, match=r"notes\.txt is a pickle"):
        verify(tmp_path, digests(tmp_path)[0], "it")


def test_a_file_that_is_whole_and_something_more_is_refused(tmp_path: Path) -> None:
    import zipfile

    from safetensors.numpy import save

    tensors = save({"a": np.arange(6.0)})
    good = npz(tmp_path / "good.npz", a=np.arange(3), b=np.array(["x", "yz"]))
    evil = pickle.dumps(Evil(), 4)
    with zipfile.ZipFile(tmp_path / "more.npz", "w") as archive:
        archive.writestr("a.npy", zipfile.ZipFile(tmp_path / "good.npz").read("a.npy"))
        archive.writestr("b.pkl", evil)
    with zipfile.ZipFile(tmp_path / "tail.npz", "w") as archive:
        archive.writestr("a.npy", zipfile.ZipFile(tmp_path / "good.npz").read("a.npy") + evil)
    cases = {
        "gap.safetensors": tensors + evil,
        "front.npz": evil + good,
        "back.npz": good + evil,
        "more.npz": (tmp_path / "more.npz").read_bytes(),
        "tail.npz": (tmp_path / "tail.npz").read_bytes(),
        "cut.npz": good[:-30],
        "model.onnx": b"\x08\x08" + evil,
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        assert strange(tmp_path / name, name), name
    for name, content in {"good.npz": good, "good.safetensors": tensors}.items():
        (tmp_path / name).write_bytes(content)
        assert strange(tmp_path / name, name) is None, name


def test_a_safetensors_file_whose_header_looks_like_a_pickles_mark_is_taken(tmp_path: Path) -> None:
    """A header of 640 bytes begins with 80 02, which is how a pickle of protocol 2 begins."""
    from safetensors.numpy import save

    for length in range(400, 640):
        body = save({"a": np.arange(2)}, {"note": "x" * length})
        if body[:2] == b"\x80\x02":
            break
    assert body[:2] == b"\x80\x02"
    (tmp_path / "w.safetensors").write_bytes(body)
    assert strange(tmp_path / "w.safetensors", "w.safetensors") is None


def test_a_graph_is_read_to_its_end_and_its_tensors_lie_in_it(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, external_data_helper, helper, numpy_helper

    weight = numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    node = helper.make_node("Add", ["x", "w"], ["y"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    model = helper.make_model(helper.make_graph([node], "g", [value], [out], [weight]))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert strange(path, path.name) is None
    whole = path.read_bytes()
    for content in (whole[:-1], whole + pickle.dumps(Evil(), 4), whole + b"\x00", b""):
        path.write_bytes(content)
        assert strange(path, path.name), content[-20:]
    external_data_helper.set_external_data(model.graph.initializer[0], "../../elsewhere")
    path.write_bytes(model.SerializeToString())
    found = strange(path, path.name)
    assert found and "another file" in found


def test_what_lies_deeper_in_a_package_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "model.sig").write_bytes(pickle.dumps(Evil(), 4))
    (tmp_path / "table.json").write_text("{}")
    with pytest.raises(Fault, match=r"deep/model.sig is none of"):
        verify(tmp_path, digests(tmp_path)[0], "it")


def test_an_array_of_objects_is_a_pickle_in_disguise(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", a=np.arange(3))
    np.savez(tmp_path / "bad.npz", a=np.array([Evil()], dtype=object))
    assert strange(tmp_path / "good.npz", "good.npz") is None
    assert strange(tmp_path / "bad.npz", "bad.npz")


@pytest.mark.parametrize("text", [".", "# A card\n\nN.", "I1\n.", "", "cc\n", "(lp0\n."])
def test_words_that_happen_to_parse_as_a_pickle_and_call_nothing_are_words(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "notes.txt").write_text(text)
    assert strange(tmp_path / "notes.txt", "notes.txt") is None


def test_a_signature_holds_for_these_bytes_and_this_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("seed: 1\n")
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "package"
    package.mkdir()
    (package / "table.json").write_text("{}")
    with pytest.raises(Fault, match="not signed"):
        signing.check(package, "it")
    before = digests(package)[0]
    signing.sign(package)
    signing.check(package, "it")
    assert digests(package)[0] == before
    assert (tmp_path / ".tidemill" / "keys" / "signing.key").stat().st_mode & 0o077 == 0
    (package / "more.json").write_text("{}")
    with pytest.raises(Fault, match="fails its signature"):
        signing.check(package, "it")
    (package / "more.json").unlink()
    (package / "table.json").write_text("[]")
    with pytest.raises(Fault, match="fails its signature"):
        signing.check(package, "it")
    (package / "table.json").write_text("{}")
    (tmp_path / ".tidemill" / "keys" / "signing.key").unlink()
    signing.key()
    with pytest.raises(Fault, match="fails its signature"):
        signing.check(package, "it")


@pytest.mark.apps
def test_a_damaged_champion_is_not_served_and_nothing_is_promoted_on_its_silence(
    lived: Clone,
) -> None:
    live = json.loads(lived.tidemill("status", "--json").stdout)["live"][0]["champion"]
    path = next(
        (lived.folder / ".tidemill" / "artifacts" / "languages").rglob("package/tables.json")
    )
    whole = path.read_bytes()
    try:
        path.write_bytes(whole.replace(b"languages", b"languagez"))
        shutil.rmtree(
            lived.folder / ".tidemill" / "packages", ignore_errors=True
        )  # the copy that answers; it would be made anew
        asked = lived.tidemill("predict", "languages", "Guten Morgen")
        assert asked.returncode == 1 and "damaged" in asked.stderr
        again = lived.tidemill("run", "languages", "model.lr=0.003", "--dry-run", "--json")
        assert again.returncode == 0, again.stderr
        assert "HOLD" in json.loads(again.stdout)["because"]
        assert "champion" in json.loads(again.stdout)["because"]
    finally:
        path.write_bytes(whole)
        shutil.rmtree(lived.folder / ".tidemill" / "packages", ignore_errors=True)
    healed = json.loads(
        lived.tidemill("run", "languages", "model.lr=0.003", "--dry-run", "--json").stdout
    )
    assert "PROMOTE" in healed["because"], (
        "what was judged while the champion was silent does not hold once it answers"
    )
    assert json.loads(lived.tidemill("status", "--json").stdout)["live"][0]["champion"] == live


def test_the_card_is_made_again_from_the_registry_byte_for_byte(lived: Clone) -> None:
    shown = lived.tidemill("card", "languages")
    assert shown.returncode == 0, shown.stderr
    kept = [
        path
        for path in (lived.folder / ".tidemill" / "artifacts" / "languages").rglob("card.md")
        if path.parent.name == "artifacts"
    ]
    assert shown.stdout in [path.read_text() for path in kept]
    head, body = shown.stdout.split("\n---\n", 1)
    assert (
        "model-index" in head
        and "More Information Needed" not in shown.stdout
        and "More information needed" not in shown.stdout
    )
    for section in (
        "Model Details",
        "Uses",
        "Bias, Risks, and Limitations",
        "Training Details",
        "Evaluation",
        "How to Get Started",
    ):
        assert f"## {section}" in body
    unknown = lived.tidemill("card", "languages@99")
    assert unknown.returncode == 2 and "99" in unknown.stderr


def test_the_ledger_tells_who_and_why_and_a_changed_entry_is_noticed(lived: Clone) -> None:
    entries = json.loads(lived.tidemill("history", "languages", "--json").stdout)
    assert entries[0]["by"] == "gates" and entries[0]["why"]
    assert entries[0]["carried_out"] is True
    with inside(lived.folder):
        from tidemill.engines.mlflow import client

        mlflow = client.connect()
        before = mlflow.get_registered_model("languages").tags["ledger.000001"]
        mlflow.set_registered_model_tag(
            "languages", "ledger.000001", before.replace('"version":"1"', '"version":"2"')
        )
    try:
        broken = lived.tidemill("history", "languages")
        assert broken.returncode == 1 and "is broken at ledger.000001" in broken.stderr
        told = json.loads(lived.tidemill("status", "--json").stdout)
        assert "is broken at ledger.000001" in told["problems"][0]
        assert told["live"][0]["champion"] == "1"  # as this machine last saw it
    finally:
        with inside(lived.folder):
            mlflow.set_registered_model_tag("languages", "ledger.000001", before)
    assert json.loads(lived.tidemill("history", "languages", "--json").stdout) == entries
