"""The one graph that DVC and Prefect both run: dvc.yaml as conf/ implies it."""

import logging
from typing import Any

import yaml

from tidemill.contract import code as application_code
from tidemill.engines import config
from tidemill.engines.dvc.command import FOLDER
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import write

log = logging.getLogger(__name__)

OUTS = {
    "clean": ["documents.parquet", "dropped.parquet", "lineage.parquet", "report.json"],
    "select": ["documents.parquet", "dropped.parquet", "report.json"],
    "label": ["examples.parquet", "dropped.parquet", "issues.parquet", "report.json"],
    "split": ["train.parquet", "valid.parquet", "test.parquet", "dropped.parquet", "report.json"],
}


SHARED = ["tidemill/records/tables.py", "tidemill/text/normal.py"]


def graph() -> dict[str, Any]:
    """dvc.yaml as conf/ implies it: a stage per source and step, one per recipe and step.

    DVC wants `deps` as a list of strings, so a recipe with fewer sources than another fills its
    places with files that its stage depends on anyway.
    """
    sources, recipes = config.files("source"), config.files("recipe")
    uses = {name: [use.name for use in config.recipe(name).sources] for name in recipes}
    places_needed = max((len(names) for names in uses.values()), default=0)
    fill = [
        path.relative_to(paths.root()).as_posix()
        for path in sorted((paths.root() / "tasks/select").glob("*.py"))
    ]
    if places_needed - min(map(len, uses.values()), default=0) > len(fill):
        raise Refused(
            f"a recipe has {places_needed} sources and another {len(fill) + 1} fewer; merge some of its sources"
        )

    def documents(name: str) -> dict[str, str]:
        found = [f"data/clean/{source}/documents.parquet" for source in uses[name]]
        return {
            f"source{number}": path
            for number, path in enumerate([*found, *fill][:places_needed], 1)
        }

    def code(name: str) -> str:
        """Its own code where it lies here; all of recipes/ where it builds on another application, or comes from another package."""
        own = next(
            (
                path
                for path in (f"recipes/{name}", f"recipes/{name}.py")
                if (paths.root() / path).exists()
            ),
            "recipes",
        )
        return own if len(application_code(name)) == 1 else "recipes"

    def stage(
        step: str,
        kind: str,
        deps: list[str],
        wanted: list[str],
        params: dict[str, list[str]] | None = None,
        /,
        **more: Any,
    ) -> dict[str, Any]:
        names = sources if kind == "source" else recipes
        it = "key" if more else "item"  # DVC's names for the member of a mapping and of a list
        return {
            "foreach": {name: {key: of(name) for key, of in more.items()} for name in names}
            if more
            else names,
            "do": {
                "cmd": f"python -m tasks.{step} ${{{it}}}",
                "deps": [dep.replace("KEY", f"${{{it}}}") for dep in deps],
                "params": [{f"conf/{kind}/${{{it}}}.yaml": wanted}, *([params] if params else [])],
                "outs": [f"data/{FOLDER[step]}/${{{it}}}/{out}" for out in OUTS[step]],
            },
        }

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
            "clean": stage(
                "clean",
                "source",
                [
                    *SHARED,
                    "tasks/clean",
                    "tidemill/web/charset.py",
                    "tidemill/web/optout.py",
                    "tidemill/web/robots.py",
                    "tidemill/records/warc.py",
                    "tidemill/kit/pictures.py",
                    "tidemill/kit/sounds.py",
                    "data/raw/KEY",
                ],
                ["licence", "selector", "clean"],
                {"conf/config.yaml": ["optout"]},
            ),
            "select": stage(
                "select",
                "recipe",
                [
                    *SHARED,
                    "tasks/select",
                    "conf/quality",
                    *(f"${{item.from.source{n}}}" for n in range(1, places_needed + 1)),
                ],
                ["sources", "select"],
                **{"from": documents},
            ),
            "label": stage(
                "label",
                "recipe",
                [
                    "tidemill/records/tables.py",
                    "tasks/label",
                    "tidemill/contract.py",
                    "tidemill/families",
                    "tidemill/kit",
                    "${item.code}",
                    "data/people",
                    "data/select/KEY/documents.parquet",
                ],
                ["label"],
                code=code,
            ),
            "split": stage(
                "split",
                "recipe",
                [
                    *SHARED,
                    "tasks/split",
                    "tidemill/text/lsh.py",
                    "tidemill/text/shingles.py",
                    "tidemill/text/duplicates.py",
                    "data/labels/KEY/examples.parquet",
                ],
                ["split", "score"],
            ),
        }
    }


def graph_text() -> str:
    head = "# Made from conf/ by `python -m tidemill.engines.dvc`; a test says when it is stale. Do not edit.\n"
    return head + yaml.safe_dump(graph(), sort_keys=False, width=120)


def refresh() -> bool:
    """Write dvc.yaml where conf/ changed since; True where it did."""
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
