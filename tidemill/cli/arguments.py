"""What the commands share: --json, an application's name, and a result printed as JSON."""

import json
import re
from typing import Annotated, Any

import typer

from tidemill.runtime.escape import line

UNESCAPED = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def names(incomplete: str) -> list[str]:
    from tidemill.engines.config import files

    return [name for name in files("recipe") if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
Application = Annotated[str, typer.Argument(help="A file of conf/recipe.", autocompletion=names)]


def out(value: Any) -> None:
    """Print JSON; control characters that JSON leaves as they are (DEL, C1) are escaped too."""
    text = json.dumps(value, indent=1, ensure_ascii=False, default=str)
    typer.echo(UNESCAPED.sub(lambda match: f"\\u{ord(match.group()):04x}", text))


def add_row(table: Any, *cells: Any) -> None:
    """A row of a table of rich's; a string is shown as it is, whatever markup it holds."""
    from rich.text import Text

    table.add_row(*(Text(line(cell)) if isinstance(cell, str) else cell for cell in cells))
