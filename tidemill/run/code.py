"""The code that a run depends on: what its key counts, and what lies beside that."""

from importlib.metadata import version
from pathlib import Path

from tidemill import contract
from tidemill.runtime import imports
from tidemill.runtime.files import sha256

STEPS = ("sweep", "train", "export", "score", "judge", "register")
PACKAGES = (
    "torch",
    "lightning",
    "onnxruntime",
    "onnx",
    "scikit-learn",
    "pandas",
    "numpy",
    "optuna",
    "mlflow",
    "prefect",
    "dvc",
)


def of_key(application: str) -> list[Path]:
    """The recipe's folders, its learner, and what they import: what a run's key counts."""
    own = [file for path in contract.code(application) for file in imports.files_at(path)]
    modules = [path for path in own if path.suffix == ".py"]
    return sorted({*own, *imports.closure([], files=modules), *_learner()})


def beside(application: str) -> dict[str, str]:
    """All other code that a run's steps need, by file, and the libraries: what may drift."""
    counted = {*of_key(application)}
    steps = imports.closure([f"tasks.{step}.__main__" for step in STEPS], ends=())
    files = {
        name: sha256(path)[:16]
        for path, name in zip(steps, imports.names(steps), strict=True)
        if path not in counted
    }
    return {**files, **{name: version(name) for name in PACKAGES}}


def _learner() -> list[Path]:
    """Of what training imports, that which fits a model."""
    folder = imports.home() / "tidemill" / "learners"
    fitting = [path for path in imports.closure(["tasks.train.__main__"]) if folder in path.parents]
    return imports.closure([], files=fitting)
