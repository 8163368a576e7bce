"""Weights that were trained elsewhere are taken in as they are, and refused before any work."""

import json
import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

from recipes.text_generation.recipe import TextGeneration
from recipes.text_generation.tokens import Tokens, trained
from tests.conftest import Clone
from tests.support import causal_models
from tests.support.texts import TEXTS


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("adopt", "languages", "conf"), "languages cannot take weights .* text_generation can"),
        (("adopt", "none", "conf"), "no recipe 'none'"),
        (("adopt", "text_generation", "nowhere"), "nowhere' is no folder"),
        (("adopt", "text_generation", "conf"), "conf' has no config.json"),
        (("run", "sentiment", "model.start=conf"), "'conf' has no config.json"),
    ],
)
def test_what_is_no_model_is_refused_before_any_work(
    clone: Clone, command: tuple[str, ...], message: str
) -> None:
    done = clone.tidemill(*command)
    assert done.returncode == 2 and re.search(message, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1 and not (clone.folder / "data/raw").is_dir()


@pytest.mark.parametrize("kind", causal_models.ARCHITECTURES)
def test_a_plan_counts_the_parameters_of_a_network_of_transformers(
    kind: str, tmp_path: Path
) -> None:
    model = causal_models.folder(kind, tmp_path, Tokens(trained(TEXTS, 300)))
    recipe = TextGeneration(start=str(tmp_path), context=32, batch=4, steps=10)
    plan = recipe.plan(1, 1, "auto", "32-true")
    assert plan["parameters"] == sum(weight.numel() for weight in model.parameters())
    assert plan["tokens"] == 32 * 4 * 10 and float(plan["flops"]) > 0


@pytest.mark.system
def test_a_folder_of_transformers_is_judged_as_it_is(clone: Clone, tmp_path: Path) -> None:
    start = tmp_path / "llama"
    causal_models.folder("llama", start, Tokens(trained(TEXTS, 300)))

    def change(body: dict[str, object]) -> None:
        body["sources"] = [{"name": "tales"}]
        body["split"]["rules"] = [  # type: ignore[index]
            one
            for one in body["split"]["rules"]  # type: ignore[index]
            if one["source"] == "tales"
        ]
        for gate in body["gates"]:  # type: ignore[attr-defined]
            gate.pop("required", None)

    clone.edit("recipe/text_generation.yaml", change)
    done = clone.tidemill("adopt", "text_generation", str(start), "--json")
    assert done.returncode == 0, done.stderr
    end = json.loads(done.stdout)
    assert end["state"] in ("Held", "Rejected"), end
    [package] = (clone.folder / ".tidemill/runs").glob("*/package")
    own, theirs = (load_file(str(at / "model.safetensors")) for at in (package, start))
    assert own.keys() == theirs.keys()
    assert all((own[name] == theirs[name]).all() for name in own)
    assert "0 steps" in (package / "card.md").read_text()
