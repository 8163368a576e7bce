"""tidemill data restore: a snapshot's splits, brought back by name."""

from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli.arguments import Json, out


def restore(
    name: Annotated[
        str, typer.Argument(help="RECIPE-DIGEST16, or a tag such as data/NAME/2026-11-23.")
    ],
    folder: Annotated[Path, typer.Argument(help="An empty or a new folder.")],
    remote: Annotated[
        str, typer.Option(help="A DVC remote's folder or URL; without it, this project's own.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Bring a snapshot's splits back from the DVC remote by its name alone, byte for byte."""
    from tidemill.engines.dvc.snapshots import restore as bring

    body = bring(name, folder, remote or None)
    told = {
        "recipe": body["recipe"],
        "digest": body["digest"],
        "rows": body["rows"],
        "folder": str(folder),
    }
    out(told) if as_json else typer.echo(
        f"{body['recipe']} {body['digest'][:16]} is in {folder}: "
        f"{', '.join(f'{n} {part}' for part, n in body['rows'].items())}"
    )
