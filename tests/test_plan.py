"""What a run is planned with and what its steps read.

A plan's figures are held against real networks.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from recipes.text_generation.size import Size, budget
from recipes.text_generation.transformer import Transformer
from tests.conftest import HERE, Clone
from tidemill import contract
from tidemill.engines import config
from tidemill.run import plan
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import holding


@pytest.mark.parametrize(("positions", "norm"), [("rotary", "rms"), ("learned", "layer")])
def test_the_activations_of_a_budget_are_what_a_real_step_keeps(positions: str, norm: str) -> None:
    size = Size(4, 4, 128, 128, 300, positions, norm)  # type: ignore[arg-type]
    net = Transformer(size)
    kept: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in net.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(0, 300, (8, 128))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = net.states(
            ids,
            torch.arange(128).expand(8, 128),
            torch.ones(128, 128, dtype=torch.bool).tril()[None, None],
        )[0]
    assert states.requires_grad
    said = float(budget(size, 8, 1)["activations_mb"])
    assert said == pytest.approx(sum(kept.values()) / 1e6, rel=0.15)


def test_more_gpus_than_there_are_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sharded = ["trainer=fsdp", "model.optimiser=adamw"]
    settings = config.recipe("text_generation", sharded)
    monkeypatch.setattr("tidemill.engines.config.load._gpus", lambda: 2)
    with pytest.raises(
        Refused, match=r"trainer=fsdp wants 8 GPUs and this machine has 2; say trainer\.devices=2"
    ):
        config.check_machine(settings)
    config.check_machine(config.recipe("text_generation", [*sharded, "trainer.devices=2"]))


# What a run is planned with -----------------------------------------------------------------------


class Project:
    """A project's conf/ and the name of its data; what the rest would be, no plan reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(HERE / "conf", folder / "conf")
        for name in contract.names():
            splits = folder / "data" / "splits" / name
            splits.mkdir(parents=True)
            (splits / "report.json").write_text(json.dumps({"snapshot": "5" * 64}))

    def edit(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        path = self.folder / "conf" / "recipe" / f"{name}.yaml"
        body = yaml.safe_load(path.read_text())
        change(body)
        path.write_text(yaml.safe_dump(body, sort_keys=False))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.folder}/.tidemill/mlflow.db")
    paths.state().mkdir(exist_ok=True)
    return project


def made(name: str, *overrides: str) -> plan.Plan:
    return plan.make(config.recipe(name, list(overrides)))


STEPS = ("sweep", "train", "export", "score", "explain", "judge", "register", "end")


@pytest.mark.parametrize(
    ("override", "again"),
    [
        ("approval=true", "register end"),
        ("score.alpha=0.01", "judge register end"),
        ("score.requests=77", "score explain judge register end"),
        ("export.rows=77", "export score explain judge register end"),
    ],
)
def test_a_step_runs_again_where_what_it_reads_changed(
    here: Project, override: str, again: str
) -> None:
    before, after = made("images"), made("images", override)
    assert after.key == before.key
    moved = [step for step in STEPS if before.reads(step) != after.reads(step)]
    assert moved == again.split()


def test_a_changed_gate_judges_again_and_trains_nothing(here: Project) -> None:
    before = made("images")
    here.edit("images", lambda body: body["gates"][0].update(why="another reason"))
    after = made("images")
    moved = [step for step in STEPS if before.reads(step) != after.reads(step)]
    assert after.key == before.key and moved == ["judge", "register", "end"]


@pytest.mark.parametrize("name", contract.names())
def test_a_changed_bound_of_any_gate_judges_again_and_trains_nothing(
    here: Project, name: str
) -> None:
    def from_scratch(body: dict[str, Any]) -> None:
        body["model"].pop("start", None)  # weights are no part of the question, and large

    def changed(body: dict[str, Any]) -> None:
        for gate in body["gates"]:
            for bound in {"at_least", "at_most", "margin"} & gate.keys():
                gate[bound] *= 0.9

    here.edit(name, from_scratch)
    before = made(name)
    here.edit(name, changed)
    after = made(name)
    assert before.recipe.gates != after.recipe.gates
    moved = [step for step in STEPS if before.reads(step) != after.reads(step)]
    assert after.key == before.key and moved == ["judge", "register", "end"]


def test_a_start_that_only_the_recipes_default_names_is_in_the_key(
    here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here.folder / "own").mkdir()
    (here.folder / "own" / "weights").write_text("one")
    here.edit("sentiment", lambda body: body["model"].update(start="own"))
    named = made("sentiment")
    here.edit("sentiment", lambda body: body["model"].pop("start"))
    assert made("sentiment").start == {}
    field = contract.load("sentiment").model_fields["start"]
    monkeypatch.setattr(field, "default", "own")
    contract.load("sentiment").model_rebuild(force=True)
    try:
        assert made("sentiment").start == named.start != {}
    finally:
        monkeypatch.undo()
        contract.load("sentiment").model_rebuild(force=True)


@pytest.mark.parametrize("override", ["model.lr=0.5", "trainer.max_epochs=2", "seed=9"])
def test_what_the_weights_depend_on_is_in_the_key(here: Project, override: str) -> None:
    assert made("images", override).key != made("images").key


def test_a_plan_that_was_changed_by_hand_is_a_fault(here: Project) -> None:
    this = made("images")
    assert plan.load(this.path) == this
    path = here.folder / this.path
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    with pytest.raises(
        Fault, match=r"run\.json is gone or not as it was planned; start the run again"
    ):
        plan.load(this.path)


def test_a_step_by_hand_does_not_change_the_plan_of_a_run_that_is_on(here: Project) -> None:
    this = made("images")
    with holding(paths.state("locks", "run-images")):
        assert plan.by_hand("images", []) == this
        with pytest.raises(Refused, match="a run of images is on"):
            plan.by_hand("images", ["approval=true"])
    assert plan.by_hand("images", ["approval=true"]).recipe.approval


def test_other_code_is_drift_and_joins_the_key_where_that_is_asked_for(
    here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, asked = made("images"), made("images", "retrain_on_code=true")
    (before.folder / "train.json").write_text("{}")
    real = plan.code.beside("images")
    changed = {**real, "tasks/judge/gates.py": "another", "torch": "0.1"}
    monkeypatch.setattr(plan.code, "beside", lambda name: changed)
    after = made("images")
    assert after.key == before.key and after.drift != before.drift
    assert after.changed() == ["tasks/judge/gates.py", "torch"]
    assert made("images").changed() == after.changed(), "it is told until it is trained again"
    assert made("images", "retrain_on_code=true").key != asked.key


def test_the_bytes_of_start_weights_are_in_the_key(here: Project) -> None:
    folder = here.folder / "begin"
    folder.mkdir()
    size = {"layers": 1, "heads": 1, "width": 8, "context": 8, "vocabulary": 300}
    (folder / "size.json").write_text(json.dumps(size))
    (folder / "weights.safetensors").write_bytes(b"one")

    def from_it(body: dict[str, Any]) -> None:
        body["model"] = {"start": "begin"}
        body["sweep"].update(trials=0, space={})

    here.edit("text_generation", from_it)
    one = made("text_generation")
    (folder / "weights.safetensors").write_bytes(b"two")
    two = made("text_generation")
    assert {*one.start} == {"begin"} and one.start != two.start and one.key != two.key
    shutil.rmtree(folder)
    with pytest.raises(Refused, match="begin"):
        made("text_generation")


def champion(name: str, number: str, key: str, weights: bytes) -> None:
    """A live version whose training left these weights."""
    from tests.support.making import make_live
    from tidemill.engines.mlflow import registry, runs

    run_id = runs.start(name, key, key)
    assert registry.register(name, run_id, key, {"tidemill.key": key}) == number
    make_live(name, number)
    paths.run(key).mkdir(parents=True)
    (paths.run(key) / "weights.safetensors").write_bytes(weights)


def test_a_promotion_alone_makes_no_training_due(here: Project) -> None:
    """The own champion is in the training's identity and not in the key."""
    champion("images", "1", "k" * 64, b"first")
    one = made("images", "trainer.start=champion")
    champion("images", "2", "l" * 64, b"second")
    two = made("images", "trainer.start=champion")
    assert one.champion and two.champion and one.champion.weights != two.champion.weights
    assert (one.champion.version, two.champion.version) == ("1", "2") and one.key == two.key
    (two.folder / "weights.safetensors").write_bytes(b"made from the second")
    champion("images", "3", "m" * 64, b"third")
    kept = made("images", "trainer.start=champion")
    assert kept.champion == two.champion, "a training that has begun keeps what it began with"


def test_without_a_champion_nothing_begins_from_it(here: Project) -> None:
    with pytest.raises(
        Refused,
        match=r"trainer\.start=champion: images has no champion yet; say trainer\.start=scr",
    ):
        made("images", "trainer.start=champion")


def test_a_run_resolves_its_configuration_once(lived: Clone) -> None:
    """By the interpreter's audit events, in all processes of the first run of this clone."""
    noted: list[str] = lived.resolved  # type: ignore[attr-defined]
    mains = [main.partition("/clone/")[2] for main in noted]  # where it was made: it is a copy
    assert sorted(main for main in mains if main.startswith("tasks/")) == [
        "tasks/label/__main__.py",
        "tasks/select/__main__.py",
        "tasks/split/__main__.py",
    ]
    assert mains.count("tidemill/cli/__main__.py") == 2, "when it is typed, and when it is planned"
