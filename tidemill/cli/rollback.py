"""tidemill rollback: an earlier version live again."""

from typing import Annotated

import typer

from tidemill.cli.arguments import Application, Json
from tidemill.cli.deciding import known, person, show


def rollback(
    application: Application,
    to: Annotated[
        str, typer.Option(help="A version's number; by default the champion before this one.")
    ] = "",
    why: Annotated[
        str, typer.Option(help="Kept in the ledger.")
    ] = "rolled back from the command line",
    as_json: Json = False,
) -> None:
    """The previous champion again; a second rollback goes further back.

    Where the ledger and the registry's alias differ, --to says which version is live.
    """
    from tasks.register.promote import before, promote
    from tidemill.engines.mlflow.live import live

    known(application)
    expected = live(application).version
    target = before(application, to)
    show(promote(application, target, person(), why, expected), as_json)
