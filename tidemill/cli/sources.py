"""tidemill sources: how each source's last night went, and what a site allows of an address."""

from typing import Annotated

import typer

from tidemill.cli.arguments import Json, add_row, out
from tidemill.runtime.escape import terminal

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
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    shown = {
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
    for name, title in shown.items():
        table.add_column(
            title,
            overflow="fold",
            no_wrap=name != "why",
            justify="right"
            if name in ("pages", "fetched", "failed", "refused", "gone")
            else "left",
        )
    for row in rows:
        night = (row["night"] or "never")[:16].replace("T", " ")
        add_row(
            table,
            *(
                "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
                for value in ({**row, "night": night}[name] for name in shown)
            ),
        )
    Console().print(table)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A file of conf/source.")],
    url: Annotated[str, typer.Argument(help="The address of a page.")],
    as_json: Json = False,
) -> None:
    """What robots.txt and every opt-out signal allow of an address, and why. Asks the site; stores nothing."""
    from tasks.collect.check import check as ask

    told = ask(name, url)
    if as_json:
        out(told)
        return
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    console.print(f"[bold]{told['decision']}[/]: {terminal(told['because'])}", soft_wrap=True)
    console.print(f"  [dim]robots.txt[/] {terminal(told['robots'])}")
    console.print(
        f"  [dim]its files [/] {terminal(', '.join(f'{file} {status}' for file, status in told['files'].items())) or 'none'}",
        soft_wrap=True,
    )
    for signal in told["signals"]:
        console.print(
            f"  [dim]{terminal(signal['signal'])}[/] ({terminal(signal['where'])}): {terminal(signal['value'])}, which says {terminal(signal['says'])}",
            soft_wrap=True,
        )
