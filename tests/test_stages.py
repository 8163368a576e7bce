"""A model of several trainings: taught, pruned, or an ensemble.

It is one artefact and, killed or not, has the same weights.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.conftest import Clone, make_clone
from tests.support.splits import halved
from tidemill import contract
from tidemill.contract import Splits
from tidemill.engines import config
from tidemill.engines.config.schema import RecipeConfig
from tidemill.kit.graphs import examples
from tidemill.learners.lightning.distillation import Teacher, taught
from tidemill.records.receipts import Exported, Trained
from tidemill.runtime.errors import Refused
from tidemill.runtime.process import PROGRESS

OF_TWO = ("ensemble.members=2", "trainer.checkpoint_steps=5")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with the splits of `images`, and a network that learns them in seconds."""
    clone = make_clone(tmp_path_factory.mktemp("stages") / "clone", git=False)
    halved(clone, "images")
    clone.edit(
        "recipe/images.yaml",
        lambda body: (
            body["model"].update(width=4),
            body["trainer"].update(max_epochs=1),
            body["export"].update(forms=[]),
        ),
    )
    return clone


def made(
    clone: Clone, *overrides: str, steps: tuple[str, ...] = ("sweep", "train", "export")
) -> tuple[Path, Trained, Exported]:
    for step in steps:
        done = clone.run(f"tasks.{step}", "images", *overrides)
        assert done.returncode == 0, done.stderr[-2000:]
    folder = newest(clone)
    trained, exported = Trained.load(folder / "train.json"), Exported.load(folder / "export.json")
    assert trained and exported
    return folder, trained, exported


def newest(clone: Clone) -> Path:
    return max(
        (clone.folder / ".tidemill/runs").iterdir(),
        key=lambda path: (
            (path / "train.json").stat().st_mtime if (path / "train.json").is_file() else 0
        ),
    )


def tags(clone: Clone) -> dict[str, Any]:
    key = json.loads((newest(clone) / "package/recipe.json").read_text())["key"]
    code = (
        "import json; from tidemill.runtime import paths; "
        "from tidemill.engines.mlflow import runs; paths.settle(); "
        f"found = runs.data(runs.parent('images', {key!r}));"
        "print(json.dumps({**found.tags, **found.metrics}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=clone.folder,
        env=clone.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def answers(folder: Path, trained: Trained) -> np.ndarray:
    application = contract.application("images")
    predictor = application.open(folder / "package")
    call = examples(application, predictor)["model"]
    answers: np.ndarray = call.outputs["probabilities"]
    return answers


# An ensemble ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ensemble(pictures: Clone) -> tuple[Path, Trained, Exported]:
    return made(pictures, *OF_TWO)


def test_an_ensemble_is_one_graph_that_answers_the_mean_of_its_members(
    pictures: Clone, ensemble: tuple[Path, Trained, Exported]
) -> None:
    folder, trained, exported = ensemble
    assert (
        sorted(trained.members) == ["member-1"]
        and trained.weights.sha256 != trained.members["member-1"].sha256
    )
    assert exported.parity < 1e-4
    assert (
        sorted(path.name for path in folder.glob("package*")) == ["package"]
        and len(list((folder / "package").glob("*.onnx"))) == 1
    )
    recipe: Any = contract.load("images")(**trained.model)
    session = recipe.application().open(folder / "package")
    pixels = examples(recipe.application(), session)["model"].inputs["pixels"]
    found = []
    for file in (trained.weights, *trained.members.values()):
        from safetensors.torch import load_file

        from recipes.images.network import Net

        net = Net(recipe, len(session.labels))
        net.load_state_dict(
            {
                name.removeprefix("net."): tensor
                for name, tensor in load_file(str(pictures.folder / file.path)).items()
            }
        )
        with torch.no_grad():
            found.append(net.eval()(torch.from_numpy(pixels)).numpy())
    assert np.abs(np.mean(found, axis=0) - answers(folder, trained)).max() < 1e-4
    assert np.abs(found[0] - answers(folder, trained)).max() > 1e-3, (
        "the members differ, or there is nothing to average"
    )
    assert "An ensemble of 2 networks" in (folder / "package/card.md").read_text()
    assert tags(pictures)["tidemill.members"] == "2"


def test_killed_between_and_within_its_trainings_an_ensemble_ends_with_the_same_weights(
    pictures: Clone, ensemble: tuple[Path, Trained, Exported]
) -> None:
    folder, whole, _ = ensemble
    for path in (*folder.glob("*.json"), *folder.glob("*.safetensors")):
        if path.name != "sweep.json":
            path.unlink()
    child = subprocess.Popen(
        [sys.executable, "-m", "tasks.train", "images", *OF_TWO],
        cwd=pictures.folder,
        env=pictures.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while (
        not list(folder.glob("checkpoints-member-1/*.sha256"))
        and time.monotonic() < deadline
        and child.poll() is None
    ):
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (folder / "whole.json").is_file() and not (folder / "train.json").is_file(), (
        "it was killed within its second training"
    )
    done = pictures.run("tasks.train", "images", *OF_TWO)
    assert done.returncode == 0, done.stderr[-2000:]
    said = [
        json.loads(line.removeprefix(PROGRESS))
        for line in done.stdout.splitlines()
        if line.startswith(PROGRESS)
    ]
    assert {event["training"] for event in said} == {"train images: member 1"}, (
        "the other one had ended"
    )
    assert [event["resumed"] % 5 for event in said if "resumed" in event] == [0], (
        "that it goes on from a checkpoint is said once"
    )
    again = Trained.load(folder / "train.json")
    assert again and again.resumes == 1
    assert (again.weights.sha256, again.members["member-1"].sha256) == (
        whole.weights.sha256,
        whole.members["member-1"].sha256,
    )


# Pruning ----------------------------------------------------------------------------------------


@pytest.mark.apps
def test_a_pruned_network_is_smaller_and_its_package_says_what_it_was(pictures: Clone) -> None:
    folder, trained, exported = made(
        pictures, "prune.fraction=0.5", "prune.margin=1", "prune.epochs=1"
    )
    assert trained.model == {**trained.before, "inner": 0.5} and exported.parity < 1e-4
    assert (folder / "weights.safetensors").stat().st_size < 0.85 * (
        folder / "whole.safetensors"
    ).stat().st_size
    assert json.loads((folder / "package/recipe.json").read_text())["before"]["inner"] == 1.0
    told = tags(pictures)
    assert (
        told["tidemill.pruned"].startswith("0.5 of the inner channels: valid_accuracy")
        and told["whole.valid_accuracy"] > 0
    )


@pytest.mark.system
def test_a_pruned_network_that_lost_too_much_is_not_taken(pictures: Clone) -> None:
    _, trained, _ = made(pictures, "prune.fraction=0.9", "prune.margin=0", "prune.epochs=0")
    assert trained.model["inner"] == 1.0 and not trained.before
    assert tags(pictures)["tidemill.pruned"].startswith("not taken, 0.9 of the inner channels")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("images", {"width": 8, "stages": 2}),
        (
            "text_generation",
            {"layers": 1, "heads": 2, "width": 32, "context": 32, "vocabulary": 300},
        ),
    ],
)
def test_pruning_takes_out_the_channels_of_least_weight_alone(name: str, fields: dict) -> None:
    """Channels that carry nothing are taken out without a trace in the answers."""
    recipe: Any = contract.load(name)(**fields)
    torch.manual_seed(0)
    if name == "images":
        from types import SimpleNamespace

        from recipes.images.network import Block, PictureModule, shrink

        data: Any = SimpleNamespace(labels=["0", "1", "2"])
        module: Any = PictureModule(recipe, data)
        for block in (part for part in module.net.body if isinstance(part, Block)):
            block.norms[0].weight.data[::2] = (
                0.0  # half of them say the same whatever they see: nothing
            )
            block.norms[0].bias.data[::2] = 0.0
        batch: Any = (torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.long))
        small: Any = PictureModule(recipe.pruned(0.5), data)
        shrink(module.eval(), small.eval())
    else:
        from recipes.text_generation.network import Generator
        from recipes.text_generation.network import shrink as narrow

        module = Generator(recipe, None)  # type: ignore[arg-type]
        for layer in module.net.layers:
            layer.up.weight.data[::2] = 0.0
        ids = torch.randint(0, 300, (2, 8))
        batch = (ids, ids, torch.arange(8)[None].expand(2, 8), torch.zeros(2, 8, dtype=torch.long))
        small = Generator(recipe.pruned(0.5), None)  # type: ignore[arg-type]
        narrow(module.eval(), small.eval())
    with torch.no_grad():
        one, two = module.logits(batch), small.logits(batch)
    assert sum(weight.numel() for weight in small.parameters()) < 0.85 * sum(
        weight.numel() for weight in module.parameters()
    )
    assert (one - two).abs().max() < 1e-5


# Teaching ---------------------------------------------------------------------------------------


@pytest.mark.system
def test_a_student_of_an_ensemble_is_one_small_network_and_its_teachers_are_named(
    pictures: Clone,
) -> None:
    folder, trained, exported = made(
        pictures, "teach.by=ensemble", "teach.members=2", "teach.model.width=8"
    )
    assert trained.model["width"] == 4 and not trained.members and exported.parity < 1e-4
    told = tags(pictures)
    assert told["tidemill.taught"] == "by an ensemble of 2" and "teacher-2.valid_accuracy" in told
    assert sorted(path.name for path in folder.glob("teacher-*.safetensors")) == [
        "teacher-1.safetensors",
        "teacher-2.safetensors",
    ]


def test_a_student_heeds_its_teacher_by_the_weight_it_was_told(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from recipes.images.network import PictureModule

    recipe: Any = contract.load("images")(width=4, stages=1)
    data: Any = SimpleNamespace(labels=["0", "1", "2"])
    torch.manual_seed(0)
    student, teacher = PictureModule(recipe, data).eval(), PictureModule(recipe, data)
    student.log = lambda *told, **more: None  # type: ignore[method-assign]
    batch = (torch.rand(4, 1, 28, 28), torch.tensor([0, 1, 2, 0]))
    own = student.loss(student.logits(batch), batch).detach()
    step = taught([Teacher(student)], 1.0, 2.0)(student)
    assert abs(float(step(batch, 0).detach())) < 1e-6, (
        "who agrees with the teacher has nothing to learn from it"
    )
    mixed = float(taught([Teacher(teacher)], 0.25, 1.0)(student)(batch, 0).detach())
    full = float(taught([Teacher(teacher)], 1.0, 1.0)(student)(batch, 0).detach())
    assert full > 0 and mixed == pytest.approx(0.75 * float(own) + 0.25 * full, rel=1e-5)


# What cannot be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        (
            "stocks",
            "ensemble.members=3",
            "the answers of stocks cannot be averaged; say ensemble.members=1",
        ),
        ("text_generation", "ensemble.members=2", "cannot be averaged"),
        ("languages", "prune.fraction=0.5", "languages cannot be pruned; say prune.fraction=0"),
        ("stocks", "teach.by=ensemble", "stocks cannot be taught; say teach.by=nobody"),
        ("images", "prune.fraction=1", "less than or equal to 0.95"),
        ("images", "teach.model.width=8", "teach.model is for teach.by=ensemble"),
    ],
)
def test_what_an_application_cannot_do_is_said_before_anything_is_trained(
    name: str, override: str, words: str
) -> None:
    with pytest.raises(Refused) as refused:
        config.recipe(name, [override])
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_teachers_field_that_does_not_exist_is_refused_with_the_choices() -> None:
    with pytest.raises(Refused, match=r"unknown key 'teach\.model\.widht'; there are batch, bend"):
        config.recipe("images", ["teach.by=ensemble", "teach.model.widht=8"])


def test_an_ensemble_is_of_whole_networks() -> None:
    judged = config.recipe("images").model_dump()
    with pytest.raises(ValidationError, match="leave out prune and teach, or the ensemble"):
        RecipeConfig.model_validate(
            {**judged, "ensemble": {"members": 2}, "prune": {"fraction": 0.5}}
        )


def test_a_student_of_the_champion_needs_one(pictures: Clone) -> None:
    done = pictures.run("tasks.sweep", "images", "teach.by=champion")
    assert (
        done.returncode == 2
        and "teach.by=champion: images has no champion yet; say teach.by=ensemble or nobody"
        in done.stderr
    )


@pytest.mark.system
def test_a_teacher_that_reads_its_rows_otherwise_is_refused(pictures: Clone) -> None:
    done = pictures.run("tasks.sweep", "images", "teach.by=ensemble", "teach.model.side=20")
    assert done.returncode == 0
    done = pictures.run("tasks.train", "images", "teach.by=ensemble", "teach.model.side=20")
    assert (
        done.returncode == 2
        and "teach: teach.model reads its rows otherwise (side 20 and not 28); give both the same"
        in done.stderr
    )


def test_a_teacher_that_knows_other_answers_or_tokens_is_strange(tmp_path: Path) -> None:
    from types import SimpleNamespace

    def incompatible(name: str, data: SimpleNamespace) -> str:
        """What a learner of this data says of the package."""
        splits = Splits(tmp_path, 1)
        learner: Any = contract.load(name)().learner(splits)
        splits.of(type(learner), learner.recipe, lambda: data)
        return str(learner.incompatible(tmp_path))

    (tmp_path / "tables.json").write_text(json.dumps({"languages": ["deu", "fra"], "bits": 12}))
    assert incompatible("languages", SimpleNamespace(languages=["deu", "fra"])) == ""
    assert "nld" in incompatible("languages", SimpleNamespace(languages=["deu", "nld"])), (
        "as many, and others"
    )
    (tmp_path / "tokenizer.json").write_text("one")
    assert (
        incompatible("text_generation", SimpleNamespace(tokens=SimpleNamespace(body="one"))) == ""
    )
    assert "tokens" in incompatible(
        "text_generation", SimpleNamespace(tokens=SimpleNamespace(body="other"))
    )


def test_a_network_that_cannot_be_pruned_is_refused_before_it_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.train import stages

    judged = config.recipe("text_generation", ["prune.fraction=0.5"])
    begun = contract.load("text_generation").model_construct(start="a folder")
    start = stages.Start(begun, judged.trainer, Splits(tmp_path, 1), None, "", 0)
    monkeypatch.setattr(type(begun), "learner", lambda *told: pytest.fail("nothing is trained"))
    with pytest.raises(
        Refused, match=r"prune\.fraction=0\.5: a network that begins from a folder or a champion"
    ):
        stages.trained(
            stages.Work(
                "text_generation",
                judged,
                tmp_path,
                tmp_path,
                start,
                lambda name: pytest.fail("nothing is kept"),
            )
        )
