"""tidemill adopt: weights that were trained elsewhere, judged as a candidate of our own."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli.arguments import Json, names
from tidemill.cli.run import Ask, DryRun, Overrides, retrained


def adopt(
    application: Annotated[
        str, typer.Argument(help="A file of conf/recipe.", autocompletion=names)
    ],
    folder: Annotated[
        str,
        typer.Argument(
            help="A folder that `save_pretrained` wrote, with its tokenizer, or "
            "hf:ORG/NAME@REVISION.",
        ),
    ],
    overrides: Overrides = None,
    dry_run: DryRun = False,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """Weights that were trained elsewhere, through the gates as they are.

    Nothing is trained. They are exported, scored on the test rows of today's snapshot, judged
    and, if the gates say so, promoted; `trainer.start=champion` goes on from them the next night.
    """
    kept_as_they_are(application)
    given = [
        *begun(application, named(folder), list(overrides or [])),
        "trainer.start=scratch",
        "trainer.max_epochs=0",
        "sweep.trials=0",
        *(overrides or []),
    ]
    retrained(application, given, dry_run, ask, as_json, f"weights of {folder} adopted")


def kept_as_they_are(application: str) -> None:
    """Refuse an application whose models are not folders that others write."""
    from tidemill import contract
    from tidemill.engines import config
    from tidemill.runtime.errors import Refused

    config.recipe(application)  # refuses an unknown one by name
    able = [
        name
        for name in config.files("recipe")
        if name in contract.names()
        and issubclass(contract.load(name), contract.WarmStartableByFields)
    ]
    if application not in able:
        raise Refused(
            f"{application} cannot take weights that were trained elsewhere as they are; "
            f"{', '.join(able) or 'no application'} can"
        )


def begun(application: str, folder: str, overrides: list[str]) -> list[str]:
    """Overrides of the model's fields by which it is the folder's, its size included."""
    from tidemill import contract
    from tidemill.engines import config

    kind = contract.load(application)
    before = kind(**config.recipe(application, overrides).model)
    assert isinstance(before, contract.WarmStartableByFields)
    after = before.warmed(Path(folder)).model_dump()
    old = before.model_dump()
    return [
        f"model.{name}={json.dumps(value)}" for name, value in after.items() if value != old[name]
    ]


def named(folder: str) -> str:
    """The folder as configuration names it: within the project relative to it, else absolute."""
    from tidemill.kit import as_data
    from tidemill.runtime import paths
    from tidemill.runtime.errors import Refused

    if folder.startswith(as_data.HUB):
        return folder
    path = Path(folder).resolve()
    if why := as_data.no_model(str(path)):
        raise Refused(why)
    root = paths.root()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
