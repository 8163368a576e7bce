"""The rules of the house, held by reading the imports."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

from benchmarks import house
from tidemill import contract
from tidemill.engines import config
from tidemill.engines.dvc import graph
from tidemill.runtime.imports import within

ROOT = Path(__file__).resolve().parent.parent
DOORS = {
    "mlflow": ("tidemill/engines/mlflow/",),
    "dvc": ("tidemill/engines/dvc/",),
    "optuna": ("tidemill/engines/optuna/",),
    "ray": ("tidemill/engines/ray/",),
    "prefect": ("tidemill/engines/prefect/", "tidemill/servers/prefect_server.py", "flows/"),
}
PLACES = ("flows", "tasks", "recipes", "tidemill")
OUTER = ("tidemill/cli/", "tidemill/servers/")  # which stand above the flows
HEAVY = {"torch", "lightning", "sklearn", "mlflow", "optuna", "ray", "dvc", "omegaconf"}


def modules(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module}
    return found


def tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def own(path: Path) -> set[str]:
    """The modules of this project that a file imports, lazily or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in PLACES}


def room(module: str) -> str:
    """What a module is part of: a step, a recipe, an engine, or a folder of tidemill/."""
    pieces = module.split(".")
    if pieces[0] == "flows":
        return "flows"
    return ".".join(pieces[: 3 if pieces[:2] == ["tidemill", "engines"] else 2])


def test_no_two_rooms_need_each_other() -> None:
    needs: dict[str, set[str]] = {}
    for place in PLACES:
        for path in modules(place):
            here = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
            needs.setdefault(here, set()).update({room(name) for name in own(path)} - {here})
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    ("place", "above"),
    [
        ("flows", {"tidemill.cli", "tidemill.servers"}),
        ("tasks", {"flows", "recipes", "tidemill.cli", "tidemill.servers"}),
        ("tidemill", {"flows", "tasks", "recipes", "tidemill.cli", "tidemill.servers"}),
        ("recipes", {"flows", "tasks", "tidemill.cli", "tidemill.servers", "tidemill.engines"}),
    ],
)
def test_imports_go_down_and_never_back(place: str, above: set[str]) -> None:
    for path in modules(place):
        if not path.relative_to(ROOT).as_posix().startswith(OUTER):
            back = {name for name in own(path) if within(name, tuple(above))}
            assert not back, f"{path} imports {', '.join(sorted(back))}"


def test_recipes_know_no_engine() -> None:
    for path in modules("recipes"):
        assert not tops(imported(path)) & {"prefect", "mlflow", "dvc", "optuna", "ray"}, path


@pytest.mark.parametrize("system", sorted(DOORS))
def test_each_system_has_one_door(system: str) -> None:
    for place in PLACES:
        for path in modules(place):
            if not path.relative_to(ROOT).as_posix().startswith(DOORS[system]):
                assert system not in tops(imported(path)), (
                    f"{path} imports {system}; only {' and '.join(DOORS[system])} may"
                )


def test_tasks_holds_step_folders_and_nothing_else() -> None:
    beside = [
        path.name
        for path in (ROOT / "tasks").iterdir()
        if path.name not in ("__init__.py", "__pycache__")
        and not (path.is_dir() and (path / "__init__.py").is_file())
    ]
    assert not beside


def test_what_a_package_says_of_itself_is_short() -> None:
    for place in ("tasks", "tidemill/engines"):
        for path in (ROOT / place).rglob("__init__.py"):
            lines = len(path.read_text().splitlines())
            assert lines <= 60 or path.parent.name == "schema", f"{path} has {lines} lines"


STEPS = ("main.of_data(", "main.of_run(")
OTHERS = {"predict", "serve", "verify"}  # a server, and commands that take a version


def test_every_step_is_started_in_the_same_way() -> None:
    for path in sorted((ROOT / "tasks").glob("*/__main__.py")):
        last = path.read_text().rstrip().splitlines()[-1].strip()
        assert path.parent.name in OTHERS or last.startswith(STEPS), f"{path} ends with {last}"


def test_what_the_flow_imports_is_light() -> None:
    light = [
        *modules("flows"),
        *(ROOT / "tasks").glob("*.py"),
        *(ROOT / "tasks").glob("*/__init__.py"),
        *(ROOT / "recipes").glob("*/recipe.py"),
        *(ROOT / "recipes").glob("*/schema.py"),
        *(ROOT / "recipes").glob("*/session.py"),
    ]
    for path in light:
        assert not tops(imported(path, top_only=True)) & HEAVY, path


def test_importing_the_flow_loads_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from tidemill.runtime import paths; paths.settle(); import flows.retrain;"
        "heavy = ('torch', 'lightning', 'sklearn', 'mlflow');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_conf_recipes_and_the_graph_name_the_same_applications() -> None:
    names = config.files("recipe")
    assert names == contract.names()
    stages = graph.graph()["stages"]
    for step in ("label", "split"):
        assert sorted(stages[step]["foreach"]) == names
    assert sorted(stages["collect"]["foreach"]) == config.files("source")


def test_dvc_yaml_is_what_conf_implies() -> None:
    assert (ROOT / "dvc.yaml").read_text() == graph.graph_text(), (
        "dvc.yaml is stale: python -m tidemill.engines.dvc"
    )


def test_collecting_is_frozen_in_the_graph() -> None:
    assert graph.graph()["stages"]["collect"]["do"]["frozen"] is True


# Applications ---------------------------------------------------------------------------------

# Files in which an application's name is another word, or which are about one application.
OTHER_WORDS = {
    "tidemill/records/tables.py": "a column of documents",
    "tidemill/engines/config/schema/data.py": "the languages of a quality policy",
    "tidemill/cli/new/survey.py": "a setting under label:",
    "tidemill/cli/tour.py": "a demonstration of one application",
    "tasks/clean/read.py": "a column of documents",
    "tasks/datasheet/__main__.py": "how many languages the data are in",
}


def strings(path: Path) -> list[str]:
    """The string constants of a file that are no docstrings."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, documented)]
    docs = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


def test_no_application_is_named_outside_its_own_folder_and_yaml() -> None:
    names = re.compile(rf"(?<![\w.])({'|'.join(config.files('recipe'))})(?![\w ])")
    general = ("making", "serving", "runs", "splits", "trainings")
    shared = [ROOT / "tests" / "conftest.py"]
    shared += [ROOT / "tests" / "support" / f"{name}.py" for name in general]
    for path in [*modules("tidemill"), *modules("tasks"), *modules("flows"), *shared]:
        if path.relative_to(ROOT).as_posix() in OTHER_WORDS:
            continue
        assert [text for text in strings(path) if names.search(text)] == [], path


def test_what_test_files_share_lies_in_support_and_none_imports_another() -> None:
    for path in (*ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")):
        others = [name for name in imported_names(path) if name.startswith("tests.test_")]
        assert others == [], path


def test_no_step_reads_a_field_of_a_recipe_by_getattr() -> None:
    for path in modules("tasks"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
                of = ast.unparse(node.args[0])
                assert "recipe" not in of and "learner" not in of, f"{path}: {ast.unparse(node)}"


def test_no_file_of_a_recipe_imports_another_back() -> None:
    """Imports inside functions, and those for types alone, are counted."""
    for name in config.files("recipe"):
        arrows = {
            f"recipes.{name}.{path.stem}": {
                one for one in imported_names(path) if one.startswith(f"recipes.{name}.")
            }
            for path in (ROOT / "recipes" / name).glob("*.py")
        }
        while arrows:
            leaves = {file for file, others in arrows.items() if not others & set(arrows)}
            assert leaves, f"a circle among {', '.join(sorted(arrows))}"
            arrows = {file: others for file, others in arrows.items() if file not in leaves}


def imported_names(path: Path) -> set[str]:
    """The modules a file imports, `from package import module` included."""
    found = imported(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_contract_stays_small() -> None:
    """At most twelve members in a type; none says of itself what it cannot do."""
    types = [
        item
        for item in vars(contract).values()
        if isinstance(item, type) and item.__module__ == contract.__name__
    ]
    for item in types:
        own = {
            name
            for name in {*vars(item), *getattr(item, "__annotations__", {})}
            if not name.startswith("_") and name not in ("model_config", "model_fields")
        }
        assert len(own) <= 12, f"{item.__name__}: {', '.join(sorted(own))}"
    assert "NotImplementedError" not in Path(contract.__file__).read_text()


def test_recipes_leave_few_types_unsaid() -> None:
    ignores = [
        line
        for path in modules("recipes")
        for line in path.read_text().splitlines()
        if "type: ignore" in line
    ]
    assert len(ignores) <= 5, ignores


def test_a_class_name_stands_for_one_thing() -> None:
    """A recipe's folder reads alone: its Data, Net, Fields, Question and Answer are its own."""
    twice = {
        name: [place for place in places if not within(place, ("recipes",))]
        for name, places in house.twice_named(ROOT).items()
    }
    assert not {name: places for name, places in twice.items() if len(places) > 1}


def test_functions_are_read_without_scrolling() -> None:
    long = [name for name, each in house.functions(ROOT, house.CODE) if house.length(each) > 40]
    assert not long
