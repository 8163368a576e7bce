"""tidemill power: how small a change each gate can see, from today's test rows."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli.arguments import Json, out

if TYPE_CHECKING:
    from tasks.judge.power import Sight


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
    tries: Annotated[
        float | None,
        typer.Option(
            help="How many candidates are asked these rows for one promotion; by default, one "
            "more than the registry says were asked since the champion went live.",
            min=1,
        ),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw power over rows and margin into this PNG.")
    ] = None,
    as_json: Json = False,
) -> None:
    """How small a change each gate can see on today's test rows and slices; nothing is trained."""
    level, seen, rows, reused = _seen(application, disagree, tries)
    if figure is not None:
        from tasks.judge.power import draw

        draw(figure, disagree, level, rows)
    if as_json:
        out([asdict(item) for item in seen])
    else:
        _show(seen, f"candidate {reused:.3g} that is asked these {rows} test rows", level)


def _seen(
    application: str, disagree: float, tries: float | None
) -> "tuple[float, list[Sight], int, float]":
    """The level of a pass, what each gate sees at it, from how many rows, and the candidate."""
    from tasks.judge.power import sights
    from tasks.judge.reuse import pass_level
    from tidemill import contract
    from tidemill.engines import config

    settings = config.recipe(application)
    rows = _test_rows(application, settings.score.slices)
    metrics = contract.application(application).metrics
    reused = _tries(application, rows["example_id"]) if tries is None else tries
    level = pass_level(settings.score.alpha, reused)
    seen = sights(rows, settings.gates, settings.score, metrics, disagree, reused)
    return level, seen, len(rows), reused


def _show(seen: "list[Sight]", candidate: str, level: float) -> None:
    typer.echo(f"{candidate} for one promotion: a pass needs a p-value of {level:.2g}")
    for item in seen:
        bound = "" if item.margin is None else f", margin or bound {item.margin:g}"
        sees = "" if item.smallest is None else f" sees {item.smallest:.4f}"
        typer.echo(
            f"{item.gate} ({item.slice}; {item.rows} rows, {item.units:g} units{bound}):"
            f"{sees} {item.words}"
        )


def _tries(application: str, rows: Iterable[str]) -> float:
    from tidemill.engines.mlflow import reuse

    return reuse.known(application, rows).tries


def _test_rows(application: str, slices: Iterable[str]) -> Any:
    """The id, the unit and the named slices of each of today's test rows, as a pandas frame."""
    import json

    import pandas as pd

    from tidemill.runtime import paths
    from tidemill.runtime.errors import Refused

    test = paths.data("splits", application) / "test.parquet"
    if not test.is_file():
        raise Refused(
            f"data/splits/{application} has no test rows; run: dvc repro split@{application}"
        )
    examples = pd.read_parquet(test, columns=["example_id", "unit", "slices"])
    columns = [json.loads(item) for item in examples["slices"]]
    values = {name: [str(item.get(name, "")) for item in columns] for name in slices}
    known = {name: examples[name].to_numpy() for name in ("example_id", "unit")}
    return pd.DataFrame({**known, **values})
