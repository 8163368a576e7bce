"""tidemill serve: HTTP answers from the champions."""

import json
import logging
from typing import Annotated

import typer

Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print the address as JSON once it answers, and the log to stderr."
    ),
]


def serve(
    applications: Annotated[
        list[str] | None,
        typer.Argument(help="Files of conf/recipe.", metavar="[APPLICATION]..."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every application that has a champion, now or later.")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(help="Elsewhere than 127.0.0.1 only with tokens in TIDEMILL_TOKENS."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="0: any that is free.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that answer.")] = None,
    as_json: Json = False,
) -> None:
    """HTTP answers from @champion, and a page to try each application; Ctrl-C stops it."""
    from tasks.serve.__main__ import chosen, serve, settled
    from tidemill.runtime.errors import Fault
    from tidemill.runtime.escape import one_line_logs

    names = chosen(list(applications or []), every)
    settings = settled(host, port, workers)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    one_line_logs()

    def told(where: str) -> None:
        typer.echo(
            json.dumps({"address": where, "applications": list(names) or "all"})
            if as_json
            else f"{where}    page, /v1, /openapi.json, /health, /ready, /metrics; Ctrl-C stops it"
        )

    if serve(names, settings, told):
        raise Fault("the server could not start; the lines above say why")
