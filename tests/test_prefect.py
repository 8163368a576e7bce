"""What can fail in silence: a server that boots but never schedules.

It did, with newer SQLAlchemy.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCHEDULED = """
import asyncio, time
from datetime import datetime
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.schedules import CronSchedule

@flow
def night(): pass

async def main():
    async with get_client() as client:
        flow_id = await client.create_flow(night)
        cron = CronSchedule(cron="0 3 * * *", timezone="UTC")
        schedules = [DeploymentScheduleCreate(schedule=cron, active=True)]
        await client.create_deployment(flow_id, "nightly", schedules=schedules)
        for _ in range(120):
            runs = await client.read_flow_runs()
            if runs:
                print(sorted({run.state.type.value for run in runs}), len(runs))
                return
            await asyncio.sleep(0.5)
        print("no run was ever scheduled")

asyncio.run(main())
"""

STUCK = """
from datetime import UTC, datetime, timedelta
from pathlib import Path
import os
os.chdir(os.environ["PROJECT"])
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.states import Cancelling, Pending, Running, Scheduled
from tidemill.engines.prefect.reap import PAGE, reap
from tidemill.runtime import paths
from tidemill.runtime.files import write_json

@flow
def retrain(): pass

with get_client(sync_client=True) as client:
    made = {}
    for name, state in (("ran", Running), ("was cancelled", Cancelling), ("was taken", Pending)):
        run = client.create_flow_run(retrain, name=name, tags=["tidemill"])
        client.set_flow_run_state(run.id, state(), force=True)
        made[name] = run.id
    client.create_flow_run(retrain, name="another's", tags=[], state=Running())
    here = {"host": os.uname().nodename, "boot": "an earlier one", "pid": 1, "began": 1}
    write_json(paths.state("alive", f"{made['ran']}.json"), here)
    dead = reap(everything=True)
    states = {run.name: run.state_name for run in client.read_flow_runs()}
    names = ("ran", "was cancelled", "was taken", "another's")
    print(sorted(dead), *(states[name] for name in names))
"""


def test_the_server_boots_schedules_and_runs_stuck_after_a_restart_are_ended(
    tmp_path: Path,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "prefect",
                "server",
                "start",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
            ],
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 300
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2)
                    break
                except (urllib.error.URLError, OSError):
                    assert server.poll() is None and time.monotonic() < deadline, (
                        tmp_path / "server.log"
                    ).read_text()[-2000:]
                    time.sleep(0.3)
            done = subprocess.run(
                [sys.executable, "-c", SCHEDULED],
                env=env,
                capture_output=True,
                text=True,
                timeout=120,
            )
            (tmp_path / "project" / "conf").mkdir(parents=True)
            (tmp_path / "project" / "conf" / "config.yaml").write_text("seed: 1\n")
            stuck = subprocess.run(
                [sys.executable, "-c", STUCK],
                env={**env, "PROJECT": str(tmp_path / "project"), "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=120,
            )
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(90)
    assert done.stdout.startswith("['SCHEDULED']"), done.stdout + done.stderr[-1500:]
    assert stuck.stdout.strip() == (
        "['ran', 'was cancelled', 'was taken'] Crashed Cancelled Crashed Running"
    ), stuck.stdout + stuck.stderr[-1500:]
