"""A training: killed at any moment it ends with the same weights.

What it is asked to do, it does; what it cannot, it says first.
"""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from pydantic import ValidationError

from tests.conftest import Clone, make_clone
from tests.support.hardware import HARDWARE
from tests.support.splits import halved
from tests.support.trainings import Job, server
from tidemill import contract
from tidemill.contract import Run, Splits
from tidemill.engines import config
from tidemill.engines.config.schema import Sweep, Trainer
from tidemill.kit.batches import share
from tidemill.learners.lightning import memory, optimisers
from tidemill.learners.lightning.checkpoints import CheckpointClock, Checkpoints, Files
from tidemill.learners.lightning.loop import Kept
from tidemill.learners.lightning.resume import Stop
from tidemill.runtime.errors import Fault, Refused

SMALL = {"width": 4, "stages": 2, "batch": 32, "dropout": 0.1}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with the splits of `images`."""
    clone = make_clone(tmp_path_factory.mktemp("train") / "clone", git=False)
    clone.edit("source/digits.yaml", lambda body: body)
    halved(clone, "images")
    return clone


@pytest.fixture(scope="module")
def forked(pictures: Clone) -> Iterator[Job]:
    yield from server(pictures)


def fields(clone: Clone, name: str) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load((clone.folder / f"conf/recipe/{name}.yaml").read_text())[
        "model"
    ]
    return found


def killed_and_resumed(ask: Job, folder: Path, kills: list[int], **job: Any) -> None:
    """A training killed after each of these steps ends as one that was left alone."""
    whole = ask(do="train", folder=folder / "whole", **job)
    assert whole["code"] == 0, whole
    for number, step in enumerate(kills):
        here = folder / f"killed-{number}"
        assert ask(do="train", folder=here, kill=step, **job)["code"] == -signal.SIGKILL
        again = ask(do="train", folder=here, **job)
        assert again["code"] == 0, again
        assert again["sha256"] == whole["sha256"] and again["metrics"] == whole["metrics"], (
            f"killed after step {step}"
        )
        assert (
            again["resumed_at"]
            == max((at for at in range(0, step, job["settings"]["checkpoint_steps"])), default=None)
            or not again["resumed_at"]
        )


def moments(seed: int, count: int, steps: int) -> list[int]:
    return random.Random(seed).sample(range(2, steps), count)


# Going on ---------------------------------------------------------------------------------------


def test_a_killed_training_ends_with_the_same_weights(forked: Job, tmp_path: Path) -> None:
    job = {
        "recipe": "images",
        "fields": SMALL,
        "rows": 400,
        "settings": {"max_epochs": 2, "checkpoint_steps": 4},
    }
    killed_and_resumed(forked, tmp_path, moments(7, 3, 26), **job)


def test_a_killed_training_of_weighed_rows_ends_with_the_same_weights(
    pictures: Clone, forked: Job, tmp_path: Path
) -> None:
    import numpy as np
    import pandas as pd

    path = pictures.folder / "data" / "splits" / "images" / "train.parquet"
    before, rows = path.read_bytes(), pd.read_parquet(path)
    rows.assign(weight=np.linspace(0.1, 1, len(rows))).to_parquet(path)
    try:
        killed_and_resumed(
            forked,
            tmp_path,
            moments(8, 1, 26),
            recipe="images",
            fields=SMALL,
            rows=400,
            settings={"max_epochs": 2, "checkpoint_steps": 4},
        )
    finally:
        path.write_bytes(before)


def test_a_training_killed_in_its_validation_and_again_after_it_ends_with_the_same_weights(
    forked: Job, tmp_path: Path
) -> None:
    job = {
        "recipe": "images",
        "fields": SMALL,
        "rows": 400,
        "watch": "valid_accuracy",
        "settings": {
            "max_epochs": 2,
            "checkpoint_steps": 3,
            "ema": 0.9,
            "keep": "best",
            "patience": 9,
            "validate_share": 0.5,
            "accumulate": 2,
            "optimiser": "adamw",
            "schedule": "one_cycle",
            "l1": 1e-5,
            "gradient_clip": 1.0,
        },
    }
    whole = forked(do="train", folder=tmp_path / "whole", **job)
    here = tmp_path / "killed"
    assert (
        forked(do="train", folder=here, kill=7, validating=True, **job)["code"] == -signal.SIGKILL
    )
    assert forked(do="train", folder=here, kill=11, **job)["code"] == -signal.SIGKILL
    again = forked(do="train", folder=here, **job)
    assert again["resumed_at"] and (again["sha256"], again["metrics"]) == (
        whole["sha256"],
        whole["metrics"],
    )


@pytest.mark.system
@pytest.mark.parametrize("name", ["images", "text_generation"])
def test_twenty_killed_trainings_end_with_the_same_weights(name: str, tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "clone", git=False)
    halved(clone, name)
    sizes = {
        "images": (SMALL, 400, {"max_epochs": 2, "checkpoint_steps": 5}),
        "text_generation": (
            {**fields(clone, name), "steps": 14, "dropout": 0.1},
            0,
            {"max_epochs": 2, "checkpoint_steps": 5},
        ),
    }
    own, rows, settings = sizes[name]
    asking = server(clone)
    killed_and_resumed(
        next(asking),
        tmp_path,
        moments(11, 20, 26),
        recipe=name,
        fields=own,
        rows=rows,
        settings=settings,
    )
    asking.close()


def prepared(clone: Clone, *overrides: str) -> None:
    """A receipt of a sweep without trials, on which a training builds."""
    done = clone.run("tasks.sweep", "images", "sweep.trials=0", *overrides)
    assert done.returncode == 0, done.stderr


def begun(clone: Clone, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tasks.train", "images", "sweep.trials=0", *overrides],
        cwd=clone.folder,
        env=clone.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdout
    for line in child.stdout:
        if word in line:
            return
    assert child.stderr
    raise AssertionError(f"it ended before it said {word!r}: {child.stderr.read()}")


def test_sigterm_saves_and_exits_75_the_next_attempt_resumes_the_run_and_one_waits_for_another(
    pictures: Clone,
) -> None:
    from tidemill.runtime.files import locked

    given = ("trainer.max_epochs=8", "model.width=4", "model.stages=2", "model.batch=256")
    prepared(pictures, *given)
    with locked(
        pictures.folder / ".tidemill/locks/train-images"
    ):  # as another training of this application holds it
        first = begun(pictures, *given)
        until(first, "waiting for train-images")
    until(first, '"unit":"steps"')
    first.send_signal(signal.SIGTERM)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 75 and "stopped by SIGTERM before step" in errors, errors
    (saved,) = pictures.folder.glob(".tidemill/runs/*/checkpoints/*.ckpt")
    again = begun(pictures, *given)
    said, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    told = json.loads(said.strip().splitlines()[-1])
    assert told["resumes"] == 1 and not saved.parent.exists(), "checkpoints go with the receipt"
    code = (
        "import json; from tidemill.engines.mlflow import client; c = client.connect(); "
        "e = c.get_experiment_by_name('images').experiment_id; r = c.search_runs([e]);"
        "print(json.dumps([[x.data.tags, x.data.metrics] for x in r]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=pictures.folder,
        env=pictures.env,
        capture_output=True,
        text=True,
    )
    ((tags, metrics),) = json.loads(done.stdout.strip().splitlines()[-1])
    assert tags["tidemill.resumes"] == "1" and tags["tidemill.weights"] == told["weights"]["sha256"]
    assert {
        "cost.wall_s",
        "cost.processor_s",
        "cost.peak_mb",
        "cost.samples_per_s",
        "cost.energy_wh",
        "rate",
        "train_loss",
    } <= set(metrics)
    assert tags["cost.energy_method"]


# Checkpoints ------------------------------------------------------------------------------------


def kept(folder: Path, steps: tuple[int, ...] = (1, 2)) -> Checkpoints:
    found = Checkpoints(folder, {"application": "images", "data": "d" * 64})
    for step in steps:
        Files().save_checkpoint(
            {"identity": found.identity, "global_step": step, "weights": torch.arange(40)},
            found.path(step),
        )
    return found


def test_a_thousand_flipped_bytes_are_all_found_and_the_set_before_is_used(tmp_path: Path) -> None:
    there = kept(tmp_path)
    path = there.path(2)
    body, flips = path.read_bytes(), random.Random(5)
    for _ in range(1000):
        at, mask = flips.randrange(len(body)), flips.randrange(1, 256)
        path.write_bytes(body[:at] + bytes([body[at] ^ mask]) + body[at + 1 :])
        found = there.newest()
        assert found and found[0] == there.path(1)
    path.write_bytes(body)
    for beside in (path.with_name(f"{path.name}.sha256"),):
        told = beside.read_bytes()
        beside.write_bytes(told[:10] + b"x" + told[11:])
    found = there.newest()
    assert found and found[1]["global_step"] == 1
    there.path(1).write_bytes(b"")
    assert there.newest() is None


def test_a_checkpoint_that_was_cut_off_while_it_was_written_is_not_used(tmp_path: Path) -> None:
    there = kept(tmp_path)
    there.path(2).with_name(f"{there.path(2).name}.sha256").unlink()
    found = there.newest()
    assert found and found[0] == there.path(1)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    kept(tmp_path)
    with pytest.raises(
        Refused, match=r"is of another training \(application images and not stocks\); remove"
    ):
        Checkpoints(tmp_path, {"application": "stocks", "data": "d" * 64}).newest()


def test_checkpoints_come_by_steps_or_by_time_and_cost_their_share_at_most() -> None:
    by_steps = CheckpointClock(5, 1.0)
    assert [
        step for step in range(1, 12) if by_steps.due(step) and not by_steps.saved(step, 0.0)
    ] == [5, 10]
    by_time = CheckpointClock(0, 0.0)
    assert by_time.due(1)
    by_time.saved(1, cost_s=9.0)
    assert not by_time.due(2), "nine seconds' saving is due again after three hundred"


# Faults -----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A network this small waits for a second thread longer than it saves.

    On a busy machine ten times longer.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def here(pictures: Clone, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(pictures.folder)
    return pictures.folder / "data" / "splits" / "images"


def trained(
    splits: Path,
    rows: int = 200,
    epochs: int = 1,
    stop: Kept | None = None,
    more: tuple[Callback, ...] = (),
    **settings: Any,
) -> tuple[Any, dict[str, float], int]:
    learner: Any = contract.load("images")(**SMALL).learner(Splits(splits, 1, rows))
    watch = contract.watch("images", "valid_accuracy")
    trainer = Trainer(**{**HARDWARE, **settings})
    run = Run(trainer, 1, epochs, "test", watch=watch, kept=stop, callbacks=more)
    fitted = learner.fit(run)
    return learner.module, fitted.metrics, fitted.steps


class Poisoned(Callback):
    """One weight is no number after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            next(module.parameters()).data.flatten()[0] = math.nan


def test_a_loss_that_is_no_number_stops_at_once_says_the_step_and_keeps_what_was_good_last(
    here: Path, tmp_path: Path
) -> None:
    there = Checkpoints(tmp_path / "checkpoints", {"of": "this"})
    with pytest.raises(Fault, match=r"the loss is nan at step 5; lower the learning rate") as fault:
        trained(here, stop=Kept(there, Stop()), more=(Poisoned(4),), checkpoint_steps=1)
    assert not fault.value.heals, "trying again would meet it again"
    found = there.newest()
    assert found and found[1]["global_step"] == 3
    assert all(bool(torch.isfinite(weight).all()) for weight in found[1]["state_dict"].values())


def test_half_a_batch_at_a_time_makes_the_same_steps_on_the_same_rows(
    here: Path, tmp_path: Path
) -> None:
    recipe = contract.load("images")(**{**SMALL, "dropout": 0.0})
    data: Any = recipe.learner(Splits(here, 1, 200)).data  # type: ignore[attr-defined]
    whole, halves = data.train_dataloader().dataset, data.train_dataloader().dataset
    halves.parts = 2
    one, two = list(whole), list(halves)
    assert len(two) == 2 * len(one) == len(halves)
    for at, (pixels, targets) in enumerate(one):
        assert torch.equal(pixels, torch.cat([two[2 * at][0], two[2 * at + 1][0]])) and torch.equal(
            targets, torch.cat([two[2 * at][1], two[2 * at + 1][1]])
        )
    kept = [Kept(Checkpoints(tmp_path / str(parts), {}), Stop(), parts) for parts in (1, 2)]
    (_, first, steps), (_, second, as_many) = (trained(here, stop=item) for item in kept)
    assert steps == as_many and second["valid_loss"] == pytest.approx(first["valid_loss"], rel=0.2)


def test_no_memory_is_tried_once_with_half_a_batch(tmp_path: Path) -> None:
    assert memory.parts(tmp_path) == 1
    assert "half the batch" in memory.halve(tmp_path, "train images")
    assert memory.parts(tmp_path) == 2
    with pytest.raises(Fault, match=r"with half a batch at a time as well; lower model\.batch"):
        memory.halve(tmp_path, "train images")
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**55)
    assert (
        memory.exhausted(error.value)
        and memory.exhausted(MemoryError())
        and not memory.exhausted(RuntimeError("shape"))
    )


def test_rows_are_shared_out_once_each() -> None:
    for rows in (1, 3, 64, 65):
        for of in (1, 2, 5):
            got = [row for number in range(of) for row in range(rows)[share(rows, number, of)]]
            assert sorted(set(got)) == list(range(rows)) and (len(got) == rows or rows < of)


# What conf can ask for --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_every_optimiser_goes_downhill_and_decays_weights(name: str) -> None:
    def after(l2: float) -> float:
        weight = torch.nn.Parameter(torch.tensor([2.0]))
        settings = Trainer(**{**HARDWARE, "optimiser": name, "l2": l2})
        optimiser = optimisers.optimiser(name, [weight], 0.05, settings)
        for _ in range(200):
            optimiser.zero_grad()
            (weight - 1).square().sum().backward()
            optimiser.step()
        return float(weight.detach())

    assert abs(after(0.0) - 1) < abs(2 - 1) and after(0.5) < after(0.0)


@pytest.mark.parametrize(
    ("name", "warmup", "expected"),
    [
        ("constant", 0.0, {0: 1, 50: 1, 99: 1}),
        ("constant", 0.1, {0: 0.1, 4: 0.5, 9: 1, 99: 1}),
        ("linear", 0.0, {0: 1, 50: 0.5, 100: 0}),
        ("linear", 0.2, {9: 0.5, 19: 1, 60: 0.5}),
        ("cosine", 0.0, {0: 1, 25: 0.5 + 0.5 * math.cos(math.pi / 4), 50: 0.5, 100: 0}),
        ("cosine", 0.1, {9: 1, 55: 0.5, 100: 0}),
    ],
)
def test_every_schedule_is_its_formula(
    name: str, warmup: float, expected: dict[int, float]
) -> None:
    rate = optimisers.schedule(name, 100, warmup)
    for step, value in expected.items():
        assert rate(step) == pytest.approx(value, abs=1e-12), step


def test_one_cycle_is_that_of_torch() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.SGD([weight], 1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        theirs, 1.0, total_steps=1001, cycle_momentum=False
    )
    ours = optimisers.schedule("one_cycle", 1000, 0.0)
    for step in range(1000):
        assert ours(step) == pytest.approx(schedule.get_last_lr()[0], abs=0.004), step
        theirs.step()
        schedule.step()


def test_a_budget_ends_a_training_properly(here: Path) -> None:
    _, metrics, steps = trained(here, epochs=500, budget_minutes=0.02)
    assert 1 <= steps < 500 * 7 and "valid_accuracy" in metrics


def test_the_best_is_kept_and_no_patience_ends_early(here: Path) -> None:
    _, metrics, steps = trained(
        here, epochs=60, keep="best", patience=2, validate_share=1.0, lr=1e-9, optimiser="sgd"
    )
    # Batch norm's statistics settle over the first epochs, whatever the rate.
    assert steps <= 10 * 7 and "valid_accuracy" in metrics
    whole = trained(here, epochs=12, patience=0, lr=1e-9, optimiser="sgd")[2]
    assert trained(here, epochs=12, patience=2, lr=1e-9, optimiser="sgd")[2] < whole, (
        "two validations that were no better end it"
    )


class Validations(Callback):
    """The step of each validation."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.steps.append(trainer.global_step)


@pytest.mark.parametrize(
    ("share", "epochs", "expected"),
    [
        (0.7, 2, [4, 11, 14]),  # every four batches of seven, and the end
        (0.5, 1, [3, 6, 7]),
        (1 / 3, 1, [2, 4, 6, 7]),  # as a trial of three rungs is validated
        (1.0, 2, [7, 14]),
    ],
)
def test_the_last_validation_is_of_the_weights_of_the_end(
    here: Path, share: float, epochs: int, expected: list[int]
) -> None:
    validations = Validations()
    module, metrics, steps = trained(here, epochs=epochs, validate_share=share, more=(validations,))
    assert validations.steps == expected and steps == expected[-1]
    assert metrics["valid_loss"] == pytest.approx(validation_loss(here, module), rel=1e-5)


def validation_loss(splits: Path, module: Any) -> float:
    """Of all validation rows, by the weights as they are."""
    learner: Any = contract.load("images")(**SMALL).learner(Splits(splits, 1, 200))
    batches = list(learner.data.val_dataloader())
    module.eval()
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(module.logits(batch), batch[1], reduction="sum")
            for batch in batches
        ]
    return float(sum(losses) / sum(len(batch[1]) for batch in batches))


def test_the_average_and_the_best_are_judged_by_the_weights_of_the_end(here: Path) -> None:
    averaged, metrics, _ = trained(here, epochs=2, validate_share=0.7, ema=0.5)
    assert metrics["valid_loss"] == pytest.approx(validation_loss(here, averaged), rel=1e-5)
    best, metrics, _ = trained(here, epochs=2, validate_share=0.7, keep="best")
    assert metrics["valid_loss"] == pytest.approx(validation_loss(here, best), rel=1e-5)


class Gradients(Callback):
    """The gradients of each step as the optimiser sees them, and the batches before it."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.steps: list[tuple[list[Any], list[torch.Tensor], dict[str, torch.Tensor]]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        self.batches.append(batch)

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        gradients = [weight.grad.clone() for weight in module.parameters()]
        before = {name: weight.clone() for name, weight in module.state_dict().items()}
        self.steps.append((self.batches, gradients, before))
        self.batches = []


@pytest.mark.parametrize(("accumulate", "batches"), [(4, [4, 1]), (3, [3, 2]), (2, [2, 2, 1])])
def test_the_last_step_of_an_epoch_counts_its_own_batches(
    accumulate: int, batches: list[int]
) -> None:
    import lightning

    from tidemill.learners.lightning.loop import fit

    class Line(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.line = torch.nn.Linear(3, 1)

        def training_step(self, batch: Any, step: int) -> torch.Tensor:
            return (self.line(batch[0])[:, 0] - batch[1]).square().mean()

        def validation_step(self, batch: Any, step: int) -> None:
            self.log("valid_loss", self.training_step(batch, step))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    class Rows(lightning.LightningDataModule):
        def train_dataloader(self) -> Any:
            rows = [(torch.rand(8, 3), torch.rand(8)) for _ in range(5)]
            return torch.utils.data.DataLoader(rows, batch_size=None)  # type: ignore[arg-type]

        val_dataloader = train_dataloader

    torch.manual_seed(1)
    gradients = Gradients()
    trainer = Trainer(**{**HARDWARE, "accumulate": accumulate})
    fit(Line(), Rows(), Run(trainer, 1, 1, "test", callbacks=(gradients,)))
    assert [len(step[0]) for step in gradients.steps] == batches
    for seen, found, before in gradients.steps:
        line = Line()
        line.load_state_dict(before)
        torch.stack([line.training_step(batch, 0) for batch in seen]).mean().backward()
        for weight, gradient in zip(line.parameters(), found, strict=True):
            assert weight.grad is not None
            assert torch.allclose(weight.grad, gradient, rtol=1e-5), len(seen)


def test_averaged_weights_are_what_comes_out(here: Path) -> None:
    last, averaged = (trained(here, epochs=2, ema=ema)[0].state_dict() for ema in (0.0, 0.999))
    assert any(not torch.equal(last[name], averaged[name]) for name in last)


def test_l1_makes_weights_smaller(here: Path) -> None:
    plain, small = (
        trained(here, epochs=2, l1=l1, optimiser="sgd", lr=0.05)[0] for l1 in (0.0, 0.05)
    )
    large, shrunk = (
        sum(weight.abs().sum().item() for weight in network.state_dict().values())
        for network in (plain, small)
    )
    assert shrunk < 0.9 * large


def test_a_rate_is_found_the_same_each_time_and_within_its_range(here: Path) -> None:
    import lightning

    from tidemill.learners.lightning.loop import one_device
    from tidemill.learners.lightning.lr_range_test import HIGH, LOW, find, steepest

    recipe = contract.load("images")(**SMALL)
    found = []
    for _ in range(2):
        lightning.seed_everything(1, verbose=False)
        learner: Any = recipe.learner(Splits(here, 1, 400))
        found.append(find(learner.network(), learner.data, one_device(Trainer(**HARDWARE))))
    assert found[0] == found[1] and 1e-5 < found[0] < HIGH
    assert steepest([2.0] * 50 + [1.0] + [1.0] * 49) == pytest.approx(
        LOW * (HIGH / LOW) ** 0.49, rel=0.05
    )


def test_lightning_runs_a_compiled_network_of_every_name_in_conf() -> None:
    for name in config.files("trainer"):
        assert config.recipe("images", [f"trainer={name}"]).trainer.name == name


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["trainer.optimiser=adamm"],
            r"trainer\.optimiser='adamm'.*'sgd', 'adam', 'adamw', 'rmsprop' or 'adagrad'",
        ),
        (["model.lr=0"], r"lr=0.*greater than 0"),
        (["trainer.lr=0"], r"trainer\.lr.*greater than 0"),
        (["trainer.schedule=steps"], "'constant', 'linear', 'cosine' or 'one_cycle'"),
        (["trainer.momentum=0.9"], "momentum is for sgd and rmsprop, trainer.optimiser is recipe"),
        (["trainer.l2=0.1"], "belongs to a named optimiser"),
        (
            ["trainer.schedule=linear"],
            "trainer.schedule and trainer.warmup belong to a named optimiser",
        ),
        (["trainer.lr=auto"], "sweep.space searches lr too; leave one out"),
        (
            ["sweep.space.nonsense.low=1", "sweep.space.nonsense.high=2"],
            "sweep.space names nonsense; the model has side, width",
        ),
        (["trainer=gpux"], r"no trainer 'gpux'; conf/trainer has cpu, ddp, fsdp, gpu"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(overrides: list[str], words: str) -> None:
    with pytest.raises(Refused, match=words) as refusal:
        config.recipe("images", overrides)
    assert "\n" not in str(refusal.value)


def test_a_sweep_over_nothing_is_refused() -> None:
    with pytest.raises(
        ValidationError, match="trials is 3 and space is empty; name fields of model in space"
    ):
        Sweep(trials=3, metric="valid_accuracy")


def test_a_recipe_that_begins_from_scratch_refuses_the_champion() -> None:
    with pytest.raises(
        Refused, match=r"trainer\.start=champion: languages always begins from scratch"
    ):
        config.recipe("languages", ["trainer.start=champion"])


def test_a_batch_larger_than_the_data_and_a_label_of_one_row_are_refused(
    here: Path, tmp_path: Path
) -> None:
    import pandas as pd

    from tasks.train.start import check
    from tidemill.run import plan

    this = plan.by_hand("images", [])
    rows = len(pd.read_parquet(here / "train.parquet"))
    with pytest.raises(
        Refused,
        match=(
            f"model.batch is 8192 and images has {rows} training rows; "
            f"say model.batch={rows} or less"
        ),
    ):
        check(this, contract.load("images")(batch=8192))
    path = here / "train.parquet"
    body, table = path.read_bytes(), pd.read_parquet(path)
    try:
        lone = table[
            (table["target"] != json.dumps({"label": "7"}))
            | (
                np.arange(len(table))
                == np.flatnonzero(table["target"] == json.dumps({"label": "7"}))[0]
            )
        ]
        lone.to_parquet(path)
        with pytest.raises(Refused, match=r"one training row has '7'.*bring more rows of it"):
            check(this, contract.load("images")())
        table.head(0).to_parquet(path)
        with pytest.raises(Refused, match="images has no training row"):
            check(this, contract.load("images")())
    finally:
        path.write_bytes(body)


# Many processes ---------------------------------------------------------------------------------


@pytest.mark.system
def test_two_processes_train_as_one_does_and_go_on_after_sigterm(tmp_path: Path) -> None:
    """Each takes its half of every batch.

    So the network that answers gets the same gradients, summed in another order.
    """
    from safetensors.torch import load_file

    clone = make_clone(tmp_path / "clone", git=False)
    halved(clone, "stocks")
    weights: dict[str, list[tuple[dict[str, torch.Tensor], dict[str, Any]]]] = {}
    for devices, strategy, disturbed in ((1, "auto", False), (2, "ddp", False), (2, "ddp", True)):
        given = [
            "stocks",
            "sweep.trials=0",
            "model.dropout=0",
            f"trainer.devices={devices}",
            f"trainer.strategy={strategy}",
            "trainer.checkpoint_steps=10",
        ]
        shutil.rmtree(clone.folder / ".tidemill" / "runs", ignore_errors=True)
        assert clone.run("tasks.sweep", *given).returncode == 0
        if disturbed:
            child = subprocess.Popen(
                [sys.executable, "-m", "tasks.train", *given],
                cwd=clone.folder,
                env=clone.env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            until(child, '"unit":"steps"')
            child.send_signal(signal.SIGTERM)
            _, errors = child.communicate(timeout=60)
            assert child.returncode == 75, errors
        done = clone.run("tasks.train", *given)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.strip().splitlines()[-1])
        assert told["resumes"] == int(disturbed)
        weights.setdefault(strategy, []).append(
            (load_file(clone.folder / told["weights"]["path"]), told)
        )
    ((one, alone),), ((two, both), (again, _)) = weights["auto"], weights["ddp"]
    assert alone["steps"] == both["steps"]
    assert both["metrics"]["valid_pinball"] == pytest.approx(
        alone["metrics"]["valid_pinball"], rel=0.02
    )
    for name in one:
        if name.startswith("nets.0."):
            assert torch.allclose(one[name], two[name], rtol=1e-2, atol=1e-3), name
        assert torch.equal(two[name], again[name]), name


@pytest.mark.system
@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/sys/fs/cgroup/memory").is_dir(),
    reason="needs root and control groups",
)
def test_a_training_that_the_kernel_kills_for_memory_is_tried_with_half_a_batch(
    tmp_path: Path,
) -> None:
    """In a memory group of its own.

    Halving a batch of pictures this large is what lets it through, or what is said of it.
    """
    clone = make_clone(tmp_path / "clone", git=False)
    halved(clone, "images")
    given = ["sweep.trials=0", "model.width=64", "model.batch=3000", "trainer.max_epochs=1"]
    assert clone.run("tasks.sweep", "images", *given).returncode == 0
    group = Path(f"/sys/fs/cgroup/memory/tidemill-{os.getpid()}")
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(2000 * 2**20))
        code = (
            "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(str(os.getpid()));"
            "from tidemill.runtime import paths; paths.settle(); "
            "from tasks.train import train; from tidemill.run import plan;"
            f"train.work('images', plan.by_hand('images', {given!r}).path)"
        )
        said = [
            subprocess.run(
                [sys.executable, "-c", code, str(group / "cgroup.procs")],
                cwd=clone.folder,
                env=clone.env,
                capture_output=True,
                text=True,
            ).stderr
            for _ in range(2)
        ]
        assert "ran out of memory; trying again with half the batch at a time" in said[0], said[0][
            -800:
        ]
        assert "half a batch at a time as well" in said[1] or not said[1], said[1][-800:]
    finally:
        for _ in range(20):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.5)
