"""A run that is stopped or killed: nothing is lost or left behind, and the next one resumes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Clone, make_clone
from tests.support.runs import ended, versions


@pytest.mark.system
def test_a_run_killed_at_ten_moments_ends_with_the_same_snapshot_and_one_version(
    clone: Clone, lived: Clone
) -> None:
    for moment in (3, 6, 9, 12, 15, 18, 21, 24, 27, 30):
        child = subprocess.Popen(
            [sys.executable, "-m", "tidemill.cli", "run", "languages", "--json"],
            cwd=clone.folder,
            env=clone.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            child.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        time.sleep(1)
    last = ended(clone.tidemill("run", "languages", "--json"))
    assert last["state"] in ("Promoted", "Unchanged")
    assert last["snapshot"] == json.loads(lived.first)["snapshot"]  # type: ignore[attr-defined]
    assert versions(clone, "languages") == ["1"]


@pytest.mark.apps
def test_a_run_killed_in_the_middle_goes_on(clone: Clone, lived: Clone) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "tidemill.cli", "run", "languages", "--json"],
        cwd=clone.folder,
        env=clone.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not list(
        (clone.folder / ".tidemill/runs").glob("*/run.json")
    ):
        time.sleep(0.2)
    time.sleep(2)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    last = ended(clone.tidemill("run", "languages", "--json"))
    assert last["state"] == "Promoted"
    assert last["snapshot"] == json.loads(lived.first)["snapshot"]  # type: ignore[attr-defined]
    assert versions(clone, "languages") == ["1"]


@pytest.mark.system
def test_without_git_the_run_says_what_is_lost_and_goes_on(tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "tarball", git=False)
    done = clone.tidemill("run", "languages", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "DryRun" in done.stdout and "no git" in done.stdout


def test_without_git_what_is_lost_is_said_before_anything_is_done(tmp_path: Path) -> None:
    """The short form of the test above."""
    clone = make_clone(tmp_path / "tarball", git=False)
    code = (
        "from tidemill.runtime import paths; from tidemill.engines.dvc import stages; "
        "paths.settle(); print(stages.prepare())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=clone.folder,
        env=clone.env,
        capture_output=True,
        text=True,
    )
    assert (
        "this is no git clone: snapshots are kept in the DVC remote, but get no tag" in done.stdout
    ), done.stderr
    assert "no_scm = true" in (clone.folder / ".dvc/config.local").read_text()


def begun(clone: Clone) -> tuple[subprocess.Popen[str], list]:
    """A run that is cleaning, and all processes it has started so far."""
    import psutil

    child = subprocess.Popen(
        [sys.executable, "-m", "tidemill.cli", "run", "languages"],
        cwd=clone.folder,
        env=clone.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (clone.folder / "data/clean").exists():
        time.sleep(0.2)
    family = psutil.Process(child.pid).children(recursive=True)
    assert any("prefect.server" in " ".join(one.cmdline()) for one in family)
    return child, family


def stops(clone: Clone, send: Callable[[int, int], None], number: int) -> None:
    """The run ends within ten seconds with one line, and no process of it is left."""
    import psutil

    child, family = begun(clone)
    send(child.pid, number)
    _, said = child.communicate(timeout=10)
    assert child.returncode == 128 + number
    assert [line for line in said.strip().splitlines() if line.startswith("error:")] == [
        said.strip().splitlines()[-1]
    ]
    assert said.strip().splitlines()[-1].startswith("error: stopped;")
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive


def test_ctrl_c_ends_a_run_within_ten_seconds_and_leaves_no_process(clone: Clone) -> None:
    stops(clone, os.killpg, signal.SIGINT)


@pytest.mark.system
@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_sigterm_ends_a_run_as_ctrl_c_does(send: Callable[[int, int], None], clone: Clone) -> None:
    stops(clone, send, signal.SIGTERM)


@pytest.mark.system
def test_a_run_killed_by_minus_9_leaves_no_process_behind(clone: Clone) -> None:
    import psutil

    child, family = begun(clone)
    child.kill()
    child.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
