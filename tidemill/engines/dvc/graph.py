"""The one graph that DVC and Prefect both run: dvc.yaml as conf/ and the code imply it."""

import logging
from pathlib import Path
from typing import Any

import yaml

from tidemill.engines import config
from tidemill.records.outputs import OUTPUTS
from tidemill.runtime import imports, paths
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import write

log = logging.getLogger(__name__)

TRAINING = ("torch", "lightning")
"""A recipe's modules that load these are of its training: no label depends on them."""

Stage = dict[str, Any]


def graph() -> dict[str, object]:
    """dvc.yaml as conf/ and the code imply it: a stage per source or recipe and step.

    Code dependencies are the closure of a step's imports (`tidemill.runtime.imports`).
    """
    sources, recipes = config.files("source"), config.files("recipe")
    return {
        "stages": {
            "collect": {
                "foreach": sources,
                "do": {
                    "cmd": "python -m tasks.collect ${item}",
                    "frozen": True,
                    "outs": [{"data/raw/${item}": {"persist": True}}],
                },
            },
            "clean": _stage(
                "clean",
                ["data/raw/${item}"],
                [
                    {"conf/source/${item}.yaml": ["kind", "licence", "selector", "clean"]},
                    {"conf/config.yaml": ["optout", "collect.user_agent"]},
                ],
                sources,
            ),
            **_recipe_stages(recipes),
        }
    }


def _recipe_stages(recipes: list[str]) -> dict[str, Stage]:
    """The steps that each recipe has of its own."""
    uses = {
        name: [f"data/clean/{source}/documents.parquet" for source in config.sources(name)]
        for name in recipes
    }
    common = {*code("label")}
    own = {
        name: [
            *(file for file in imports.names(labelling(name)) if file not in common),
            *(f"data/blobs/{source}" for source in config.sources(name)),
        ]
        for name in recipes
    }
    return {
        "select": _with_own(
            "select", ["conf/quality"], [{_recipe: ["sources", "select"]}], "source", uses
        ),
        "label": _with_own(
            "label",
            ["data/people", "data/select/${key}/documents.parquet"],
            [{_recipe: ["label"]}],
            "own",
            own,
        ),
        "split": _with_own(
            "split",
            ["data/carried", "data/labels/${key}/examples.parquet"],
            [{_recipe: ["split", "score"]}],
            "own",
            own,
        ),
    }


def code(step: str) -> list[str]:
    """The code that a data step needs, without the recipes'."""
    return imports.names(imports.closure([f"tasks.{step}.__main__"]))


def labelling(recipe: str) -> list[Path]:
    """What labelling needs of a recipe: its closure, without what loads a network library.

    Files of its folder that are no modules count too. `unlisted` finds labelling that needs more.
    """
    beside = [path for path in imports.files_of(f"recipes.{recipe}") if path.suffix != ".py"]
    modules = imports.closure(_modules(recipe), without=_trains)
    return sorted({*modules, *beside})


def unlisted(recipe: str, loaded: set[str]) -> list[str]:
    """Which of these loaded modules a recipe's labels need although `labelling` leaves them out."""
    left_out = {*imports.closure(_modules(recipe))} - {*labelling(recipe)}
    return sorted(loaded & {imports.module(path) for path in left_out})


def _modules(recipe: str) -> list[str]:
    """Where an application's own code begins: in its folder's recipe.py, or in one module."""
    return [f"recipes.{recipe}", f"recipes.{recipe}.recipe"]


def _trains(path: Path) -> bool:
    return imports.loads(path, TRAINING)


_recipe = "conf/recipe/${key}.yaml"  # of a mapping; the members of a list are `item`


def _stage(
    step: str, deps: list[str], params: list[Stage], members: list[str] | dict[str, Stage]
) -> Stage:
    """One step of all sources or recipes."""
    member = "${key}" if isinstance(members, dict) else "${item}"
    outputs = OUTPUTS[step]
    outs: list[str | Stage] = [f"data/{outputs.folder}/{member}/{file}" for file in outputs.files]
    # The step itself removes what is stale of such a folder, and leaves the rest as it lies.
    outs += [{f"data/{folder}/{member}": {"persist": True}} for folder in outputs.folders]
    return {
        "foreach": members,
        "do": {
            "cmd": f"python -m tasks.{step} {member}",
            "deps": [*code(step), *deps],
            "params": params,
            "outs": outs,
        },
    }


def _with_own(
    step: str, deps: list[str], params: list[Stage], kind: str, own: dict[str, list[str]]
) -> Stage:
    """A step whose members have dependencies of their own, `own`.

    DVC wants as many of each member, so a shorter list is filled up with a file that all depend on.
    """
    places = range(max((len(files) for files in own.values()), default=0))
    fill = code(step)[0]
    members = {
        name: {f"{kind}{at + 1}": files[at] if at < len(files) else fill for at in places}
        for name, files in own.items()
    }
    return _stage(step, [*deps, *(f"${{item.{kind}{at + 1}}}" for at in places)], params, members)


def graph_text() -> str:
    head = (
        "# Made from conf/ and the code's imports by `python -m tidemill.engines.dvc`;"
        " a test says when it is stale. Do not edit.\n"
    )
    return head + yaml.safe_dump(graph(), sort_keys=False, width=120)


def refresh() -> bool:
    """Write dvc.yaml where conf/ or the imports changed since; True where they did."""
    path = paths.root() / "dvc.yaml"
    try:
        text = graph_text()
    except Refused as error:
        if not path.is_file():
            raise
        # Whoever runs has a configuration that holds; another's that does not must not stop it.
        log.warning("dvc.yaml stays as it was: %s", error)
        return False
    if path.is_file() and path.read_text() == text:
        return False
    write(path, text)
    return True
