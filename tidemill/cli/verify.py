"""tidemill verify: a version trained again from its pinned data, code and seed, and compared."""

from typing import Annotated

import typer

from tidemill.cli.arguments import Json, out
from tidemill.runtime.escape import line


def verify(
    application: Annotated[
        str,
        typer.Argument(
            help="An application, or one version of it: NAME, NAME@3.",
            metavar="APPLICATION[@N]",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Train a version again from its pinned data, code and seed, and compare.

    Exit 1 where it comes out different.
    """

    from tidemill.records.receipts import Verified
    from tidemill.runtime.errors import Fault
    from tidemill.runtime.process import answer

    name, _, number = application.partition("@")
    found = answer(f"verify {name}", "tasks.verify", [name, number], Verified)
    if as_json:
        out(found.model_dump())
    if found.verdict == "different":
        raise Fault(f"{name} version {found.version}: {found.because}")
    if not as_json:
        typer.echo(f"{name} version {found.version} is {found.verdict}: {line(found.because)}")
