"""tidemill power: how small a change each gate can see, from today's test rows."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli.arguments import Json, out


def power(
    application: Annotated[str, typer.Argument(help="A file of conf/recipe.")],
    disagree: Annotated[
        float,
        typer.Option(
            help="The share of rows that one of two models alone answers right; equal models of "
            "one recipe have .01 to .1.",
            min=0.001,
            max=1.0,
        ),
    ] = 0.05,
    figure: Annotated[
        Path | None, typer.Option(help="Draw power over rows and margin into this PNG.")
    ] = None,
    as_json: Json = False,
) -> None:
    """How small a change each gate can see on today's test rows and slices; nothing is trained."""
    import json

    import pandas as pd

    from tasks.judge.power import draw, sights
    from tidemill import contract
    from tidemill.engines import config
    from tidemill.runtime import paths
    from tidemill.runtime.errors import Refused

    settings = config.recipe(application)
    test = paths.data("splits", application) / "test.parquet"
    if not test.is_file():
        raise Refused(
            f"data/splits/{application} has no test rows; run: dvc repro split@{application}"
        )
    examples = pd.read_parquet(test, columns=["unit", "slices"])
    columns = [json.loads(item) for item in examples["slices"]]
    slices = {name: [str(item.get(name, "")) for item in columns] for name in settings.score.slices}
    rows = pd.DataFrame({"unit": examples["unit"].to_numpy(), **slices})
    metrics = contract.application(application).metrics
    seen = sights(rows, settings.gates, settings.score, metrics, disagree)
    if figure is not None:
        draw(figure, disagree, settings.score.alpha, len(rows))
    if as_json:
        out([asdict(item) for item in seen])
        return
    for item in seen:
        bound = "" if item.margin is None else f", margin or bound {item.margin:g}"
        sees = "" if item.smallest is None else f" sees {item.smallest:.4f}"
        typer.echo(
            f"{item.gate} ({item.slice}; {item.rows} rows, {item.units:g} units{bound}):"
            f"{sees} {item.words}"
        )
