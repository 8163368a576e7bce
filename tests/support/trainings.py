"""Trainings in a process of their own, which may be killed."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.conftest import HERE, Clone

Job = Callable[..., dict[str, Any]]


def server(clone: Clone) -> Iterator[Job]:
    """Asks tests/support/forked.py, in the clone's folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.forked"],
        cwd=clone.folder,
        env={**clone.env, "PYTHONPATH": str(HERE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin and process.stdout

    def ask(**job: Any) -> dict[str, Any]:
        assert process.stdin and process.stdout
        process.stdin.write(
            json.dumps(
                {
                    key: str(value) if isinstance(value, Path) else value
                    for key, value in job.items()
                }
            )
            + "\n"
        )
        process.stdin.flush()
        told: dict[str, Any] = json.loads(process.stdout.readline())
        return told

    yield ask
    process.stdin.close()
    process.wait(timeout=30)
