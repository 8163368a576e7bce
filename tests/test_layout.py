"""The rules of the house, held by reading the imports."""

import ast
from pathlib import Path

import pytest

from tidemill import contract
from tidemill.engines import config
from tidemill.engines.dvc import graph

ROOT = Path(__file__).resolve().parent.parent
DOORS = {
    "mlflow": "tidemill/engines/mlflow/",
    "dvc": "tidemill/engines/dvc/",
    "optuna": "tidemill/engines/optuna/",
    "ray": "tidemill/engines/ray/",
}
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


def test_imports_go_from_flows_to_tasks_to_recipes_and_never_back() -> None:
    for path in modules("tasks"):
        assert "flows" not in tops(imported(path)), path
    for path in modules("recipes"):
        assert not tops(imported(path)) & {
            "flows",
            "tasks",
            "prefect",
            "mlflow",
            "dvc",
            "optuna",
            "ray",
        }, path


@pytest.mark.parametrize("system", sorted(DOORS))
def test_each_system_has_one_door(system: str) -> None:
    for folder in ("flows", "tasks", "recipes"):
        for path in modules(folder):
            if not path.relative_to(ROOT).as_posix().startswith(DOORS[system]):
                assert system not in tops(imported(path)), (
                    f"{path} opens {system}; its door is {DOORS[system]}"
                )


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

    code = "import sys; from tidemill.runtime import paths; paths.settle(); import flows.retrain; print([n for n in ('torch', 'lightning', 'sklearn', 'mlflow') if n in sys.modules])"
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
