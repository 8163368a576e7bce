"""tidemill new: an application of a person's own, like one there is."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli.arguments import Json, out

if TYPE_CHECKING:
    from tidemill.cli.new.make import NewApplication


def new(
    name: Annotated[
        str,
        typer.Argument(
            help="Of the new application and its source: small letters, digits, underscores."
        ),
    ],
    like: Annotated[
        str, typer.Option(help="The application it is like: one of recipes/, or one of your own.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="A folder with a folder for each class, a folder of texts, or a CSV with a head."
        ),
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Which column is meant, where its name does not say "
            "so: text=Body, label=Topic, group=Ticker.",
            metavar="KEY=COLUMN",
        ),
    ] = None,
    summary: Annotated[
        str, typer.Option(help="What it does, in a sentence; without it, one is made of the data.")
    ] = "",
    as_json: Json = False,
) -> None:
    """A new application from your own folder or table.

    Made are its module, its YAML, its source and its place in the graph.
    """
    from tidemill.cli.new.make import make

    made = make(name, like, data, columns_by_key(column or []), " ".join(summary.split()))
    if as_json:
        out(asdict(made))
    else:
        tell(made)


def columns_by_key(items: list[str]) -> dict[str, str]:
    """What KEY=COLUMN says, for each item. Refused where one says nothing."""
    from tidemill.runtime.errors import Refused

    columns = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not value:
            raise Refused(f"--column {item}: not KEY=COLUMN, as in label=Topic")
        columns[key] = value
    return columns


def tell(new: "NewApplication") -> None:
    """What was made, in words."""
    typer.echo(f"{new.application}, like {new.like}: {new.found}")
    words = {
        "module": "what differs from its like, and the model card's facts",
        "recipe": "split, model, sweep and gates",
        "source": "where the data is and how it is read",
    }
    for key, path in new.made.items():
        typer.echo(f"  {path:36} {words[key]}")
    typer.echo(f"  {new.graph:36} its place in the graph")
    for note in new.notes:
        typer.echo(f"note: {note}")
    first, then = new.next
    typer.echo(f"next: {first}    to the verdict, nothing is registered\n      {then}")
