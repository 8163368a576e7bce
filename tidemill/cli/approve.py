"""tidemill approve: a held version live, on a person's word."""

from typing import Annotated

import typer

from tidemill.cli.arguments import Application, Json
from tidemill.cli.deciding import known, person, show


def approve(
    application: Application,
    why: Annotated[str, typer.Option(help="Kept in the ledger.")],
    version: Annotated[
        str, typer.Option(help="A version's number; by default the one that waits.")
    ] = "",
    replacing: Annotated[
        str,
        typer.Option(
            help="The version that is live and is replaced, or none; by default the champion that "
            "the version was judged beside. Another that went live since is not replaced unawares.",
            metavar="N",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """A held version goes live, on a person's word."""
    from tasks.register.promote import compared_with, promote, waiting

    known(application)
    number = waiting(application, version)
    expected = compared_with(application, number, replacing)
    show(promote(application, number, person(), why, expected), as_json)
