"""The applications: what each one is, and nothing of how a run is orchestrated."""

import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from recipes.base import Recipe

GROUP = "tidemill.recipes"
TOOLS = {
    "__init__",
    "base",
    "calibration",
    "metrics",
    "perturb",
    "pictures",
    "sounds",
    "steps",
}  # what several applications use; none itself


def _own() -> list[str]:
    folder = Path(__file__).parent
    return sorted(
        path.stem if path.suffix == ".py" else path.name
        for path in folder.iterdir()
        if path.stem not in TOOLS and (path.suffix == ".py" or (path / "__init__.py").is_file())
    )


def _others() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUP)}


def names() -> list[str]:
    """The applications there are: the modules beside this file, and those of installed packages."""
    return sorted({*_own(), *_others()})


def packaged(name: str) -> bool:
    """Whether an application's module comes with an installed package and not from beside this file."""
    return name in _others() and name not in _own()


def load(name: str) -> type[Recipe]:
    """An application's class by its name: a name, never an import path. KeyError where there is none."""
    if name in _own():
        module = import_module(f"recipes.{name}")
    elif name in _others():
        module = import_module(_others()[name].partition(":")[0])
    else:
        raise KeyError(name)
    found = [
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Recipe)
        and item.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"recipes.{name} must define exactly one Recipe, it has {len(found)}")
    return found[0]


def code(name: str) -> list[Path]:
    """Where an application's code lies, its own first: folders of packages and single modules, those it builds on included."""
    found = []
    for kind in load(name).__mro__:
        module = sys.modules.get(kind.__module__)
        if issubclass(kind, Recipe) and kind is not Recipe and module and module.__file__:
            alone = module.__package__ in (
                "",
                __name__,
            )  # recipes/NAME.py, or a module of no package
            found.append(Path(module.__file__) if alone else Path(module.__file__).parent)
    return list(dict.fromkeys(found))
