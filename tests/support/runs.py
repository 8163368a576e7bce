"""What a run of a clone left behind."""

import json
import subprocess
import sys

from tests.conftest import Clone


def ended(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


LISTED = """
import json, sys
from tidemill.engines.mlflow import client, runs

found = client.connect().search_model_versions(f"name = {sys.argv[1]!r}")
print(json.dumps([str(version.version) for version in found]))
"""


def versions(clone: Clone, application: str) -> list[str]:
    """The numbers of an application's versions, the newest first."""
    done = subprocess.run(
        [sys.executable, "-c", LISTED, application],
        cwd=clone.folder,
        env=clone.env,
        capture_output=True,
        text=True,
    )
    listed: list[str] = json.loads(done.stdout.strip().splitlines()[-1])
    return listed
