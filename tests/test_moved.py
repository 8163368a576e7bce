"""A project that was copied, moved or renamed.

It works where it is, and the one it came from is left alone.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.conftest import HERE
from tidemill.engines.mlflow import database
from tidemill.runtime import addresses
from tidemill.runtime.files import tree_digest

ODD = "a #1 50%25?ü"
MADE = """
from pathlib import Path
from tidemill.runtime import paths
paths.settle()
from tidemill.engines.mlflow import registry, runs
run = runs.start("languages", "key-one", "one", {"tidemill.kind": "retraining"})
paths.state("part").mkdir()
paths.state("part", "model.onnx").write_bytes(b"made in the original")
runs.log_files(run, paths.state("part"), "package")
runs.log(run, tags={"tidemill.kind": "retraining"})
registry.register("languages", run, "d" * 64, {})
runs.finish(run)
print(run)
"""
USED = """
import json, sys
from tidemill.runtime import paths
paths.settle()
from tidemill.engines.mlflow import client, packages, registry, retention, runs
run = registry.version("languages", "1").run_id
here = packages.fetched(run, paths.state("packages", "languages", "1"))
again = runs.start("languages", "key-two", "two")
runs.log_text(again, "made in the copy", "words.txt")
mlflow = client.connect()
locations = [mlflow.get_run(run).info.artifact_uri for run in (sys.argv[1], again)]
words = runs.read_text(again, "words.txt")
shown = mlflow.get_run(again).data.tags
assert shown["mlflow.user"] and shown["mlflow.source.name"] == "tidemill run languages"
assert shown["mlflow.note.content"].startswith("two, by Tidemill")
gone = retention.forget({sys.argv[1]: "one"})
import optuna
from tidemill.engines.optuna import study
storage = optuna.storages.RDBStorage(paths.environment()["OPTUNA_STORAGE"])
optuna.create_study(storage=storage)
print(json.dumps({"package": str(here), "locations": locations, "words": words, "gone": gone}))
"""


def ran(folder: Path, code: str, *arguments: str) -> str:
    """What a script printed last, run in a project with that project's code."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(HERE), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects") / "original"
    shutil.copytree(HERE / "conf", folder / "conf")
    (folder / "run.txt").write_text(ran(folder, MADE))
    return folder


def test_a_copy_under_any_name_works_and_leaves_the_original_as_it_was(original: Path) -> None:
    copy, decoded = original.parent / ODD, original.parent / unquote(ODD)
    for folder in (copy, decoded):  # MLflow decodes a path twice where it removes one
        shutil.copytree(original, folder)
    before = tree_digest(original)
    run = (original / "run.txt").read_text()
    answer = json.loads(ran(copy, USED, run))
    assert Path(answer["package"]).is_relative_to(copy)
    for location in answer["locations"]:
        assert location.startswith(copy.as_uri()), location
    with sqlite3.connect(copy / ".tidemill" / "mlflow.db") as rows:
        assert not [line for line in rows.iterdump() if original.as_uri() in line]
    assert answer["words"] == "made in the copy"
    assert answer["gone"] == [["languages", "1"]]
    assert (copy / ".tidemill" / "sweeps.db").stat().st_size
    assert tree_digest(original) == before == tree_digest(decoded)
    assert {path.name for path in original.parent.iterdir()} == {"original", ODD, decoded.name}


def test_a_project_within_anothers_state_keeps_its_own_addresses() -> None:
    here = "file:///new/.tidemill/tour/.tidemill/artifacts"
    old = "file:///old/.tidemill/tour/.tidemill/artifacts/languages/1/artifacts"
    assert database.moved(old, here) == f"{here}/languages/1/artifacts"
    for other in (None, "mlflow-artifacts:/1", "s3://x/.tidemill/artifacts/1", "file:///data/1"):
        assert database.moved(other, here) == other


@pytest.mark.parametrize("name", ["plain", "a b", "a#b", "a?b", "50%", "50%25", "ü", ODD, "a&b=c"])
def test_sqlalchemy_opens_the_file_that_an_address_names(name: str, tmp_path: Path) -> None:
    from sqlalchemy import create_engine, text

    path = tmp_path / name / "x.db"
    path.parent.mkdir()
    address = addresses.sqlite(path)
    assert addresses.sqlite_path(address) == path
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text("create table t (x)"))
    engine.dispose()
    assert [row[0] for row in sqlite3.connect(path).execute("select name from sqlite_master")] == [
        "t"
    ]
    assert addresses.sqlite_path("postgresql://host/x") is None
