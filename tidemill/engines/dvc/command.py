"""DVC's command line, called in a child.

Its Python API would resolve stages against this process's working directory.
"""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import yaml

from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault

log = logging.getLogger(__name__)


class LockedPath(TypedDict, total=False):
    """A file or folder of a stage as dvc.lock has it."""

    path: str
    hash: str
    md5: str
    size: int
    nfiles: int


class LockEntry(TypedDict, total=False):
    """A stage of dvc.lock: what its last run read and left."""

    cmd: str
    deps: list[LockedPath]
    params: dict[str, dict[str, object]]  # a file to the settings read from it
    outs: list[LockedPath]


def dvc(*arguments: str, step: str | None = None, cwd: Path | None = None) -> str:
    """One DVC command. With `step`, its lines are that step's log; else its output is given back.

    Commands wait for each other: `--wait-for-lock` is a global flag, and without it two of twelve
    fail.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    if step:
        process.run(step, command)
        return ""
    variables = {
        **os.environ,
        **paths.environment(),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
    }
    done = subprocess.run(
        command, cwd=cwd or paths.root(), env=variables, capture_output=True, text=True
    )
    if done.returncode:
        lines = (done.stderr + done.stdout).splitlines()
        at = max(
            (place for place, line in enumerate(lines) if line.startswith("ERROR")), default=None
        )
        words = (
            " ".join(lines[at : at + 4]) if at is not None else done.stderr.strip()[-300:]
        )  # some of its errors go on in the next lines
        raise Fault(
            f"dvc {' '.join(arguments[:2])}: "
            f"{' '.join(words.split()).removeprefix('ERROR: ')[:400]}"
        )
    return done.stdout


def in_git() -> bool:
    return (paths.root() / ".git").exists() and shutil.which("git") is not None


def lock() -> dict[str, LockEntry]:
    """The stages of dvc.lock by their names."""
    path = paths.root() / "dvc.lock"
    return (yaml.safe_load(path.read_text()) or {}).get("stages", {}) if path.is_file() else {}
