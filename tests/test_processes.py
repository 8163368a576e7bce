"""A training of several processes: one of them has effects, and all of them make one's steps."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import HERE, Clone, make_clone
from tests.support.hardware import HARDWARE
from tests.support.making import inside, splits, tiny
from tidemill import contract
from tidemill.contract import Run, Splits
from tidemill.engines import config
from tidemill.engines.config.schema import Trainer
from tidemill.runtime.errors import Refused
from tidemill.runtime.rank import GLOBAL, LOCAL, rank

DDP = (
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "trainer.precision=32-true",
)


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"MASTER_ADDR": "127.0.0.1", "RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"MASTER_ADDR": "127.0.0.1", "RANK": "3", "LOCAL_RANK": "0", "NODE_RANK": "0"}, False),
        ({"MASTER_ADDR": "127.0.0.1", "LOCAL_RANK": "1"}, False),
        ({"MASTER_ADDR": "127.0.0.1", "LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"MASTER_ADDR": "127.0.0.1", "LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
        ({"SLURM_PROCID": "2"}, False),
        ({"MASTER_ADDR": "127.0.0.1", "RANK": "colonel"}, True),
        ({"RANK": "7"}, True),  # of a person's shell: nobody said that there are several
    ],
)
def test_one_process_of_all_machines_is_the_first(
    variables: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*GLOBAL, *LOCAL, "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (rank() == 0) is first


@pytest.mark.parametrize("module", ["tasks.sweep", "tasks.sweep.worker"])
def test_a_sweep_leaves_all_to_the_first_process(module: str, tmp_path: Path) -> None:
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    done = subprocess.run(
        [sys.executable, "-m", module, "images"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HERE), "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


@pytest.mark.parametrize("name", ["images", "text_generation"])
def test_two_processes_make_the_steps_of_one(tmp_path: Path, name: str) -> None:
    """Batch norm and dropout included, a last batch that does not divide, and masked tokens."""
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    with inside(tmp_path):
        splits(name)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.shared_batch", name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_file(tmp_path / f"weights-{count}.safetensors") for count in (1, 2))
    assert one.keys() == two.keys()
    for key, weight in one.items():
        assert torch.allclose(weight, two[key], rtol=1e-9, atol=1e-9), key


@pytest.mark.parametrize(
    ("batches", "share", "accumulated", "limit"),
    [
        (4, 0.15, 1, 1),  # 150 pictures in batches of 32 and a share of .15
        (59, 0.15, 1, 8),
        (10, 0.5, 4, 4),  # whole steps of four batches
        (3, 0.5, 4, 3),
        (7, 1.0, 2, 1.0),
    ],
)
def test_a_share_is_of_whole_steps_and_at_least_one(
    batches: int, share: float, accumulated: int, limit: float
) -> None:
    from tidemill.learners.lightning.loop import limited

    found = limited(lambda: range(batches), share, accumulated)
    assert (found, type(found)) == (limit, type(limit))


def test_a_share_below_one_step_trains_one(tmp_path: Path) -> None:
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    with inside(tmp_path):
        learner = contract.load("images")(**tiny("images").FIELDS, batch=16).learner(
            Splits(splits("images"), 1)
        )
        settings = Trainer(**HARDWARE)
        assert learner.fit(Run(settings, 1, 1, "test", share=0.15)).steps == 1


def test_a_batch_with_fewer_rows_than_devices_is_refused() -> None:
    with pytest.raises(Refused, match=r"model\.batch=4 is shared by 16 devices.*model\.batch=16"):
        config.recipe("images", ["trainer=ddp", "trainer.nodes=2", "model.batch=4"])


@pytest.fixture
def ready(tmp_path: Path) -> Clone:
    return make_clone(tmp_path / "clone")


@pytest.mark.system
@pytest.mark.timeout(3600)
def test_a_run_with_two_processes_is_promoted_and_verified(ready: Clone) -> None:
    network = ("model.width=16", "model.stages=3", "trainer.max_epochs=14")
    given = (*DDP, *network, "sweep.trials=1", "sweep.max_epochs=1")
    done = ready.tidemill("run", "images", *given, "--json", timeout=2400)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["state"] == "Promoted", done.stdout
    verified = ready.run("tasks.verify", "images", timeout=1200)
    assert verified.returncode == 0, verified.stderr[-2000:]
    answer = json.loads(verified.stdout.strip().splitlines()[-1])
    assert answer["verdict"] == "identical", answer
