"""What goes and what stays, on a real MLflow database and a real DVC cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HERE


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "TIDEMILL_", "DVC_")):
            monkeypatch.delenv(name)
    from tidemill.runtime import paths

    for name, value in paths.environment().items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_runs_without_a_version_that_stays_leave_mlflow_with_their_artifacts(project: Path) -> None:
    from tests.support.making import make_live
    from tidemill.engines.mlflow import client, registry, runs
    from tidemill.engines.mlflow.retention import forget, old

    mlflow = client.connect()
    made = {}
    for number, name in enumerate(("live", "rejected", "dry")):
        run = runs.start("fruit", name, name)
        trial = runs.start("fruit", f"{name}/0", "trial 0", parent=run)
        runs.log_text(run, "x" * 1000, "note.txt")
        for item in (run, trial):
            runs.finish(item)
        made[name] = run
        if name != "dry":
            assert registry.register("fruit", run, str(number) * 64, {}) == str(number + 1)
    runs.start("fruit", "on", "still at work")
    make_live("fruit", "1")
    assert old(1) == {}
    gone = old(-1)  # as if a day had passed
    assert sorted(gone.values()) == ["dry", "rejected", "trial 0", "trial 0"]
    forget(gone)
    assert old(-1) == {}
    assert [item.version for item in mlflow.search_model_versions("name = 'fruit'")] in (["1"], [1])
    folders = {
        path.name
        for path in (project / ".tidemill/artifacts/fruit").iterdir()
        if any(path.rglob("*.txt"))
    }
    assert folders == {made["live"]}
    with pytest.raises(Exception, match="not found"):
        mlflow.get_run(made["dry"])


def test_data_of_a_source_that_conf_has_no_more_goes_with_its_pictures_and_raw_stays(
    project: Path,
) -> None:
    from tidemill.lineage.retention import _old_state

    places = ("raw/gone", "clean/gone", "blobs/gone", "select/gone", "splits/gone", "people/gone")
    for place in (*places, "blobs/digits", "clean/digits", "splits/images"):
        (project / "data" / place).mkdir(parents=True)
    (project / "data" / "blobs" / ".gitignore").write_text("/digits\n")  # DVC's, and it stays
    gone, _ = _old_state(-1)  # as if a day had passed
    assert [path.relative_to(project / "data").as_posix() for path in gone] == [
        "clean/gone",
        "blobs/gone",
        "select/gone",
        "splits/gone",
    ]
    assert _old_state(1)[0] == []


def test_a_copy_goes_only_where_todays_data_does_not_use_it_and_the_remote_has_it(
    project: Path,
) -> None:
    from tidemill.engines.dvc import remote

    (project / ".dvc").mkdir()
    (project / ".dvc/config").write_text(
        "[core]\n    no_scm = true\n    remote = local\n['remote \"local\"']\n"
        "    url = ../.tidemill/remote\n"
    )
    path = project / "rows.txt"

    def dvc(*arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "dvc", "-q", *arguments],
            cwd=project,
            check=True,
            capture_output=True,
        )

    for words, pushed in (
        ("first night", True),
        ("second night, never pushed", False),
        ("today", True),
    ):
        path.write_text(words)
        dvc("add", "rows.txt")
        if pushed:
            dvc("push")

    def copies() -> set[str]:
        return {
            item.read_text() for item in (project / ".dvc/cache/files").rglob("*") if item.is_file()
        }

    assert remote.spare(1, really=True)[0] == 0
    assert remote.spare(-1, really=False)[0] == 1 and len(copies()) == 3
    assert remote.spare(-1, really=True)[0] == 1
    assert copies() == {"second night, never pushed", "today"}
