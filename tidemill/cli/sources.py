"""tidemill sources: how each source's last night went, and what a site allows of an address."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tidemill.cli.arguments import Json, add_row, out
from tidemill.runtime.escape import terminal

if TYPE_CHECKING:
    from tasks.collect.check import SourceNight

app = typer.Typer(
    help="Where data comes from: the last night of each source, and what a site allows."
)


@app.callback(invoke_without_command=True)
def listing(context: typer.Context, as_json: Json = False) -> None:
    """Each source with its last night, pages, errors and refusals."""
    if context.invoked_subcommand:
        return
    from tasks.collect.check import nights

    rows = nights()
    if as_json:
        out(rows)
        return
    _print(rows)


COLUMNS = {
    "source": "source",
    "kind": "kind",
    "night": "last night",
    "pages": "pages",
    "fetched": "new",
    "failed": "errors",
    "refused": "refused",
    "gone": "gone",
    "why": "why",
}
NUMBERS = ("pages", "fetched", "failed", "refused", "gone")


def _print(rows: "list[SourceNight]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, title in COLUMNS.items():
        side: Literal["left", "right"] = "right" if name in NUMBERS else "left"
        table.add_column(title, overflow="fold", no_wrap=name != "why", justify=side)
    for row in rows:
        night = (row["night"] or "never")[:16].replace("T", " ")
        cells: Mapping[str, object] = {**row, "night": night}
        add_row(table, *(_cell(cells[name]) for name in COLUMNS))
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A file of conf/source.")],
    url: Annotated[str, typer.Argument(help="The address of a page.")],
    as_json: Json = False,
) -> None:
    """What robots.txt and every opt-out signal allow of an address, and why.

    Asks the site; stores nothing.
    """
    from tasks.collect.check import check as ask

    answer = ask(name, url)
    if as_json:
        out(answer)
        return
    from rich.console import Console

    files = ", ".join(f"{file} {status}" for file, status in answer["files"].items())
    console = Console(highlight=False, emoji=False)
    console.print(f"[bold]{answer['decision']}[/]: {terminal(answer['because'])}", soft_wrap=True)
    console.print(f"  [dim]robots.txt[/] {terminal(answer['robots'])}")
    console.print(
        f"  [dim]its files [/] {terminal(files) or 'none'}",
        soft_wrap=True,
    )
    for signal in answer["signals"]:
        console.print(
            f"  [dim]{terminal(signal['signal'])}[/] ({terminal(signal['where'])}): "
            f"{terminal(signal['value'])}, which says {terminal(signal['says'])}",
            soft_wrap=True,
        )
