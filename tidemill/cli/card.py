"""tidemill card: the model card of a version."""

from typing import Annotated

import typer

from tidemill.cli.arguments import Json, out
from tidemill.cli.deciding import known


def card(
    application: Annotated[
        str,
        typer.Argument(
            help="An application, or one version of it: NAME, NAME@3.",
            metavar="APPLICATION[@N]",
        ),
    ],
    as_json: Json = False,
) -> None:
    """The model card, made anew from what the registry keeps."""
    from tasks.register.card import read, render

    name, _, number = application.partition("@")
    known(name)
    kept = read(name, number)
    out(kept.model_dump(mode="json")) if as_json else typer.echo(render(kept), nl=False)
