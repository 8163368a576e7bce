"""DVC's command line, called in a child.

Its Python API would resolve stages against this process's working directory.
"""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault

log = logging.getLogger(__name__)


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
        said = (done.stderr + done.stdout).splitlines()
        at = max(
            (place for place, line in enumerate(said) if line.startswith("ERROR")), default=None
        )
        words = (
            " ".join(said[at : at + 4]) if at is not None else done.stderr.strip()[-300:]
        )  # some of its errors go on in the next lines
        raise Fault(
            f"dvc {' '.join(arguments[:2])}: "
            f"{' '.join(words.split()).removeprefix('ERROR: ')[:400]}"
        )
    return done.stdout


def in_git() -> bool:
    return (paths.root() / ".git").exists() and shutil.which("git") is not None


def lock() -> dict[str, Any]:
    path = paths.root() / "dvc.lock"
    return (yaml.safe_load(path.read_text()) or {}).get("stages", {}) if path.is_file() else {}
