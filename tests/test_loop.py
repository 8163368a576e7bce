"""A training's own faults, on the smallest networks of every application, drawn here."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tasks.train.start import check
from tests.conftest import HERE
from tests.support.hardware import HARDWARE
from tests.support.making import learner, splits, tiny
from tidemill import contract
from tidemill.contract import Run, Splits
from tidemill.engines import config
from tidemill.engines.config.schema import Trainer
from tidemill.families.ranker.fields import RankerRecipe
from tidemill.families.tables.fields import TableRecipe
from tidemill.learners.lightning import memory
from tidemill.learners.lightning.callbacks import Average
from tidemill.learners.lightning.loop import one_device, save, warm
from tidemill.learners.lightning.lr_range_test import HIGH, find
from tidemill.learners.lightning.resume import draw_from, drawn
from tidemill.run import plan
from tidemill.runtime.errors import Fault, Refused

AT_ONCE = (TableRecipe, RankerRecipe)
NAMES = [name for name in contract.names() if not issubclass(contract.load(name), AT_ONCE)]
"""Those that are trained by steps; a table's trees and a ranker's weights are one call."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that tests draw rows in."""
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(epochs: int = 1, **settings: Any) -> Run:
    return Run(Trainer(**{**HARDWARE, **settings}), 1, epochs, "test")


# Precision and weights ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "bf16-true") for name in NAMES), ("text_generation", "16-true")],
)
def test_a_network_trained_at_half_precision_has_weights_of_32_bits_afterwards(
    name: str, precision: str, project: Path
) -> None:
    one: Any = learner(name)
    fitted = one.fit(run(precision=precision))
    assert fitted.steps and all(pd.notna(value) for value in fitted.metrics.values())
    kinds = {weight.dtype for weight in one.module.parameters()}
    assert kinds == {torch.float32}, "no graph is made of others"


@pytest.mark.parametrize("name", ["images", "stocks"])
def test_a_nan_of_sixteen_bits_names_the_precision(name: str, project: Path) -> None:
    """AdamW's smallest numbers are 0 in float16; a lower learning rate would not help."""
    with pytest.raises(Fault, match=r"is nan at step .*16-true has no room.*say bf16-true"):
        learner(name).fit(run(8, precision="16-true"))


def test_a_tied_weight_is_saved_under_both_of_its_names(tmp_path: Path) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)
            self.out.weight = self.table.weight

    one, two = Tied(), Tied()
    save(one, tmp_path / "weights.safetensors")
    warm(two, tmp_path / "weights.safetensors")
    assert torch.equal(two.out.weight, one.table.weight)
    assert two.out.weight is two.table.weight


def test_an_average_that_was_read_from_a_checkpoint_goes_where_the_weights_are() -> None:
    average = Average(0.9)
    average.load_state_dict({"mean": {"weight": torch.ones(2, 3)}, "step": 4})
    module = torch.nn.Linear(3, 2, bias=False, device="meta")  # stands for a GPU
    average.on_train_start(SimpleNamespace(strategy=None), module)
    assert average.mean["weight"].device == module.weight.device


# What each process draws --------------------------------------------------------------------------


def test_the_random_state_of_one_card_is_kept_and_not_that_of_all_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, restored = torch.arange(16, dtype=torch.uint8), []

    def of_all(*args: Any) -> Any:
        raise RuntimeError("a run of eight cards does not resume on one")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", of_all)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", of_all)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: own)
    monkeypatch.setattr(torch.cuda, "set_rng_state", restored.append)
    draw_from(drawn())
    assert restored == [own]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    draw_from({**drawn(), "cuda": own})
    assert restored == [own], "a machine without a card resumes too"


@pytest.mark.parametrize(("backend", "sparse"), [("gloo", True), ("fake", False)])
def test_a_tables_gradient_is_dense_where_processes_cannot_add_up_sparse_ones(
    backend: str, sparse: bool, project: Path
) -> None:
    from torch.testing._internal.distributed.fake_pg import FakeStore

    store = FakeStore() if backend == "fake" else torch.distributed.HashStore()
    one: Any = learner("languages")
    torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        batch = next(iter(one.data.train_dataloader()))
        one.module.loss(one.module.logits(batch), batch).backward()
    finally:
        torch.distributed.destroy_process_group()
    assert one.module.net.table.grad.is_sparse == sparse


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_all_processes_are_the_batch_of_one(name: str, project: Path) -> None:
    one: Any = learner(name)
    steps = one.data.train_dataloader().dataset
    if name == "text_generation":  # each process takes as many blocks there
        return
    alone = list(steps)
    parts = []
    for place in ((0, 2), (1, 2)):
        steps.epoch, steps.step, steps.place = 0, 0, place
        parts.append(list(steps))
    assert len(alone) == len(parts[0]) == len(parts[1])
    targets = -1 if name != "stocks" else 2
    # The others name places within the part: where a text's tokens begin, whose a window is.
    within = {"languages": (0, 2, targets), "sentiment": (0, 1, 2)}
    for whole, first, second in zip(alone, *parts, strict=True):
        for at in within.get(name, range(len(whole))):
            assert torch.equal(whole[at], torch.cat([first[at], second[at]]))


def test_a_process_changes_only_the_pictures_of_its_own_part(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import recipes.images.data as data

    counts, change = [], data.changed

    def counted(pixels: torch.Tensor, changes: Any) -> torch.Tensor:
        counts.append(len(pixels))
        return change(pixels, changes)

    monkeypatch.setattr(data, "changed", counted)
    one: Any = learner("images")
    steps = one.data.train_dataloader().dataset
    steps.place = (1, 3)
    next(iter(steps))
    assert counts == [6], "of eighteen"


def test_a_loader_with_workers_gives_the_batches_and_the_weights_of_one_without(
    project: Path,
) -> None:
    weights = []
    for workers in (0, 2):
        one: Any = contract.load("images")(**tiny("images").FIELDS, batch=4, dropout=0.1).learner(
            Splits(splits("images"), 1)
        )
        steps = one.data.train_dataloader().dataset
        loader = torch.utils.data.DataLoader(steps, batch_size=None, num_workers=workers)
        one.data.train_dataloader = lambda loader=loader: loader
        one.fit(run(epochs=3))
        weights.append(one.module.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_range_test_runs_as_the_trainer_does(project: Path) -> None:
    one: Any = learner("images")
    asked = run(precision="bf16-true").trainer
    module = one.network()
    assert 0 < find(module, one.data, one_device(asked)) <= HIGH
    assert next(module.parameters()).dtype == torch.bfloat16


# What does not fit --------------------------------------------------------------------------------


class Hungry(Callback):
    """Finds no memory for a batch of more rows than these."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if len(batch[0]) > self.rows:
            raise MemoryError(f"Unable to allocate {len(batch[0])} rows")


def trial(rows: int) -> dict[str, float]:
    """The metrics of a trial of pictures where a batch may have so many rows."""
    import tasks.sweep.trial as trials

    settings = config.recipe("images", ["sweep.share=1"])
    model = {**settings.model, **tiny("images").FIELDS, "batch": 8}
    settings = settings.model_copy(update={"trainer": Trainer(**HARDWARE), "model": model})
    study: Any = SimpleNamespace(
        this=SimpleNamespace(recipe=settings),
        settings=settings.sweep,
        kind=contract.load("images"),
    )
    own = Splits(splits("images"), 1)
    return trials.trained(study, own, {}, 1, "trial 3", Hungry(rows))[1]


def test_a_trial_that_finds_no_memory_is_made_with_half_batches(project: Path) -> None:
    assert trial(4)["valid_accuracy"] >= 0
    with pytest.raises(Fault, match=r"trial 3 ran out of memory with half a batch.*model\.batch"):
        trial(3)


@pytest.mark.parametrize(
    ("place", "counts"),
    [("0::/user.slice/ours", "user.slice/ours/memory.events"), ("9:memory:/ours", None)],
)
def test_what_the_kernel_killed_elsewhere_is_not_ours(
    place: str, counts: str | None, tmp_path: Path
) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    own = cgroup / (counts or "memory/ours/memory.oom_control")
    for folder in (proc / "self", own.parent):
        folder.mkdir(parents=True)
    (proc / "vmstat").write_text("nr_free_pages 12\noom_kill 7\n")
    assert memory.kernel_kills(proc, cgroup) == 7, "nothing else counts them"
    (proc / "self" / "cgroup").write_text(f"{place}\n")
    own.write_text("low 0\noom 3\noom_kill 2\n")
    assert memory.kernel_kills(proc, cgroup) == 2


@pytest.mark.parametrize(("lr", "slower"), [("recipe", "recipe"), (0.02, 0.006)])
def test_a_pruned_network_trains_on_at_its_share_of_a_rate_that_is_given(
    lr: float | str, slower: float | str
) -> None:
    from tasks.train.stages import slowed

    given = Trainer(**HARDWARE, lr=lr, optimiser="adamw")
    assert slowed(given, 0.3).lr == (pytest.approx(slower) if lr != "recipe" else slower)


def test_a_card_is_known_by_its_whole_name() -> None:
    from benchmarks.gpu import peak_tflops

    peaks = {"NVIDIA L4": 121, "NVIDIA L40S": 362, "NVIDIA L40": None, "Tesla T4": 65}
    peaks |= {"NVIDIA A100-SXM4-80GB": 312, "NVIDIA GeForce RTX 4090": 165, "NVIDIA T400": None}
    assert {card: peak_tflops(card) for card in peaks} == peaks


# Rows that are not there --------------------------------------------------------------------------


@pytest.mark.parametrize("name", contract.names())
def test_a_split_without_rows_is_refused_before_anything_is_trained(
    name: str, project: Path
) -> None:
    folder, this = splits(name), plan.by_hand(name, [])
    words = rf"{name} has no {{}} row; correct split\.rules in conf/recipe/{name}\.yaml"
    for part, called in (("train", "training"), ("valid", "validation"), ("test", "test")):
        whole = pd.read_parquet(folder / f"{part}.parquet")
        whole.head(0).to_parquet(folder / f"{part}.parquet")
        with pytest.raises(Refused, match=words.format(called)):
            check(this, contract.load(name)(**tiny(name).FIELDS))
        whole.to_parquet(folder / f"{part}.parquet")
    report = {"snapshot": "e" * 64, "counts": {"train": 9, "valid": 0, "test": 9}}
    (folder / "report.json").write_text(json.dumps(report))
    with pytest.raises(Refused, match=words.format("validation")):
        plan.by_hand(name, [])


@pytest.mark.parametrize("name", ["images", "languages"])
def test_validation_rows_of_unknown_labels_alone_are_refused(name: str, project: Path) -> None:
    folder = splits(name)
    frame = pd.read_parquet(folder / "valid.parquet")
    field = "label" if name == "images" else "language"
    frame.assign(target=json.dumps({field: "xyz"})).to_parquet(folder / "valid.parquet")
    one: Any = contract.load(name)(**tiny(name).FIELDS).learner(Splits(folder, 1))
    with pytest.raises(Refused, match=r"no validation row is of use.*larger share for `valid`"):
        one.fit(run())
