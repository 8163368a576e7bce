"""What the commands have in common: --json, an application's name, and how a result is printed as JSON."""

import json
from typing import Annotated, Any

import typer


def names(incomplete: str) -> list[str]:
    from tidemill.engines.config import files

    return [name for name in files("recipe") if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
Application = Annotated[str, typer.Argument(help="A file of conf/recipe.", autocompletion=names)]


def out(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))
