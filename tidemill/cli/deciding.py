"""What a person's decisions share: which application is meant, who decides, and what was moved."""

import os
from typing import TYPE_CHECKING

import typer

from tidemill.cli.arguments import out

if TYPE_CHECKING:
    from tidemill.records.receipts import Promoted


def known(application: str) -> None:
    """Refuse what is neither a recipe nor, its recipe gone, an application with versions."""
    from tidemill import contract
    from tidemill.engines.mlflow import client, registry
    from tidemill.runtime.errors import Refused

    names = set(contract.names())
    if application in names:
        return
    if not client.unborn():
        names |= set(registry.applications())
    if application not in names:
        raise Refused(f"no application '{application}'; there are {', '.join(sorted(names))}")


def person() -> str:
    """Who decides: TIDEMILL_USER, else the login's name."""
    import getpass

    return os.environ.get("TIDEMILL_USER") or getpass.getuser()


def show(promoted: "Promoted", as_json: bool) -> None:
    """Print what was moved, or that nothing was."""
    if as_json:
        out(promoted.model_dump())
        return
    words = f"{promoted.name}: version {promoted.version} is @champion"
    if not promoted.moved:
        typer.echo(f"{words} already; nothing was moved")
        return
    typer.echo(f"{words}, before it was {promoted.previous or 'none'}")
