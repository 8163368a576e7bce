"""What a person may say, and what they are told when it makes no sense."""

import shutil
from pathlib import Path

import pytest
import yaml

from tidemill import contract
from tidemill.engines import config
from tidemill.engines.config import load
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused


@pytest.mark.parametrize("name", config.files("source"))
def test_every_source_is_valid(name: str) -> None:
    assert config.source(name).name == name


@pytest.mark.parametrize("name", config.files("recipe"))
def test_every_recipe_is_valid_with_every_trainer_and_runtime(name: str) -> None:
    for trainer in config.files("trainer"):
        for runtime in config.files("runtime"):
            found = config.recipe(name, [f"trainer={trainer}", f"runtime={runtime}"])
            assert (found.trainer.name, found.runtime.name) == (trainer, runtime)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.lrr=1", "unknown key 'model.lrr'; there are batch"),
        ("modell.lr=1", "unknown key 'modell.lr'; there are model"),
        ("model.lr=-1", "model: lr=-1"),
        ("model.lr=fast", "model: lr='fast'"),
        ("sweep.trials=-3", "sweep.trials=-3"),
        ("trainer.max_epoch=1", "unknown key 'trainer.max_epoch'; there are accelerator"),
        ("trainer=tpu", "no trainer 'tpu'; conf/trainer has cpu, ddp, fsdp, gpu"),
        ("split.near_duplicates=1", "data has one truth: edit conf/recipe/languages.yaml"),
        ("lr", "'lr' is not key=value"),
        ("gates=[]", "no gates, no promotion"),
    ],
)
def test_a_bad_override_is_refused_by_name_with_the_choices(override: str, says: str) -> None:
    with pytest.raises(Refused) as refusal:
        config.recipe("languages", [override])
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


NO_WORSE = {"name": "g", "kind": "no_worse", "metric": "accuracy", "margin": 0.01, "why": "w"}
FLOOR = {"name": "f", "kind": "limit", "metric": "accuracy", "at_least": 0.5, "why": "w"}


@pytest.mark.parametrize(
    ("gates", "says"),
    [
        ([NO_WORSE | {"margin": 5}], "gate g: margin=5 allows everything"),
        ([NO_WORSE, FLOOR | {"at_least": ".nan"}], "gates.1.at_least=nan"),
        ([NO_WORSE, FLOOR | {"at_least": ".inf"}], "gates.1.at_least=inf"),
        ([NO_WORSE, FLOOR | {"at_least": 1.5}], "gate f: at_least=1.5 asks nothing or too much"),
        ([NO_WORSE, FLOOR | {"at_least": None, "at_most": 0.9}], "write at_least"),
        ([NO_WORSE, FLOOR | {"margin": 0.1}], "gate f: limit does not read margin"),
        ([NO_WORSE, FLOOR | {"metric": "bleu"}], "gate f: no metric 'bleu'; the recipe has macro"),
        (
            [NO_WORSE | {"by": "planet"}],
            "gate g: no slice column 'planet'; score.slices has domain",
        ),
        ([NO_WORSE | {"action": "warn"}], "every gate has action: warn"),
        ([FLOOR], "no gate compares with the champion"),
        ([NO_WORSE | {"against": "baseline"}], "no gate compares with the champion"),
    ],
)
def test_a_gate_that_cannot_do_what_it_says_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[dict], says: str
) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(paths.conf(), conf)
    body = yaml.safe_load((conf / "recipe" / "languages.yaml").read_text())
    body["gates"] = gates
    text = yaml.safe_dump(body).replace("'.nan'", ".nan").replace("'.inf'", ".inf")
    (conf / "recipe" / "languages.yaml").write_text(text)
    monkeypatch.setattr(load, "conf", lambda: conf)
    with pytest.raises(Refused) as refusal:
        config.recipe("languages")
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("score.few_units=0", "score.few_units=0"),
        ("score.alpha=0.2", "score.alpha=0.2"),
        ("score.requests=40", "gate speed: score.requests=40 gives p95 no upper end; it takes 59"),
    ],
)
def test_a_setting_that_makes_verdicts_dishonest_is_refused(override: str, says: str) -> None:
    with pytest.raises(Refused) as refusal:
        config.recipe("languages", [override])
    assert says in str(refusal.value)


def test_a_ceiling_beside_a_floor_is_a_band() -> None:
    names = {gate.name for gate in config.recipe("stocks").gates}
    assert {"band not too narrow", "band not too wide"} <= names


def test_an_unknown_application_is_refused_with_the_choices() -> None:
    with pytest.raises(Refused, match=r"no recipe 'sentimnet'; recipes/ has .*languages"):
        config.recipe("sentimnet")


def test_a_later_layer_wins() -> None:
    assert config.recipe("languages").seed == config.general().seed
    assert config.recipe("languages", ["seed=7"]).seed == 7
    assert config.recipe("languages", ["trainer.max_epochs=0"]).trainer.max_epochs == 0


def test_the_key_of_a_run_moves_with_the_model_half_only() -> None:
    plain = config.recipe("languages").training()
    assert config.recipe("languages", ["model.lr=0.002"]).training() != plain
    assert config.recipe("languages").training() == plain


@pytest.mark.parametrize("name", contract.names())
def test_weights_are_refused_where_a_training_would_not_heed_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(paths.conf(), tmp_path / "conf")
    path = tmp_path / "conf" / "recipe" / f"{name}.yaml"
    body = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**body, "label": {**body["label"], "issues": "weight"}}))
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    if name in ("images", "languages"):
        assert config.recipe(name).label.issues == "weight"
        return
    with pytest.raises(
        Refused,
        match=f"label.issues=weight: the training of {name} counts all its rows alike; say label.issues: off",
    ) as refusal:
        config.recipe(name)
    assert "\n" not in str(refusal.value)
