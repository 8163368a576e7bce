"""Where a project may lie: whatever git makes of its folder, a run goes to its end there."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Clone, make_clone

AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "t"), ("EMAIL", "t@localhost"))
}


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=folder,
        env={**os.environ, **AUTHOR},
        check=True,
        capture_output=True,
    )


def worktree(first: Path, place: Path) -> Path:
    git(first, "worktree", "add", str(place))
    return place


def submodule(first: Path, place: Path) -> Path:
    place.mkdir()
    git(place, "init", "-q")
    git(place, "submodule", "add", str(first), "inner")
    return place / "inner"


def shallow(first: Path, place: Path) -> Path:
    git(place.parent, "clone", "-q", "--depth", "1", first.as_uri(), str(place))
    return place


def without_commits(first: Path, place: Path) -> Path:
    shutil.copytree(first, place, ignore=shutil.ignore_patterns(".git"))
    git(place, "init", "-q")
    return place


@pytest.mark.system
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("made", [worktree, submodule, shallow, without_commits])
def test_a_run_ends_in_a(made: Callable[[Path, Path], Path], tmp_path: Path) -> None:
    """And nobody is asked who they are: git knows no name in an empty home."""
    folder = made(make_clone(tmp_path / "first").folder, tmp_path / "second")
    home = tmp_path / "home"
    home.mkdir()
    nameless = {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    done = Clone(folder).tidemill("run", "images", "--dry-run", "--json", timeout=1500, **nameless)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["state"] == "DryRun"
