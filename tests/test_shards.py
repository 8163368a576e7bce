"""Trainings by several processes: in shards or not, killed or not, they end alike."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import HERE
from tests.support.making import splits
from tidemill.engines import config
from tidemill.runtime import process
from tidemill.runtime.errors import Fault, Refused


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    splits("text_generation")
    return tmp_path


def trained(folder: Path, **job: Any) -> list[dict[str, torch.Tensor]]:
    """The weights that each process has at the end."""
    folder.mkdir(exist_ok=True)
    one = {"recipe": "text_generation", "watch": "valid_loss", "settings": {}}
    asked = json.dumps({**one, "folder": str(folder), **job})
    command = process.python("tests.support.processes", asked)
    process.run(f"train {folder.name}", command, 300, {"PYTHONPATH": str(HERE)})
    return [load_file(folder / f"weights-{number}.safetensors") for number in range(2)]


def far(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.mark.system
def test_a_training_in_shards_has_the_weights_of_one_that_keeps_them_whole(project: Path) -> None:
    settings = {"optimiser": "sgd", "lr": 0.1, "gradient_clip": 0.5, "ema": 0.5, "keep": "best"}
    job = {"settings": settings, "fields": {"optimiser": "adamw"}}
    (shards, beside), (whole, _) = (
        trained(project / strategy, strategy=strategy, **job) for strategy in ("fsdp", "ddp")
    )
    assert far(shards, beside) == 0, "every process has all weights, and the same"
    assert far(shards, whole) < 1e-6


@pytest.mark.system
@pytest.mark.parametrize("strategy", ["fsdp", "ddp"])
def test_processes_that_are_killed_end_with_the_same_weights(strategy: str, project: Path) -> None:
    settings = {"checkpoint_steps": 2, "ema": 0.5, "gradient_clip": 0.5}
    fields = {"optimiser": "adamw", "dropout": 0.1}
    job = {"strategy": strategy, "settings": settings, "fields": fields}
    whole = trained(project / "whole", **job)
    with pytest.raises(Fault, match="killed by SIGKILL"):
        trained(project / "killed", kill=7, **job)
    again = trained(project / "killed", **job)
    assert json.loads((project / "killed" / "done.json").read_text())["resumed_at"] == 6
    assert far(again[0], whole[0]) == 0


@pytest.mark.system
def test_a_nan_in_one_process_ends_all_by_name_and_is_not_tried_again(project: Path) -> None:
    with pytest.raises(Fault, match=r"loss.*(nan|NaN).* step .*lower the learning rate") as fault:
        trained(project / "poisoned", strategy="ddp", poison=3)
    assert not fault.value.heals and not fault.value.killed


@pytest.mark.parametrize(
    ("application", "overrides", "words"),
    [
        ("text_generation", [], r"model\.optimiser=muon needs whole matrices"),
        ("languages", [], r"languages has weights of no dimension.*trainer=ddp"),
        (
            "images",
            ["trainer.accelerator=cpu"],
            r"fsdp on a CPU computes at 32 bits alone, trainer\.precision is bf16-mixed",
        ),
    ],
)
def test_what_cannot_be_trained_in_shards_is_refused_before_any_work(
    application: str, overrides: list[str], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        config.recipe(application, ["trainer=fsdp", *overrides])
    config.recipe("images", ["trainer=fsdp", "trainer.gradient_clip=1"])
