"""A sweep: its proposals, what its workers' deaths leave of it, and what it learned before."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clone, make_clone
from tests.support.hardware import HARDWARE
from tests.support.splits import halved
from tests.support.trainings import Job, server
from tidemill.engines.config.schema import Dimension, Sweep, Trainer
from tidemill.engines.optuna.samplers import inside, outside, quasi
from tidemill.runtime.errors import Fault

GIVEN = [
    "trainer.max_epochs=2",
    "sweep.trials=6",
    "sweep.max_epochs=2",
    "sweep.share=0.25",
    "sweep.quasi=2",
    "sweep.rungs=2",
    "sweep.reduction=2",
    "model.hidden=20",
]
SPACE = {
    "lr": Dimension(low=0.001, high=0.1, log=True),
    "hidden": Dimension(low=16, high=64, log=True),
    "kind": Dimension(choices=("a", "b", "c")),
    "dropout": Dimension(low=0.0, high=0.3),
}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with the splits of `stocks`."""
    clone = make_clone(tmp_path_factory.mktemp("sweep") / "clone", git=False)
    halved(clone, "stocks")
    return clone


@pytest.fixture(scope="module")
def forked(series: Clone) -> Iterator[Job]:
    yield from server(series)


def trials(clone: Clone) -> list[dict[str, Any]]:
    """Every attempt, as it stands in the storage."""
    import optuna

    storage = f"sqlite:///{clone.folder}/.tidemill/sweeps.db"
    return [
        {
            "state": trial.state.name,
            "slot": trial.user_attrs["slot"],
            "params": trial.params,
            "study": name,
        }
        for name in optuna.get_all_study_names(storage)
        for trial in optuna.load_study(study_name=name, storage=storage).trials
    ]


def forgotten(clone: Clone) -> None:
    for path in (clone.folder / ".tidemill").glob("sweeps.db*"):
        path.unlink()


def test_quasi_random_points_are_the_same_again_within_their_bounds_and_spread() -> None:
    whole = frozenset({"hidden"})
    points = quasi(SPACE, whole, 16, 3)
    assert points == quasi(SPACE, whole, 16, 3) != quasi(SPACE, whole, 16, 4)
    assert points[:4] == quasi(SPACE, whole, 4, 3), "more of them are the same ones and others"
    assert all(
        inside(point, SPACE) == point and isinstance(point["hidden"], int) for point in points
    )
    assert {point["kind"] for point in points} == {"a", "b", "c"}
    assert sum(point["lr"] < 0.01 for point in points) == 8


def test_parameters_outside_a_space_are_not_begun_with() -> None:
    assert inside({"lr": 0.01, "hidden": 20, "kind": "a", "dropout": 0.0, "more": 1}, SPACE) == {
        "lr": 0.01,
        "hidden": 20,
        "kind": "a",
        "dropout": 0.0,
    }
    assert inside({"lr": 0.2, "hidden": 20, "kind": "a", "dropout": 0.0}, SPACE) is None
    assert inside({"lr": 0.01, "hidden": 20, "kind": "d", "dropout": 0.0}, SPACE) is None
    assert inside({"lr": 0.01}, SPACE) is None


@pytest.mark.parametrize(
    ("value", "others", "stops"),
    [
        (0.5, [], False),
        (0.5, [0.6], True),
        (0.5, [0.4], False),
        (0.5, [0.6, 0.4, 0.3, 0.2, 0.1], False),
        (0.5, [0.6, 0.7, 0.3, 0.2, 0.1], True),
    ],
)
def test_asha_goes_on_with_the_best_part_of_a_rung(
    value: float, others: list[float], stops: bool
) -> None:
    assert outside(value, others, 3) is stops


def test_a_killed_sweep_finds_what_an_undisturbed_one_finds_and_no_trial_stays_running(
    series: Clone, forked: Job, tmp_path: Path
) -> None:
    job = {"do": "sweep", "recipe": "stocks", "overrides": GIVEN, "folder": tmp_path}
    whole = forked(**job)
    assert whole["code"] == 0 and whole["complete"] + whole["pruned"] == 6, whole
    tried = {item["slot"]: item["params"] for item in trials(series)}
    assert tried[0]["lr"] == 0.003 and tried[0]["hidden"] == 20, (
        "without a champion the defaults come first"
    )
    forgotten(series)
    assert forked(**job, kill=[1, 3])["code"] == -signal.SIGKILL
    assert forked(**job, kill=[4, 6])["code"] == -signal.SIGKILL
    again = forked(**job)
    assert again == whole
    attempts = trials(series)
    assert sorted(item["slot"] for item in attempts) == [0, 1, 1, 2, 3, 4, 4, 5]
    assert {item["slot"]: item["params"] for item in attempts} == tried
    assert "RUNNING" not in {item["state"] for item in attempts} and "WAITING" not in {
        item["state"] for item in attempts
    }
    # On the same data, code and space it goes on; a longer one does what is missing.
    more = forked(**{**job, "overrides": [*GIVEN[:1], "sweep.trials=7", *GIVEN[2:]]})
    assert more["code"] == 0 and len(trials(series)) == 9
    # On another space it begins with what was best; a trial that dies each time is given up alone.
    other = {**job, "overrides": [*GIVEN, "sweep.share=0.2", "sweep.trials=3"]}
    for _ in range(3):
        assert forked(**other, kill=[1, 2])["code"] == -signal.SIGKILL
    learned = forked(**other)
    assert (
        learned["code"] == 0
        and learned["failed"] == 1
        and learned["complete"] + learned["pruned"] == 2
    )
    new = [item for item in trials(series) if item["study"] != attempts[0]["study"]]
    best = {
        tuple(sorted(item["params"].items())) for item in attempts if item["state"] == "COMPLETE"
    }
    assert any(
        tuple(sorted(item["params"].items())) in best for item in new if item["slot"] in (0, 1)
    )


def test_finalists_are_trained_with_more_seeds_and_trials_are_nested_runs_with_curves_and_pictures(
    series: Clone, forked: Job, tmp_path: Path
) -> None:
    forgotten(series)
    found = forked(
        do="sweep",
        recipe="stocks",
        overrides=[*GIVEN, "sweep.seeds=2", "sweep.finalists=2", "sweep.share=0.3"],
        folder=tmp_path,
    )
    assert found["code"] == 0, found
    code = (
        "import json; from tidemill.engines.mlflow import client; c = client.connect(); "
        "e = c.get_experiment_by_name('stocks').experiment_id;"
        'p = c.search_runs([e], filter_string="tags.`tidemill.kind` = '
        "'retraining'\")[0].info.run_id; k = c.search_runs([e], "
        "filter_string=f\"tags.`mlflow.parentRunId` = '{p}'\");"
        "print(json.dumps({'files': [f.path for d in ('', "
        "'figures') for f in c.list_artifacts(p, d)], "
        "'states': sorted({r.data.tags['tidemill.state'] for r in k}), 'runs': len(k),"
        "'curve': [len(c.get_metric_history(r.info.run_id, 'valid_skill')) for r in k], "
        "'status': sorted({r.info.status for r in k})}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=series.folder,
        env=series.env,
        capture_output=True,
        text=True,
    )
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert "finalists.json" in told["files"] and "figures/trials.png" in told["files"]
    assert (
        told["runs"] == 6
        and set(told["states"]) <= {"complete", "pruned"}
        and told["status"] == ["FINISHED"]
        and min(told["curve"]) >= 1
    )


def test_a_trial_that_raises_fails_alone_and_trials_keep_to_the_trainers_rate_and_minutes(
    series: Clone, forked: Job, tmp_path: Path
) -> None:
    forgotten(series)
    path = series.folder / "conf" / "recipe" / "stocks.yaml"
    own = path.read_text()
    space = {"dropout": {"low": 0.0, "high": 0.3}}
    series.edit("recipe/stocks.yaml", lambda body: body["sweep"].update(space=space))
    job = {
        "do": "sweep",
        "recipe": "stocks",
        "overrides": [
            *(item for item in GIVEN if not item.startswith(("sweep.trials", "sweep.rungs"))),
            "sweep.trials=3",
            "sweep.rungs=4",
            "trainer.lr=0.02",
            "trainer.budget_minutes=0.00001",
        ],
        "folder": tmp_path,
        "watched": True,
    }
    try:
        found = forked(**job, raises=[1])
        assert found["code"] == 0 and (found["complete"], found["failed"]) == (2, 1), found
        assert set(found["rates"].values()) == {0.02}
        assert set(found["steps"].values()) == {1}, "its minutes are over after the first step"
        forgotten(series)
        shutil.rmtree(series.folder / ".tidemill" / "runs")
        none = forked(**job, raises=[0, 1, 2])
        assert none["code"] == 1
        assert "no trial of stocks-" in none["error"] and "KeyError: 'a column" in none["error"]
    finally:
        path.write_text(own)


@pytest.mark.parametrize(
    ("minutes", "epochs", "share", "part"),
    [(None, 2, 0.5, None), (60.0, 2, 0.5, 6.0), (60.0, 20, 1.0, 60.0)],
)
def test_a_trial_runs_on_one_device_with_its_part_of_the_minutes(
    minutes: float | None, epochs: int, share: float, part: float | None
) -> None:
    from tasks.sweep.trial import shortened

    several = {"devices": 8, "nodes": 2, "strategy": "fsdp", "max_epochs": 10}
    whole = Trainer(**{**HARDWARE, **several, "budget_minutes": minutes})
    sweep = Sweep(trials=0, metric="valid_skill", max_epochs=epochs, share=share)
    short = shortened(whole, sweep)
    assert (short.devices, short.nodes, short.strategy) == (1, 1, "auto")
    assert short.budget_minutes == part


@pytest.mark.parametrize(
    ("number", "gpus", "named", "wanted"),
    [
        (2, 0, "", None),
        (2, 1, "", None),
        (2, 4, "", "1"),
        (6, 4, "", "1"),
        (3, 8, "4,5,7", "7"),
        (2, 8, "3", None),
    ],
)
def test_workers_of_a_sweep_have_a_gpu_each(
    number: int, gpus: int, named: str, wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.sweep.devices import device

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setattr("tidemill.engines.config.load._gpus", lambda: gpus)
    assert device(number).get("CUDA_VISIBLE_DEVICES") == wanted


def locked_storage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, sqlite3.Connection]:
    """A study, and another connection that has just locked its storage."""
    import optuna

    import tidemill.engines.optuna.study  # noqa: F401  (which silences Optuna)
    from tidemill.engines.optuna import storage

    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{folder}/sweeps.db")
    monkeypatch.setattr(storage, "LOCK_WAIT_S", 0.01)
    monkeypatch.setattr(storage, "PAUSES_S", (0.3, 0.3, 0.3))
    study = optuna.create_study(storage=storage.opened())
    other = sqlite3.connect(folder / "sweeps.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    return study, other


def test_a_storage_that_stays_locked_is_a_fault_that_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, other = locked_storage(tmp_path, monkeypatch)
    with pytest.raises(Fault, match=r"storage is not available: database is locked") as fault:
        study.ask()
    assert fault.value.heals
    other.execute("ROLLBACK")
    assert study.ask().number == 0, "what failed was not done in part"


def test_a_storage_that_is_locked_for_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, other = locked_storage(tmp_path, monkeypatch)
    threading.Timer(0.4, lambda: other.execute("ROLLBACK")).start()
    assert study.ask().number == 0


@pytest.mark.system
def test_two_workers_share_a_sweep_and_one_killed_costs_no_trial(series: Clone) -> None:
    import psutil

    given = [
        "stocks",
        "sweep.trials=8",
        "sweep.workers=2",
        "sweep.max_epochs=3",
        "sweep.quasi=4",
        "--dry-run",
    ]
    forgotten(series)
    subprocess.run(["git", "init", "-q"], cwd=series.folder, check=True)
    run = subprocess.Popen(
        [sys.executable, "-m", "tidemill.cli", "run", *given],
        cwd=series.folder,
        env=series.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killed, deadline = False, time.monotonic() + 200
    while not killed and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        if (
            not (series.folder / ".tidemill/sweeps.db").is_file()
            or sum(item["state"] == "RUNNING" for item in trials(series)) < 2
        ):
            continue
        for child in psutil.Process(run.pid).children(recursive=True):
            if "tasks.sweep.worker" in child.cmdline():
                child.kill()
                killed = True
    _, errors = run.communicate(timeout=300)
    assert killed and run.returncode == 0, errors[-2000:]
    attempts = trials(series)
    assert {item["slot"] for item in attempts if item["state"] in ("COMPLETE", "PRUNED")} == set(
        range(8)
    )
    assert not [item for item in attempts if item["state"] in ("RUNNING", "WAITING")]


@pytest.mark.system
def test_quality_and_latency_are_two_aims(series: Clone, forked: Job, tmp_path: Path) -> None:
    forgotten(series)
    found = forked(
        do="sweep",
        recipe="stocks",
        overrides=[
            "trainer.max_epochs=1",
            "sweep.trials=3",
            "sweep.quasi=2",
            "sweep.share=0.3",
            "sweep.latency_ms=1000",
            "model.hidden=20",
        ],
        folder=tmp_path,
    )
    assert found["code"] == 0 and found["complete"] == 3, found


@pytest.mark.system
@pytest.mark.skipif(
    not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")), reason="needs Debian's postgresql"
)
def test_a_sweep_lives_in_postgresql_too(series: Clone, tmp_path: Path) -> None:
    import pwd
    import socket

    pytest.importorskip("psycopg")
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = Path(f"/var/tmp/tidemill-postgres-{os.getpid()}")
    home.mkdir()
    someone = (
        pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    )  # postgres refuses to run as root
    if os.geteuid() == 0:
        os.chown(home, someone.pw_uid, someone.pw_gid)
    as_them: dict[str, Any] = (
        {"user": someone.pw_uid, "group": someone.pw_gid, "extra_groups": []}
        if os.geteuid() == 0
        else {}
    )
    server = None
    try:
        subprocess.run(
            [
                binaries / "initdb",
                "-D",
                home / "data",
                "-U",
                "tidemill",
                "--auth=trust",
                "-E",
                "UTF8",
            ],
            check=True,
            capture_output=True,
            cwd=home,
            **as_them,
        )
        server = subprocess.Popen(
            [
                binaries / "postgres",
                "-D",
                home / "data",
                "-p",
                str(port),
                "-c",
                "listen_addresses=127.0.0.1",
                "-k",
                str(home),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=home,
            **as_them,
        )
        storage = f"postgresql+psycopg://tidemill@127.0.0.1:{port}/postgres"
        for _ in range(100):
            if (
                subprocess.run(
                    [binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(port)],
                    capture_output=True,
                ).returncode
                == 0
            ):
                break
            time.sleep(0.2)
        shutil.rmtree(series.folder / ".tidemill" / "runs", ignore_errors=True)
        command = [sys.executable, "-m", "tasks.sweep", "stocks", *GIVEN]
        env = {**series.env, "OPTUNA_STORAGE": storage}
        child = subprocess.Popen(
            command,
            cwd=series.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout
        seen = 0
        for line in child.stdout:
            seen += '"running"' in line
            if seen == 3:
                break
        child.kill()
        child.communicate()
        done = subprocess.run(command, cwd=series.folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.strip().splitlines()[-1])
        assert told["complete"] + told["pruned"] == 6
    finally:
        if server:
            server.terminate()
            server.wait(timeout=30)
        shutil.rmtree(home, ignore_errors=True)
