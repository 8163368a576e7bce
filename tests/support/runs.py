"""What a run of a clone left behind."""

import json
import subprocess
import sys

from tests.conftest import Clone


def ended(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def versions(clone: Clone) -> list[str]:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            (
                "from tidemill.engines.mlflow import client, runs; "
                'print([v.version for v in client.connect().search_model_versions("name = '
                "'languages'\")])"
            ),
        ],
        cwd=clone.folder,
        env=clone.env,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1].replace("'", '"'))
