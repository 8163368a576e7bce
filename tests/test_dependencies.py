"""What depends on what: a file is edited in a copy of the project, and the right keys move."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tasks.clean import read
from tests.conftest import HERE, Clone
from tidemill import contract
from tidemill.engines.config.schema import RecipeConfig, Source
from tidemill.engines.dvc import graph
from tidemill.runtime import paths

RECIPES = frozenset(contract.names())
NONE: frozenset[str] = frozenset()

MOVES: dict[str, tuple[str, frozenset[str], frozenset[str], bool]] = {
    # file: data steps, recipes whose labels move, recipes whose trainings move, drift
    "tasks/clean/pii/phones.py": ("clean", NONE, NONE, False),
    "tasks/clean/worker.py": ("clean", NONE, NONE, False),
    "tasks/clean/__init__.py": ("", NONE, NONE, False),
    "tasks/select/policy.py": ("select", NONE, NONE, False),
    "tasks/label/voting.py": ("", RECIPES, NONE, False),
    "tasks/label/issues.py": ("", RECIPES, NONE, False),
    "tasks/train/stages.py": ("", NONE, NONE, True),
    "tasks/export/quantise.py": ("", NONE, NONE, True),
    "tasks/judge/gates.py": ("", NONE, NONE, True),
    "tasks/judge/permutation.py": ("", NONE, NONE, True),
    "tasks/serve/app.py": ("", NONE, NONE, False),
    "tasks/serve/batch.py": ("", NONE, NONE, False),
    "tidemill/text/duplicates.py": ("select split", NONE, NONE, True),
    "tidemill/text/lsh.py": ("select split", NONE, NONE, True),
    "tidemill/text/normal.py": ("clean select split", NONE, NONE, True),
    "tidemill/kit/sounds.py": ("clean split", NONE, NONE, False),
    "tidemill/kit/pictures.py": ("clean split", RECIPES, frozenset({"images"}), False),
    "tidemill/kit/batches.py": ("", NONE, RECIPES, False),
    "tidemill/web/robots.py": ("clean", NONE, NONE, True),
    "tidemill/records/tables.py": ("clean select split", RECIPES, NONE, False),
    "tidemill/records/receipts.py": ("", NONE, NONE, True),
    "tidemill/contract.py": ("split", RECIPES, RECIPES, False),
    "tidemill/learners/lightning/loop.py": ("", NONE, RECIPES, False),
    "tidemill/runtime/process.py": ("", NONE, NONE, True),
    "tidemill/engines/config/load.py": ("", NONE, NONE, True),
    "tidemill/cli/panel.py": ("", NONE, NONE, False),
    "flows/retrain.py": ("", NONE, NONE, False),
    "recipes/images/network.py": ("", NONE, frozenset({"images"}), False),
    "recipes/languages/voters.py": (
        "",
        frozenset({"languages"}),
        frozenset({"languages"}),
        False,
    ),
    "recipes/stocks/windows.py": ("", frozenset({"stocks"}), frozenset({"stocks"}), False),
}

MEASURE = """
import json, sys
from pathlib import Path
from tidemill.runtime import imports
from tidemill.engines.dvc import graph
from tidemill.run import code

RECIPES = sys.argv[1].split()

def state():
    stages = {step: [imports.code_digest([Path(file).resolve() for file in graph.code(step)])]
              for step in ("clean", "select", "split", "label")}
    labels = {name: stages["label"] + [imports.code_digest(graph.labelling(name))]
              for name in RECIPES}
    keys = {name: imports.code_digest(code.of_key(name)) for name in RECIPES}
    return stages, labels, keys, {"drift": code.beside("languages")}

def differ(one, two):
    return sorted(name for name in one if one[name] != two[name])

before, moved = state(), {}
for file in map(Path, sys.argv[2:]):
    text = file.read_text()
    file.write_text(text + "\\n# another line\\n")
    steps, labels, keys, beside = (differ(*pair) for pair in zip(before, state()))
    moved[str(file)] = [[step for step in steps if step != "label"], labels, keys, beside]
    file.write_text(text)
print(json.dumps(moved))
"""


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    copy = tmp_path_factory.mktemp("edited") / "project"
    for part in ("conf", "recipes", "tasks", "tidemill", "flows"):
        shutil.copytree(HERE / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, " ".join(sorted(RECIPES)), *MOVES],
        cwd=copy,
        env={"PYTHONPATH": str(copy), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("file", MOVES)
def test_an_edited_file_moves_what_needs_it_and_nothing_else(
    moved: dict[str, Any], file: str
) -> None:
    steps, labels, keys, drift = MOVES[file]
    drifted = ["drift"] if drift else []
    assert moved[file] == [steps.split(), sorted(labels), sorted(keys), drifted]


def test_a_module_that_only_a_type_checker_reads_is_no_dependency(tmp_path: Path) -> None:
    from tidemill.runtime import imports

    one = tmp_path / "one.py"
    one.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from tidemill.kit import sounds\n"
        "def work():\n    from tidemill.kit import pictures\n    return 'tidemill.web.urls'\n"
    )
    needed = imports.names(imports.closure([], files=[one]))
    assert {"tidemill/kit/pictures.py", "tidemill/web/urls.py"} <= {*needed}
    assert "tidemill/kit/sounds.py" not in needed


def test_labelling_that_needs_a_network_is_refused(tmp_path: Path) -> None:
    from tidemill.engines.dvc import graph

    assert graph.unlisted("images", {"recipes.images.recipe", "recipes.images.network"}) == [
        "recipes.images.network"
    ]


def test_code_that_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    from tidemill.runtime import imports
    from tidemill.runtime.errors import Refused

    (tmp_path / "broken.py").write_text("x = 1\ndef (:\n")
    with pytest.raises(Refused, match=r"broken\.py, line 2: "):
        imports.closure([], files=[tmp_path / "broken.py"])


@pytest.fixture
def settings_read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The fields of conf/recipe and conf/source that code outside the configuration reads."""
    read: set[str] = set()

    def noting(kind: type[BaseModel]) -> None:
        plain = kind.__getattribute__

        def noted(model: BaseModel, name: str) -> Any:
            caller = sys._getframe(1).f_globals["__name__"]
            if name in kind.model_fields and not caller.startswith("tidemill.engines.config"):
                read.add(name)
            return plain(model, name)

        monkeypatch.setattr(kind, "__getattribute__", noted)

    noting(RecipeConfig)
    noting(Source)
    return read


def test_a_data_step_depends_on_every_setting_that_it_reads(
    lived: Clone, monkeypatch: pytest.MonkeyPatch, settings_read: set[str]
) -> None:
    from tasks.clean import __main__ as cleaning
    from tasks.label.__main__ import label
    from tasks.select.__main__ import select
    from tasks.split.__main__ import split
    from tidemill.engines.config import load

    monkeypatch.setattr(paths, "root", lambda: lived.folder)
    stages = graph.graph()["stages"]
    steps = {"clean": cleaning.clean, "select": select, "label": label, "split": split}
    for step, work in steps.items():
        settings_read.clear()
        work("software" if step == "clean" else "languages")
        if step == "clean":  # what its children read
            row = {"uri": "a", "media": "text/x-po", "charset": None}
            read.documents(load.source("software"), row, b'msgid "a"\nmsgstr "b"\n')
        declared = next(iter(stages[step]["do"]["params"][0].values()))
        assert settings_read - {"name", "application"} <= {*declared}, step
        assert {*declared} <= settings_read, step
