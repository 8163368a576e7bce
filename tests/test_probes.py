"""Applications of other kinds, each another package's: what the contract must carry."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.conftest import HERE, Clone, make_clone
from tidemill import contract
from tidemill.contract import Run, Splits
from tidemill.engines import config
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused

GATES = [{"name": "exported", "kind": "same", "at_most": 1e-4, "why": "both must agree"}]
AGAINST = {"name": "champion", "kind": "no_worse", "against": "champion", "margin": 0.05}
TEXT = {"text": "", "payload": None, "blob": None, "original": "", "part": "", "source": "probe"}


@dataclass
class Probe:
    """A project in which one other package's application is configured and has documents."""

    name: str
    folder: Path

    def documents(self, rows: list[dict[str, Any]]) -> None:
        """What the select step would leave."""
        path = paths.data("select", self.name) / "documents.parquet"
        path.parent.mkdir(parents=True)
        numbered = [{**TEXT, "doc_id": f"d{at:04d}", **row} for at, row in enumerate(rows)]
        pd.DataFrame(numbered).to_parquet(path)

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        path = self.folder / "conf" / "recipe" / f"{self.name}.yaml"
        body = yaml.safe_load(path.read_text())
        change(body)
        path.write_text(yaml.safe_dump(body))

    def split(self) -> Path:
        """The label and split steps."""
        from tasks.label.__main__ import label
        from tasks.split.__main__ import split

        label(self.name)
        split(self.name)
        return paths.data("splits", self.name)

    def trained(self, folder: Path) -> tuple[Any, dict[str, float]]:
        """A package as the train and export steps make it: saved, loaded anew, exported."""
        from tidemill.package.golden import remember

        judged = config.recipe(self.name)
        recipe = contract.load(self.name)(**judged.model)
        splits = Splits(paths.data("splits", self.name), judged.seed)
        first, again = recipe.learner(splits), recipe.learner(splits)
        watch = contract.watch(self.name, judged.sweep.metric)
        run = Run(judged.trainer, judged.seed, judged.trainer.max_epochs, self.name, watch)
        metrics = first.fit(run).metrics
        assert judged.sweep.metric in metrics
        first.save(folder / "weights.safetensors")
        again.load(folder / "weights.safetensors")
        (folder / "package").mkdir()
        parity = again.export(folder / "package")
        application = contract.application(self.name)
        remember(application, folder / "package")
        return application.open(folder / "package"), {**metrics, "parity": parity}

    def scored(self, predictor: Any) -> tuple[pd.DataFrame, dict[str, float]]:
        """The score step's frame of the test rows, and its metrics."""
        from tasks.score.__main__ import judged

        application = contract.application(self.name)
        rows = pd.read_parquet(paths.data("splits", self.name) / "test.parquet")
        frame = judged(application, predictor, rows)
        figures = application.metric(frame, np.ones((1, len(frame))))
        return frame, {name: float(value[0]) for name, value in figures.items()}


def probe(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    model: dict[str, Any],
    metric: str,
    epochs: int,
) -> Probe:
    """The application `tests.probes.MODULE`, installed under that name in a project of its own."""
    monkeypatch.syspath_prepend(str(install(tmp_path / "site", module)))
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    for kind in ("trainer", "runtime"):
        for path in (HERE / "conf" / kind).glob("*.yaml"):
            to = tmp_path / "conf" / kind / path.name
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(path.read_text())
    (tmp_path / "conf" / "config.yaml").write_text((HERE / "conf" / "config.yaml").read_text())
    for kind, body in (
        ("source", {"kind": "files", "licence": "CC0-1.0", "path": "rows", "members": "*.csv"}),
        ("recipe", yaml_of(module, model, metric, epochs)),
    ):
        to = tmp_path / "conf" / kind / f"{'probe' if kind == 'source' else module}.yaml"
        to.parent.mkdir(exist_ok=True)
        selector = {"selector": [{"kind": "whole", "name": "row"}], "clean": {}}
        to.write_text(yaml.safe_dump({**body, **(selector if kind == "source" else {})}))
    return Probe(module, tmp_path)


def install(folder: Path, module: str) -> Path:
    """A folder to stand on the path: with it `tests.probes.MODULE` is an installed application."""
    info = folder / f"{module}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        f"[tidemill.recipes]\n{module} = tests.probes.{module}\n"
    )
    return folder


def yaml_of(name: str, model: dict[str, Any], metric: str, epochs: int) -> dict[str, Any]:
    judged_by = next(iter(contract.application(name).metrics))
    rule = {"source": "probe", "by": "hash", "column": "doc_id", "valid": 0.25, "test": 0.25}
    return {
        "summary": f"A probe: {name}.",
        "sources": [{"name": "probe"}],
        "select": {},
        "label": {},
        "split": {"rules": [rule], "near_duplicates": 1.0, "ngram": 0},
        "model": model,
        "trainer": {"max_epochs": epochs},
        "sweep": {"trials": 0, "metric": metric},
        "score": {"resamples": 200, "slices": [], "min_rows": 10, "min_units": 6, "alpha": 0.05},
        "gates": [*GATES, {**AGAINST, "metric": judged_by, "why": "no night makes it worse"}],
    }


def lines_of(module: str) -> int:
    path = HERE / "tests" / "probes" / f"{module}.py"
    return sum(bool(line.strip()) for line in path.read_text().splitlines())


# A text classifier over a pretrained encoder ----------------------------------------------------

WORDS = {"friendly": ["good", "kind", "warm"], "hostile": ["bad", "rude", "cold"]}
COMMON = ["a", "day", "what", "the", "was", "very", "and", "it"]


def encoder(folder: Path) -> Path:
    """A tiny BERT with random weights, in Hugging Face's layout."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel

    words = ["[PAD]", "[UNK]", *COMMON, *(word for some in WORDS.values() for word in some)]
    tokenizer: Any = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(1)
    shape = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    BertModel(shape, add_pooling_layer=False).save_pretrained(folder)
    return folder


def sentences(count: int) -> list[dict[str, Any]]:
    random, rows = np.random.default_rng(1), []
    for number in range(count):
        label = sorted(WORDS)[number % 2]
        some = [*random.choice(COMMON, 5), random.choice(WORDS[label])]
        text = " ".join(random.permutation(some))
        rows.append({"text": text, "attributes": json.dumps({"label": label})})
    return rows


def test_a_text_classifier_over_an_encoder_in_hugging_faces_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"start": str(encoder(tmp_path / "encoder"))}
    made = probe(tmp_path, monkeypatch, "opinions", model, "valid_accuracy", 12)
    made.documents(sentences(160))
    made.split()
    predictor, told = made.trained(tmp_path)
    assert told["parity"] < 1e-4 and told["valid_accuracy"] > 0.9
    frame, figures = made.scored(predictor)
    assert figures["accuracy"] > 0.9 and set(frame.columns) >= {"target", "answer", "confidence"}


def test_a_new_classifier_is_at_most_120_lines_of_python() -> None:
    assert lines_of("opinions") <= 120


# Boosted trees over a table ---------------------------------------------------------------------


def measured(count: int) -> list[dict[str, Any]]:
    random, rows = np.random.default_rng(1), []
    for number in range(count):
        label, centre = [("one", 2.0), ("two", 4.0), ("three", 6.0)][number % 3]
        values = [round(float(v), 3) for v in random.normal([centre, 3, centre / 2, 1], 0.4)]
        rows.append({"attributes": json.dumps({"label": label, "values": json.dumps(values)})})
    return rows


def test_boosted_trees_over_a_table_go_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = probe(tmp_path, monkeypatch, "orchids", {}, "valid_accuracy", 1)
    made.documents(measured(240))
    made.split()
    predictor, told = made.trained(tmp_path)
    assert told["parity"] < 1e-5 and told["valid_accuracy"] > 0.9
    assert made.scored(predictor)[1]["accuracy"] > 0.9
    assert lines_of("orchids") <= 120


# A GAN with two optimisers ----------------------------------------------------------------------


def ring(count: int) -> list[dict[str, Any]]:
    random, rows = np.random.default_rng(1), []
    for _ in range(count):
        angle, radius = random.uniform(0, 2 * np.pi), random.normal(2, 0.1)
        point = [round(float(radius * turn), 4) for turn in (np.cos(angle), np.sin(angle))]
        rows.append({"attributes": json.dumps({"point": json.dumps(point)})})
    return rows


@pytest.fixture
def painter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    made = probe(tmp_path, monkeypatch, "painter", {}, "valid_energy", 6)
    made.documents(ring(200))
    made.split()
    return made


def test_a_gan_with_two_optimisers_is_trained_and_judged_as_a_set(painter: Probe) -> None:
    predictor, told = painter.trained(painter.folder)
    assert told["parity"] < 1e-5
    for graph in (painter.folder / "package").glob("*.onnx"):
        assert str(HERE).encode() not in graph.read_bytes(), "a package says where it was made"
    frame, figures = painter.scored(predictor)
    flat = frame.assign(to_x=0.0, to_y=0.0)
    nothing = contract.application("painter").metric(flat, np.ones((1, len(flat))))["energy"][0]
    assert 0 <= figures["energy"] < nothing, "points that are drawn are nearer than a single one"


def test_a_step_of_two_optimisers_counts_once_and_a_killed_one_resumes_to_the_bit(
    painter: Probe, tmp_path: Path
) -> None:
    import torch
    from lightning.pytorch.callbacks import Callback

    from tidemill.learners.lightning.checkpoints import Checkpoints
    from tidemill.learners.lightning.loop import Kept
    from tidemill.learners.lightning.resume import Stop, steps_done

    class Killed(Exception):
        pass

    class At(Callback):
        def on_train_batch_end(self, trainer: Any, *told: Any) -> None:
            if steps_done(trainer) == 5:
                raise Killed

    judged = config.recipe("painter")
    trainer = judged.trainer.model_copy(update={"checkpoint_steps": 2, "keep": "best"})
    recipe, splits = contract.load("painter")(), paths.data("splits", "painter")
    watch = contract.watch("painter", "valid_energy")

    class Noted(Callback):
        def __init__(self) -> None:
            self.values: list[float] = []

        def on_validation_end(self, trainer: Any, module: Any) -> None:
            self.values.append(float(trainer.callback_metrics["valid_energy"]))

    def train(name: str, *callbacks: Any) -> tuple[Any, Any, int]:
        kept = Kept(Checkpoints(tmp_path / name, {"of": name}), Stop())
        learner: Any = recipe.learner(Splits(splits, 1))
        run = Run(trainer, 1, 3, name, watch, kept=kept, callbacks=callbacks)
        return learner, learner.fit(run), kept.resumed_at or 0

    noted = Noted()
    whole, fitted, _ = train("whole", noted)
    assert fitted.metrics["valid_energy"] == min(noted.values), "lower is better, and is kept"
    steps = len(whole.data.train_dataloader())
    assert 0 < fitted.steps <= 3 * steps, "a batch is a step, however many optimisers take one"
    with pytest.raises(Killed):
        train("killed", At())
    again, refitted, resumed_at = train("killed")
    assert resumed_at == 4 and refitted == fitted
    one, two = whole.module.state_dict(), again.module.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("setting", "value"), [("accumulate", 2), ("gradient_clip", 1.0), ("optimiser", "adamw")]
)
def test_what_two_optimisers_cannot_heed_is_refused_by_name(
    painter: Probe, setting: str, value: Any
) -> None:
    judged = config.recipe("painter")
    trainer = judged.trainer.model_copy(update={setting: value})
    learner = contract.load("painter")().learner(Splits(paths.data("splits", "painter"), 1))
    with pytest.raises(Refused, match=rf"trainer\.{setting}: this network steps"):
        learner.fit(Run(trainer, 1, 1, "painter"))


# Matrix factorisation, judged by person ---------------------------------------------------------


def name(number: int) -> str:
    return chr(97 + number // 26) + chr(97 + number % 26)


def chosen(people: int, items: int) -> list[dict[str, Any]]:
    """Everybody likes every third item, which three depends on the person."""
    random, rows = np.random.default_rng(1), []
    for person in range(people):
        liked = [item for item in range(items) if item % 3 == person % 3]
        for item in random.permutation(liked)[:8]:
            told = {"person": name(person), "item": name(item)}
            rows.append({"attributes": json.dumps(told)})
    return rows


def test_a_matrix_factorisation_is_judged_person_by_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = probe(tmp_path, monkeypatch, "readers", {}, "valid_rank", 20)
    made.documents(chosen(40, 30))
    with pytest.raises(Refused, match=r"one question has many right answers, set split\.copies"):
        made.split()
    made.edit(lambda body: body["split"].update(copies="rows"))
    splits = made.split()
    rows = pd.read_parquet(splits / "test.parquet")
    assert 1 < rows["unit"].nunique() < len(rows), "several choices of a person are one unit"
    predictor, told = made.trained(tmp_path)
    assert told["parity"] < 1e-4
    _, figures = made.scored(predictor)
    assert figures["hits"] > 0.2, "by chance three of some twenty-five are 0.12"


# A sequence-to-sequence model of several graphs -------------------------------------------------


def words(count: int) -> list[dict[str, Any]]:
    random, rows = np.random.default_rng(1), []
    for _ in range(count):
        letters = random.choice(list("abcdef"), int(random.integers(2, 5)))
        rows.append({"text": "".join(letters), "attributes": "{}"})
    return rows


def test_a_sequence_to_sequence_model_of_two_graphs_is_exported_and_quantised_graph_by_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.export.quantise import convert, recorded
    from tidemill.kit.graphs import examples

    made = probe(tmp_path, monkeypatch, "mirror", {}, "valid_loss", 20)
    made.documents(words(500))
    splits = made.split()
    predictor, told = made.trained(tmp_path)
    assert told["parity"] < 1e-4 and sorted(predictor.graphs) == ["decoder", "encoder"]
    _, figures = made.scored(predictor)
    assert figures["letters"] > 0.5, "by chance one letter in six is right"
    application = contract.application("mirror")
    calls = examples(application, predictor)
    assert {name: call.rows for name, call in calls.items()} == {"decoder": 2, "encoder": 2}
    package = tmp_path / "package"
    feeds = recorded(application, package, pd.read_parquet(splits / "valid.parquet").head(8))
    assert all(len(some) > 0 for some in feeds.values())
    for graph in package.glob("*.onnx"):
        convert("fp16", graph, graph, feeds[graph.stem])
    assert made.scored(application.open(package))[1]["letters"] > 0.5


# Whole runs, every step a process of its own -----------------------------------------------------


@pytest.mark.system  # the tests above are its short form
@pytest.mark.parametrize("module", ["opinions", "orchids", "painter", "readers", "mirror"])
def test_each_goes_whole_through_a_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    clone = make_clone(tmp_path / "clone")
    site = install(tmp_path / "site", module)
    monkeypatch.syspath_prepend(str(site))
    clone.env["PYTHONPATH"] = os.pathsep.join([clone.env["PYTHONPATH"], str(site), str(HERE)])
    model = {"start": str(encoder(tmp_path / "encoder"))} if module == "opinions" else {}
    rows, metric, epochs = WHOLE[module]
    configure(clone, module, yaml_of(module, model, metric, epochs))
    table(clone.folder / "rows" / "rows.csv", rows())
    done = clone.tidemill("run", module, "--dry-run", "--json", timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    end = json.loads(done.stdout)
    assert end["state"] == "DryRun" and end["verdict"] == "PROMOTE", end


WHOLE: dict[str, tuple[Callable[[], list[dict[str, Any]]], str, int]] = {
    "opinions": (lambda: sentences(160), "valid_accuracy", 12),
    "orchids": (lambda: measured(240), "valid_accuracy", 1),
    "painter": (lambda: ring(200), "valid_energy", 6),
    "readers": (lambda: chosen(40, 30), "valid_rank", 20),
    "mirror": (lambda: words(500), "valid_loss", 20),
}


def configure(clone: Clone, module: str, recipe: dict[str, Any]) -> None:
    if module == "readers":
        recipe["split"]["copies"] = "rows"
    source = {
        "kind": "files",
        "licence": "CC0-1.0",
        "path": "rows",
        "members": "*.csv",
        "selector": [{"kind": "table", "name": "row", "text": "text"}],
        "clean": {},
    }
    (clone.folder / "conf" / "source" / "probe.yaml").write_text(yaml.safe_dump(source))
    (clone.folder / "conf" / "recipe" / f"{module}.yaml").write_text(yaml.safe_dump(recipe))


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir()
    columns = [
        {"text": row.get("text", f"row {number}"), **json.loads(row["attributes"])}
        for number, row in enumerate(rows)
    ]
    pd.DataFrame(columns).to_csv(path, index=False)
