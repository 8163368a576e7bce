"""The rules of the house, held by reading the imports."""

import ast
import graphlib
from pathlib import Path

import pytest

from tidemill import contract
from tidemill.engines import config
from tidemill.engines.dvc import graph
from tidemill.runtime.imports import within

ROOT = Path(__file__).resolve().parent.parent
DOORS = {
    "omegaconf": ("tidemill/engines/config/",),
    "mlflow": ("tidemill/engines/mlflow/",),
    "dvc": ("tidemill/engines/dvc/",),
    "optuna": ("tidemill/engines/optuna/",),
    "ray": ("tidemill/engines/ray/",),
    "prefect": ("tidemill/engines/prefect/", "tidemill/servers/prefect_server.py", "flows/"),
}
PLACES = ("flows", "tasks", "recipes", "tidemill")
OUTER = ("tidemill/cli/", "tidemill/servers/")  # which stand above the flows
HEAVY = {"torch", "lightning", "sklearn", "mlflow", "optuna", "ray", "dvc"}


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
OTHERS = {"serve", "verify"}  # a server, and a command that takes a version


def test_every_step_is_started_in_the_same_way() -> None:
    for path in sorted((ROOT / "tasks").glob("*/__main__.py")):
        last = path.read_text().rstrip().splitlines()[-1].strip()
        assert path.parent.name in OTHERS or last.startswith(STEPS), f"{path} ends with {last}"


def test_what_the_flow_imports_is_light() -> None:
    light = [
        *modules("flows"),
        *(ROOT / "tasks").glob("*.py"),
        *(ROOT / "tasks").glob("*/__init__.py"),
        *(ROOT / "recipes").glob("*/__init__.py"),
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
