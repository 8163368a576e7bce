"""What a person may say, and what they are told when it makes no sense."""

import shutil
from pathlib import Path

import pytest
import yaml

from tidemill import contract
from tidemill.engines import config
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
