"""tidemill status: what is live, and how the last runs ended."""

from typing import Any

from tidemill.cli.arguments import Json, out


def status(as_json: Json = False) -> None:
    """What is live, since when and why; how the last runs ended."""
    from tidemill.engines import config
    from tidemill.engines.mlflow import ledger, registry, runs

    names = registry.applications()
    live = []
    for name in names:
        entries = ledger.ledger(name)
        last = entries[-1] if entries else {}
        live.append(
            {
                "application": name,
                "champion": registry.aliased(name),
                "since": last.get("at"),
                "by": last.get("by"),
                "why": last.get("why"),
                "challenger": registry.aliased(name, "challenger"),
            }
        )
    recent = runs.recent(names or config.files("recipe"))
    if as_json:
        out({"live": live, "runs": recent})
        return
    from rich.console import Console

    console = Console()
    if not live:
        console.print("Nothing is live yet. Start with: [bold]tidemill run[/]")
    for title, rows, columns in (
        ("live", live, ("application", "champion", "challenger", "since", "by", "why")),
        ("last runs", recent, ("application", "state", "at", "run_id", "because")),
    ):
        if rows:
            console.print(table(title, rows, columns))


def table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Any:
    """Short columns whole, and the last one, which is prose, wrapped beside them."""
    from rich.table import Table

    found = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for column in columns:
        found.add_column(column.removesuffix("_id"), no_wrap=column != columns[-1])
    for row in rows:
        found.add_row(*(_short(column, row.get(column)) for column in columns))
    return found


def _short(column: str, value: Any) -> str:
    """A time to the minute, in UTC as it is kept, and of a run's id what tells it apart; --json has them whole."""
    words = "" if value is None else str(value)
    if column in ("since", "at"):
        return words[:16].replace("T", " ")
    return words[:8] if column == "run_id" else words
